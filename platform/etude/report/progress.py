"""What a person sees while it runs: a bar with time left, and lines for what happens."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich import progress as bars
from rich.console import Console
from rich.text import Text

from etude.report import text

if TYPE_CHECKING:
    from etude.findings import Finding

# Without a terminal a phase prints so many lines as it goes, evenly spread.
LINES = 10


class Progress:
    """Shows the phases of a run.

    On a terminal each phase has a bar with steps, latest metrics and time left, and what
    is said scrolls above it. Elsewhere, and with `verbose=2`, there is one plain line per
    event and no control codes. With `verbose=0` there is nothing.

    Args:
        verbose: 0 nothing, 1 bars on a terminal and lines elsewhere, 2 lines.
        console: Where to; the standard output when left out.

    Example:
        ```python
        with Progress(verbose=1) as shown:
            shown.phase("training", total_steps=800)
            shown.advance(10, loss=0.31)
            shown.say("the best weights so far are of step 10")
        ```
    """

    def __init__(self, verbose: int = 1, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stdout)
        self._silent = verbose == 0
        self._bars: bars.Progress | None = None
        if verbose == 1 and self._console.is_terminal:
            self._bars = bars.Progress(
                bars.TextColumn("{task.description}", style="bold"),
                bars.BarColumn(bar_width=None),
                bars.MofNCompleteColumn(),
                bars.TextColumn("{task.fields[metrics]}", style="green"),
                bars.TimeRemainingColumn(compact=True, elapsed_when_finished=True),
                console=self._console,
            )
        self._task: Any = None
        self._name = ""
        self._total: int | None = None
        self._done = 0
        self._lines = 0
        self._metrics: dict[str, float] = {}

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def phase(self, name: str, total_steps: int | None = None, done: int = 0) -> None:
        """Begins a phase and ends the one before.

        Args:
            name: What is done now, for example `"training"`.
            total_steps: How many steps it has; `None` when that is not known.
            done: Steps done already, for a run that goes on.
        """
        self._name, self._total, self._done = name, total_steps, done
        self._metrics, self._lines = {}, done * LINES // total_steps if total_steps else 0
        if self._bars is not None:
            if self._task is not None:
                self._bars.stop_task(self._task)
            self._task = self._bars.add_task(name, total=total_steps, completed=done, metrics="")
        elif total_steps is not None:
            self._line(f"{name}: {total_steps:,} steps")
        else:
            self._line(name)

    def total(self, steps: int) -> None:
        """Changes the number of steps of the phase, when the plan was changed."""
        self._total, self._lines = steps, self._done * LINES // max(1, steps)
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, total=steps)

    def advance(self, steps: int, **metrics: float) -> None:
        """So many steps further, with the latest figures; earlier figures stay shown."""
        self._done += steps
        self._metrics |= {name: float(figure) for name, figure in metrics.items()}
        if self._bars is not None:
            if self._task is not None:
                self._bars.update(self._task, advance=steps, metrics=self._shown())
        elif self._total and self._done * LINES // self._total > self._lines:
            self._lines = self._done * LINES // self._total
            self._line(f"{self._name}: {self._done:,} of {self._total:,} steps  {self._shown()}")

    def say(self, sentence: str) -> None:
        """A line that stays."""
        self._line(sentence)

    def finding(self, finding: Finding) -> None:
        """What a study found, as a line that stays."""
        changed = ", ".join(
            f"{text.words(name)} {text.value(found)}" for name, found in finding.changes.items()
        )
        found = f"{changed} ({text.duration(finding.true.seconds)}). " if changed else ""
        self._line(f"{text.words(finding.learner)}: {found}{finding.why}")

    def _shown(self) -> str:
        return "  ".join(f"{text.words(k)} {text.number(v)}" for k, v in self._metrics.items())

    def _line(self, sentence: str) -> None:
        if self._silent:
            return
        if self._bars is not None:
            self._bars.console.print(Text(sentence))
        else:
            # Straight to the file: neither wrapped nor styled, so that logs can be searched.
            self._console.file.write(sentence.rstrip() + "\n")
            self._console.file.flush()
