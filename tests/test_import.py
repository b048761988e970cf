"""`import etude` is light, and every public name is there when asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

import etude

from .fresh import modules_after

HEAVY = {"tensorflow", "keras", "numpy", "rich", "absl", "yaml", "matplotlib", "jinja2"}


@pytest.mark.parametrize(
    "code", ["import etude", "import etude; dir(etude)", "import etude; etude.errors.DataError"]
)
def test_import_takes_nothing_heavy(code: str) -> None:
    loaded = modules_after(code)
    assert "etude" in loaded
    assert loaded & HEAVY == set()


def test_the_watch_can_fail() -> None:
    assert "numpy" in modules_after("import etude, numpy")


def test_the_report_needs_no_tensorflow_and_draws_nothing_yet() -> None:
    loaded = modules_after("import etude; etude.Report; etude.Recipe")
    assert loaded & {"tensorflow", "keras", "matplotlib", "jinja2"} == set()


def test_help_of_the_command_line_needs_no_tensorflow() -> None:
    code = "import etude.cli\ntry: etude.cli.main(['etude', '--help'])\nexcept SystemExit: pass"
    assert modules_after(code) & {"tensorflow", "keras", "numpy"} == set()


def test_every_public_name_resolves_to_its_own_module() -> None:
    for name in etude.__all__:
        value = getattr(etude, name)
        assert value is getattr(etude, name), name
    assert callable(etude.fit) and callable(etude.tune)
    assert callable(etude.train) and callable(etude.plan)
    assert set(dir(etude)) == set(etude.__all__)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        etude.fitt  # noqa: B018


def test_the_facade_gives_the_metalearners_own_classes() -> None:
    import etude_metalearners

    assert dir(etude.metalearners) == sorted(etude_metalearners.__all__)
    for name in etude_metalearners.__all__:
        assert getattr(etude.metalearners, name) is getattr(etude_metalearners, name)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        etude.metalearners.Nothing  # noqa: B018


def test_the_standard_librarys_platform_is_not_hidden() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import platform; print(platform.system())"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "Linux"
