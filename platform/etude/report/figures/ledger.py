"""The ledger: predicted and true seconds of every part."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from etude.report import text
from etude.report.figures import _canvas as canvas
from etude.report.figures import _numbers as num

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(rows: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Two bars for each part, or one in another shade where nothing was predicted.

    Args:
        rows: `{"part": …, "predicted": seconds or None, "true": seconds or None}`.

    Returns:
        The figure, or `None` if no part has a time.
    """
    parts = [_part(row) for row in num.mappings(rows)]
    parts = [part for part in parts if num.finite(part[1:])]
    if not parts:
        return None
    height = 0.34 * len(parts) + 0.1
    figure = canvas.new(_title(parts), height + 0.85)
    longest = max(canvas.length(name, canvas.SMALL) for name, *_ in parts)
    left = min(2.6, longest + 0.2)
    axes = canvas.panel(figure, left, 0.5, canvas.WIDTH - left - 1.75, height)
    _, high = num.limits([0.0, *(seconds for part in parts for seconds in part[1:])], 0.02)
    canvas.linear(axes.xaxis, 0.0, high)
    axes.set_ylim(len(parts) - 0.5, -0.5)
    axes.grid(False, axis="y")
    axes.spines["left"].set_visible(False)
    for row, (_, predicted, true) in enumerate(parts):
        _bars(axes, row, predicted, true)
    axes.set_yticks(range(len(parts)), labels=[name for name, *_ in parts])
    for tick in axes.get_yticklabels():
        tick.set_color(canvas.INK)
    axes.set_xlabel("seconds")
    _key(axes)
    return figure


def _part(row: Mapping[str, Any]) -> tuple[str, float, float]:
    name = text.words(str(row.get("part", "")))
    return name, num.number(row.get("predicted")), num.number(row.get("true"))


def _bars(axes: Any, row: int, predicted: float, true: float) -> None:
    known = math.isfinite(predicted)
    ends = num.finite([predicted, true])
    if math.isfinite(true):
        place, height = (row - 0.1, 0.4) if known else (row, 0.5)
        colour = canvas.BLUE if known else canvas.IDLE
        name = "true" if known else "true, not predicted"
        axes.barh([place], [true], height=height, color=colour, label=name)
    if known:
        axes.barh([row + 0.22], [predicted], height=0.18, color=canvas.ORANGE, label="predicted")
    told = text.duration(true if math.isfinite(true) else predicted)
    if known and math.isfinite(true):
        told += f"  ({text.duration(predicted)})"
    axes.annotate(
        told,
        (max(ends), row),
        (5, 0),
        textcoords="offset points",
        va="center",
        size=canvas.SMALL,
        color=canvas.MUTED,
        annotation_clip=False,
    )


def _key(axes: Any) -> None:
    """What the colours mean, in their own colours, above the panel."""
    width, height = canvas.size(axes)
    left = 0.0
    place: dict[str, Any] = {"transform": axes.transAxes, "size": canvas.SMALL, "va": "bottom"}
    for words, colour in (
        ("true", canvas.BLUE),
        ("predicted", canvas.ORANGE),
        ("true, where nothing was predicted", canvas.IDLE),
    ):
        top = 1.0 + 0.08 / height
        axes.text(left / width, top, "■", color=colour, **place)
        axes.text((left + 0.15) / width, top, words, color=canvas.MUTED, **place)
        left += 0.3 + canvas.length(words, canvas.SMALL)


def _title(parts: Sequence[tuple[str, float, float]]) -> str:
    true = sum(num.finite([part[2] for part in parts]))
    both = [part for part in parts if math.isfinite(part[1]) and math.isfinite(part[2])]
    predicted, came = sum(part[1] for part in both), sum(part[2] for part in both)
    if not true:
        return f"{text.duration(sum(num.finite([part[1] for part in parts])))} are predicted"
    said = f"{text.duration(true)} in all"
    if predicted > 0:
        said += f"; the predicted parts took {came / predicted:.2f} times their prediction"
    return said
