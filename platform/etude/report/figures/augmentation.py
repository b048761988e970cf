"""The search for an augmentation: its tree, samples of what it chose, and all transforms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from etude.report import text
from etude.report.figures import _canvas as canvas
from etude.report.figures import _numbers as num
from etude.report.figures._pictures import decoded

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from etude.findings import Finding

# Inches: of a line of the tree, of a picture among samples, of a line of the sheet.
_LINE, _SAMPLE, _ROW = 0.17, 0.5, 0.23
# Trials that are shown, the first ones, beside those that led to the chosen one.
_MOST = 40
# Shades of distance groups, nearest first; more groups share the last.
_SHADES = ("#eef3f7", "#cfe1ee", "#9cc7e2", "#e8b27a", "#d98a5b")


def draw(finding: Finding) -> Figure | None:
    """The tree of the search, samples, and a line for every transform with its distances."""
    every = num.mappings(finding.evidence.get("trials"))
    trials = _in_order(every, finding.evidence.get("chosen"))
    if not trials:
        return None
    given = finding.evidence.get("pictures") or {}
    samples, sheet = (decoded(given.get(name)) for name in ("samples", "sheet"))
    ladders = finding.evidence.get("distances") or {}
    values, magnitudes = ladders.get("values"), ladders.get("magnitudes")
    names = [str(name) for name in (ladders.get("names") or ()) if values and magnitudes]
    tree = _LINE * len(trials) + 0.7
    pictures = 0.0 if samples is None else 4 * _SAMPLE + 0.5
    table = _ROW * len(names) + 0.6 if names else 0.0
    figure = canvas.new(_title(finding, every), tree + pictures + table + 0.1)
    axes = canvas.panel(
        figure, 3.6, pictures + table + 0.45, canvas.WIDTH - 3.8, _LINE * len(trials)
    )
    _tree(axes, trials)
    if samples is not None:
        _samples(canvas.panel(figure, 1.7, table + 0.1, 8 * _SAMPLE, 4 * _SAMPLE), samples)
    if names:
        _table(figure, finding, names, sheet)
    return figure


def _title(finding: Finding, trials: Sequence[Mapping[str, Any]]) -> str:
    chosen = finding.evidence.get("chosen")
    told = next((trial.get("told") for k, trial in enumerate(trials) if k == chosen), None)
    if not finding.changes or not chosen:
        return f"Images stay as they are: none of {len(trials) - 1} policies earned its place"
    return f"Of {len(trials) - 1} policies {told} is kept"


def _in_order(
    trials: Sequence[Mapping[str, Any]], chosen: Any = None
) -> list[tuple[int, Mapping[str, Any]]]:
    """Depth and trial, each trial below the one that it was compared with."""
    shown = {*range(_MOST)}
    while isinstance(chosen, int) and 0 < chosen < len(trials) and chosen not in shown:
        shown.add(chosen)
        chosen = trials[chosen].get("base")
    numbered = [{**trial, "index": k} for k, trial in enumerate(trials) if k in shown]
    found: list[tuple[int, Mapping[str, Any]]] = []

    def visit(trial: Mapping[str, Any], depth: int) -> None:
        found.append((depth, trial))
        for other in numbered:
            if other["index"] != trial["index"] and other.get("base") == trial["index"]:
                visit(other, depth + 1)

    if numbered:
        visit(numbered[0], 0)
    return found


def _tree(axes: Axes, trials: Sequence[tuple[int, Mapping[str, Any]]]) -> None:
    """Losses from left to right, a line for each trial, joined to what it was compared with."""
    scores = [num.number(trial.get("score")) for _, trial in trials]
    errors = [num.number(trial.get("error")) for _, trial in trials]
    reach = [e if math.isfinite(e) else 0.0 for e in errors]
    ends = [s + way * e for s, e in zip(scores, reach, strict=True) for way in (-1, 1)]
    canvas.linear(axes.xaxis, *num.limits(ends, 0.06))
    axes.set_ylim(len(trials) - 0.5, -0.5)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("validation loss after a branch")
    line_of = {trial["index"]: line for line, (_, trial) in enumerate(trials)}
    width, _ = canvas.size(axes)
    for line, ((depth, trial), score, error) in enumerate(zip(trials, scores, reach, strict=True)):
        kept = bool(trial.get("adopted"))
        colour = canvas.BLUE if kept else canvas.MUTED
        axes.text(
            (-3.45 + 0.14 * min(depth, 6)) / width,
            line,
            str(trial.get("told") or "")[:52],
            transform=axes.get_yaxis_transform(),
            size=7.0,
            color=canvas.INK if kept else canvas.MUTED,
            va="center",
        )
        above = line_of.get(trial.get("base"), line)
        if above != line and math.isfinite(score) and math.isfinite(scores[above]):
            axes.plot(
                [scores[above], scores[above], score],
                [above, line, line],
                color=canvas.RULE,
                linewidth=0.8,
                zorder=1,
            )
        if not math.isfinite(score):
            axes.text(0.98, line, "×", transform=axes.get_yaxis_transform(), va="center")
            continue
        if error:
            axes.plot([score - error, score + error], [line, line], color=colour, linewidth=1)
        canvas.tried(axes, score, line, kept, ("adopted", "not better"), 5)


def _samples(axes: Axes, picture: Any) -> None:
    axes.imshow(picture, aspect="auto")
    axes.axis("off")
    canvas.heading(axes, "training images, and below each as the kept policy draws it")


def _table(figure: Figure, finding: Finding, names: Sequence[str], sheet: Any) -> None:
    """Thumbnails and distances, a line for each transform, a column for each magnitude."""
    ladders = finding.evidence["distances"]
    magnitudes = [num.number(m) for m in ladders.get("magnitudes") or ()]
    values = [num.numbers(row) for row in ladders.get("values") or ()]
    columns, height = len(magnitudes), _ROW * len(names)
    group_of = _groups(finding)
    wide = _ROW * columns
    left = 1.7
    if sheet is not None:
        axes = canvas.panel(figure, left, 0.1, wide, height)
        axes.imshow(sheet, aspect="auto")
        axes.axis("off")
        canvas.heading(axes, "magnitude 0 to 100")
    axes = canvas.panel(figure, left + wide + 0.2, 0.1, canvas.WIDTH - left - wide - 0.4, height)
    axes.set_xlim(0, columns)
    axes.set_ylim(len(names), 0)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.grid(False)
    canvas.heading(axes, "Fréchet distance, shaded by group")
    whole = canvas.size(axes)[0]
    for line, (name, row) in enumerate(zip(names, values, strict=False)):
        axes.text(
            -(wide + 0.3) / whole,
            line + 0.5,
            text.words(name),
            transform=axes.get_yaxis_transform(),
            size=7.0,
            ha="right",
            va="center",
        )
        for column, (magnitude, distance) in enumerate(zip(magnitudes, row, strict=False)):
            group = group_of.get((name, magnitude))
            if group is not None:
                shade = _SHADES[min(group, len(_SHADES) - 1)]
                axes.add_patch(_cell(column, line, shade))
            axes.text(
                column + 0.5,
                line + 0.5,
                num.short(distance) if math.isfinite(distance) else "",
                size=6.5,
                color="#1c1c22" if group is not None else canvas.MUTED,
                ha="center",
                va="center",
            )


def _cell(column: int, line: int, shade: str) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((column + 0.02, line + 0.04), 0.96, 0.92, facecolor=shade, linewidth=0)


def _groups(finding: Finding) -> dict[tuple[str, float], int]:
    """The group of each transform and magnitude."""
    found = {}
    for group in num.mappings(finding.evidence.get("groups")):
        index = num.number(group.get("index"))
        for member in group.get("members") or ():
            if math.isfinite(index) and len(member) == 2:
                found[(str(member[0]), num.number(member[1]))] = int(index)
    return found
