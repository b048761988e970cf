"""The descent along one setting after the other: the score of each trial, in order."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from etude.report import text
from etude.report.figures import _canvas as canvas
from etude.report.figures import _numbers as num

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from etude.findings import Finding

# More trials than this have labels on end, and only the last so many are shown at all.
_UPRIGHT, _MOST = 9, 40


def draw(finding: Finding) -> Figure | None:
    """Scores in order: kept ones filled and joined by steps, the others hollow."""
    trials = num.mappings(finding.evidence.get("trials"))
    if not trials:
        return None
    shown, before = trials[-_MOST:], max(0, len(trials) - _MOST)
    upright = len(shown) > _UPRIGHT
    room = 1.75 if upright else 0.75
    figure = canvas.new(_title(finding, trials), 2.5 + room)
    axes = canvas.panel(figure, 0.8, room, canvas.WIDTH - 1.0, 2.4)
    _trials(axes, shown)
    labels = [label(trial, " " if upright else "\n") for trial in shown]
    axes.set_xticks(range(len(shown)), labels=labels, rotation=90 if upright else 0)
    for tick, trial in zip(axes.get_xticklabels(), shown, strict=True):
        tick.set_color(canvas.INK if trial.get("kept") else canvas.MUTED)
        tick.set_fontsize(7.5)
    if before:
        canvas.heading(axes, f"the last {len(shown)} of {len(trials)} trials")
    return figure


def label(trial: Mapping[str, Any], between: str) -> str:
    """Which setting a trial moved and to what, `weight decay 0.0005`."""
    axis = str(trial.get("axis") or "")
    if not axis:
        return "start"
    words = text.words(axis).replace(" ", between)
    found = (trial.get("values") or {}).get(axis)
    if isinstance(found, int | float) and not isinstance(found, bool):
        return f"{words}{between}{num.short(num.number(found))}"
    return words if found is None else f"{words}{between}{text.value(found)}"


def _title(finding: Finding, trials: Sequence[Mapping[str, Any]]) -> str:
    kept = sum(bool(trial.get("kept")) for trial in trials[1:])
    moved = max(0, len(trials) - 1)
    changes = ", ".join(
        f"{text.words(name)} {text.value(found)}" for name, found in finding.changes.items()
    )
    if not changes and kept:
        return f"All stays as it was: {kept} of {moved} changes did not hold in another order"
    if not changes:
        return f"All stays as it was: none of {moved} changes earned its place"
    return f"{kept} of {moved} changes kept: {changes}"


def _trials(axes: Axes, trials: Sequence[Mapping[str, Any]]) -> None:
    scores, reach, ends = num.scores(trials)
    canvas.linear(axes.yaxis, *num.limits(ends, 0.1))
    axes.set_xlim(-0.6, len(trials) - 0.4)
    axes.grid(False, axis="x")
    kept = [bool(trial.get("kept")) for trial in trials]
    x, y = num.points(
        range(len(trials)), [s if k else math.nan for s, k in zip(scores, kept, strict=True)]
    )
    if x:  # what holds until something better comes
        axes.step(
            [*x, len(trials) - 0.5],
            [*y, y[-1]],
            where="post",
            color=canvas.BLUE,
            linewidth=1.4,
            label="held",
        )
    for place, (score, error, held) in enumerate(zip(scores, reach, kept, strict=True)):
        if not math.isfinite(score):
            axes.text(
                place,
                0.02,
                "×",
                transform=axes.get_xaxis_transform(),
                ha="center",
                color=canvas.VERMILLION,
                size=canvas.TITLE,
            )
            continue
        colour = canvas.BLUE if held else canvas.MUTED
        if error:
            axes.plot([place, place], [score - error, score + error], color=colour, linewidth=1)
        canvas.tried(axes, place, score, held, ("kept", "dropped"), 7)
    if not num.finite(scores):
        canvas.nothing(axes, "no finite score")
    axes.set_ylabel("validation loss")
