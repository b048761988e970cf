"""Progress is silent, plain or a bar, as asked for."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from etude.findings import Cost, Finding
from etude.report.progress import Progress

FINDING = Finding(
    "learning_rate",
    (),
    "optimization",
    {"learning_rate": 0.4},
    "It is so.",
    {},
    Cost(),
    Cost(2.0),
    "",
)


def shown(verbose: int, terminal: bool) -> str:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=80)
    with Progress(verbose, console) as progress:
        progress.phase("study")
        progress.finding(FINDING)
        progress.phase("training", 40)
        for i in range(40):
            progress.advance(1, loss=1 / (i + 1))
        progress.say("[best] kept")
    return stream.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_silent(terminal: bool) -> None:
    assert "training" not in shown(0, terminal)
    assert "best" not in shown(0, terminal)


@pytest.mark.parametrize(("verbose", "terminal"), [(1, False), (2, False), (2, True)])
def test_one_plain_line_per_event(verbose: int, terminal: bool) -> None:
    lines = shown(verbose, terminal).splitlines()
    assert lines[:3] == [
        "study",
        "learning rate: learning rate 0.4 (2.00 s). It is so.",
        "training: 40 steps",
    ]
    tenths = [f"training: {4 * i} of 40 steps  loss {1 / (4 * i):.4g}" for i in range(1, 11)]
    assert lines[3:] == [*tenths, "[best] kept"]
    assert "\x1b" not in "".join(lines)


def test_the_bar_has_name_steps_metrics_and_what_was_said() -> None:
    page = shown(1, True)
    last = page.rsplit("training", 1)[1]
    assert "40/40" in last and "loss 0.025" in last
    assert "[best] kept" in page and "It is so." in page


def test_steps_taken_by_many_at_once_print_one_line() -> None:
    stream = io.StringIO()
    with Progress(2, Console(file=stream)) as progress:
        progress.phase("training", 100, done=50)
        progress.advance(35)
        progress.advance(1)
        progress.total(200)
        progress.advance(14)
    lines = [line.rstrip() for line in stream.getvalue().splitlines()]
    assert lines == [
        "training: 100 steps",
        "training: 85 of 100 steps",
        "training: 100 of 200 steps",
    ]


def test_the_screen_is_given_back_when_something_fails() -> None:
    stream = io.StringIO()
    with (
        pytest.raises(ValueError, match="mine"),
        Progress(1, Console(file=stream, force_terminal=True)) as progress,
    ):
        progress.phase("training", 3)
        raise ValueError("mine")
    assert stream.getvalue().endswith("\x1b[?25h")  # the cursor is visible again
