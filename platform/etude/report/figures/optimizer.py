"""The optimizer: the losses of a race, and the score that each ended with."""

from __future__ import annotations

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


def draw(finding: Finding) -> Figure | None:
    """Smoothed losses on the left, final scores on the right, one colour each."""
    race = num.mappings(finding.evidence.get("race"))
    if not race:
        return None
    names = [str(row.get("optimizer") or f"run {i}") for i, row in enumerate(race, 1)]
    colours = [canvas.LINES[i % len(canvas.LINES)] for i in range(len(race))]
    chosen = finding.evidence.get("chosen", finding.changes.get("optimizer"))
    height = max(2.5, 0.24 * len(race) + 0.3)
    figure = canvas.new(_title(race, names, chosen), height + 0.8)
    losses = canvas.panel(figure, 0.75, 0.5, 3.2, height)
    scores = canvas.panel(figure, 5.55, 0.5, 2.2, height)
    _losses(losses, race, names, colours, chosen)
    _scores(scores, race, names, colours, chosen)
    return figure


def _title(race: Sequence[Mapping[str, Any]], names: Sequence[str], chosen: Any) -> str:
    if chosen is None:
        return f"A race of {len(race)} optimizers"
    scores = {
        name: num.number(row.get("score"))
        for name, row in zip(names, race, strict=True)
        if math.isfinite(num.number(row.get("score")))
    }
    best = min(scores, key=lambda name: scores[name], default=chosen)
    if best == chosen:
        return f"{chosen} has the least loss of {len(race)} optimizers"
    return f"{chosen} is taken; {best}'s loss is less, but not beyond doubt"


def smoothed(losses: Sequence[Any]) -> tuple[list[float], list[float]]:
    """Steps, counted from 1, and losses, smoothed over a fraction of the run."""
    steps, known = num.points(range(1, len(losses) + 1), num.numbers(losses))
    steps, known = num.thin(steps, known)
    return steps, num.smooth(steps, known, max(0.5, _SMOOTHING * len(losses)))


def _losses(
    axes: Axes,
    race: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    colours: Sequence[str],
    chosen: Any,
) -> None:
    curves = [smoothed(row.get("losses") or ()) for row in race]
    starts = [y[0] for _, y in curves if y]
    lowest = [min(y) for _, y in curves if y]
    # A run that diverges would press all others flat: it runs out at the top.
    top = 2.0 * statistics.median(starts) - min(lowest) if starts else 1.0
    shown = [min(value, top) for _, y in curves for value in y]
    canvas.linear(axes.yaxis, *num.limits(shown))
    steps = [x[-1] for x, _ in curves if x]
    canvas.linear(axes.xaxis, 0.0, max(steps, default=1.0))
    ends = []
    for (x, y), name, colour in zip(curves, names, colours, strict=True):
        mine = name == chosen
        line: dict[str, Any] = (
            {"linewidth": 2.4, "zorder": 3} if mine else {"linewidth": 1.4, "zorder": 2}
        )
        axes.plot(x, y, "-" if len(x) > 1 else "o", color=colour, label=name, **line)
        if y:
            ends.append((y[-1], name, colour))
    canvas.line_labels(axes, ends)
    if not ends:
        canvas.nothing(axes, "no finite loss")
    axes.set_xlabel("step")
    axes.set_ylabel("training loss, smoothed")


def _scores(
    axes: Axes,
    race: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    colours: Sequence[str],
    chosen: Any,
) -> None:
    scores = [num.number(row.get("score")) for row in race]
    errors = [abs(num.number(row.get("error"))) for row in race]
    reach = [error if math.isfinite(error) else 0.0 for error in errors]
    ends = [s + sign * e for s, e in zip(scores, reach, strict=True) for sign in (-1, 1)]
    canvas.linear(axes.xaxis, *num.limits(ends, 0.1), most=3)
    axes.set_ylim(len(race) - 0.5, -0.5)
    axes.grid(False, axis="y")
    axes.spines["left"].set_visible(False)
    best = [s for s, row in zip(scores, race, strict=True) if row.get("error") is None]
    if len(best) == 1 and math.isfinite(best[0]):
        axes.axvline(best[0], color=canvas.MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
    for row, (score, error, colour) in enumerate(zip(scores, reach, colours, strict=True)):
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
            axes.plot([score - error, score + error], [row, row], color=colour, linewidth=1.4)
        axes.plot([score], [row], "o", color=colour, markersize=7, label="score")
    labels = [_label(name, item) for name, item in zip(names, race, strict=True)]
    axes.set_yticks(range(len(race)), labels=labels)
    for tick, name in zip(axes.get_yticklabels(), names, strict=True):
        tick.set_color(canvas.INK)
        tick.set_fontweight("bold" if name == chosen else "normal")
    axes.set_xlabel("validation loss")
    canvas.heading(axes, "± error of the difference to the best")


def _label(name: str, row: Mapping[str, Any]) -> str:
    rate = num.number(row.get("rate"))
    return f"{name}\nat {text.number(float(f'{rate:.2g}'))}" if math.isfinite(rate) else name
