"""Every bad input is refused clearly, for the right reason; its near neighbours are not."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from etude.errors import EtudeError

_spec = importlib.util.spec_from_file_location(
    "bad_inputs", Path(__file__).with_name("bad_inputs.py")
)
bad_inputs = importlib.util.module_from_spec(_spec)
sys.modules["bad_inputs"] = bad_inputs
_spec.loader.exec_module(bad_inputs)


def test_there_are_many():
    assert len(bad_inputs.CASES) >= 70


@pytest.mark.parametrize("name", bad_inputs.CASES)
def test_refused(name):
    with pytest.raises(EtudeError) as caught:
        bad_inputs.CASES[name]()
    error = caught.value
    assert bad_inputs.SAYS[name] in str(error)
    assert all(part.strip() for part in (error.required, error.received, error.advice))


@pytest.mark.parametrize("name", bad_inputs.GOOD)
def test_accepted(name):
    assert bad_inputs.GOOD[name]().task is not None
