"""The optimizer: the losses of a race, and the score that each ended with."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from etude.report import text
from etude.report.figures import _canvas as canvas
from etude.report.figures import _numbers as num

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from etude.findings import Finding

# Standard deviation of the smoothing, as a share of a run's steps.
_SMOOTHING = 0.03


@dataclasses.dataclass(frozen=True)
class _Runner:
    """An optimizer of the race, and how it is drawn."""

    row: Mapping[str, Any]
    name: str
    colour: str
    chosen: bool


def draw(finding: Finding) -> Figure | None:
    """Smoothed losses on the left, final scores on the right, one colour each."""
    race = num.mappings(finding.evidence.get("race"))
    if not race:
        return None
    chosen = finding.evidence.get("chosen", finding.changes.get("optimizer"))
    runners = []
    for place, row in enumerate(race):
        name = str(row.get("optimizer") or f"run {place + 1}")
        colour = canvas.LINES[place % len(canvas.LINES)]
        runners.append(_Runner(row, name, colour, name == chosen))
    height = max(2.5, 0.24 * len(race) + 0.3)
    figure = canvas.new(_title(runners, chosen), height + 0.8)
    _losses(canvas.panel(figure, 0.75, 0.5, 3.2, height), runners)
    _scores(canvas.panel(figure, 5.55, 0.5, 2.2, height), runners)
    return figure


def _title(runners: Sequence[_Runner], chosen: Any) -> str:
    if chosen is None:
        return f"A race of {len(runners)} optimizers"
    scores = {
        runner.name: num.number(runner.row.get("score"))
        for runner in runners
        if math.isfinite(num.number(runner.row.get("score")))
    }
    best = min(scores, key=lambda name: scores[name], default=chosen)
    if best == chosen:
        return f"{chosen} has the least loss of {len(runners)} optimizers"
    return f"{chosen} is taken; {best}'s loss is less, but not beyond doubt"


def smoothed(losses: Sequence[Any]) -> tuple[list[float], list[float]]:
    """Steps, counted from 1, and losses, smoothed over a fraction of the run."""
    steps, known = num.points(range(1, len(losses) + 1), num.numbers(losses))
    steps, known = num.thin(steps, known)
    return steps, num.smooth(steps, known, max(0.5, _SMOOTHING * len(losses)))


def _losses(axes: Axes, runners: Sequence[_Runner]) -> None:
    curves = [smoothed(runner.row.get("losses") or ()) for runner in runners]
    starts = [y[0] for _, y in curves if y]
    lowest = [min(y) for _, y in curves if y]
    # A run that diverges would press all others flat: it runs out at the top.
    top = 2.0 * statistics.median(starts) - min(lowest) if starts else 1.0
    shown = [min(value, top) for _, y in curves for value in y]
    canvas.linear(axes.yaxis, *num.limits(shown))
    steps = [x[-1] for x, _ in curves if x]
    canvas.linear(axes.xaxis, 0.0, max(steps, default=1.0))
    ends = []
    for (x, y), runner in zip(curves, runners, strict=True):
        axes.plot(
            x,
            y,
            "-" if len(x) > 1 else "o",
            color=runner.colour,
            label=runner.name,
            linewidth=2.4 if runner.chosen else 1.4,
            zorder=3 if runner.chosen else 2,
        )
        if y:
            ends.append((y[-1], runner.name, runner.colour))
    canvas.line_labels(axes, ends)
    if not ends:
        canvas.nothing(axes, "no finite loss")
    axes.set_xlabel("step")
    axes.set_ylabel("training loss, smoothed")


def _scores(axes: Axes, runners: Sequence[_Runner]) -> None:
    scores, reach, ends = num.scores(runner.row for runner in runners)
    canvas.linear(axes.xaxis, *num.limits(ends, 0.1), most=3)
    axes.set_ylim(len(runners) - 0.5, -0.5)
    axes.grid(False, axis="y")
    axes.spines["left"].set_visible(False)
    best = [s for s, r in zip(scores, runners, strict=True) if r.row.get("error") is None]
    if len(best) == 1 and math.isfinite(best[0]):
        axes.axvline(best[0], color=canvas.MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
    for row, (score, error, runner) in enumerate(zip(scores, reach, runners, strict=True)):
        if not math.isfinite(score):
            axes.text(
                0.0,
                row,
                "no finite score",
                transform=axes.get_yaxis_transform(),
                size=canvas.SMALL,
                color=canvas.MUTED,
                va="center",
            )
            continue
        if error:
            ends_of_bar = [score - error, score + error]
            axes.plot(ends_of_bar, [row, row], color=runner.colour, linewidth=1.4)
        axes.plot([score], [row], "o", color=runner.colour, markersize=7, label="score")
    axes.set_yticks(range(len(runners)), labels=[_label(runner) for runner in runners])
    for tick, runner in zip(axes.get_yticklabels(), runners, strict=True):
        tick.set_color(canvas.INK)
        tick.set_fontweight("bold" if runner.chosen else "normal")
    axes.set_xlabel("validation loss")
    canvas.heading(axes, "± error of the difference to the best")


def _label(runner: _Runner) -> str:
    rate = num.number(runner.row.get("rate"))
    if not math.isfinite(rate):
        return runner.name
    return f"{runner.name}\nat {text.number(float(f'{rate:.2g}'))}"
