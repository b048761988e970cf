"""Every example runs, as a reader would run it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples"
EXAMPLES = sorted(path.name for path in FOLDER.glob("*.py"))
# What each prints last tells that it came to its end.
ENDS = {"wrapper_trainer.py": "(1, 10)", "importance_sampling.py": "choosing pays above"}


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 6


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name: str) -> None:
    done = subprocess.run(
        [sys.executable, str(FOLDER / name), "--quick"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert ENDS.get(name, "Étude · report") in done.stdout, done.stdout[-3000:]
