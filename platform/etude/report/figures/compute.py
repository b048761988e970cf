"""The compute study: samples per second of each way to run a step, and cost against batch."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from etude.report import text
from etude.report.figures import _canvas as canvas
from etude.report.figures import _numbers as num

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from etude.findings import Finding

# Inches of a bar with its note.
_ROW = 0.46


def draw(finding: Finding) -> Figure | None:
    """A bar for each variant with its note; beside them cost against batch size."""
    evidence = finding.evidence
    variants = num.mappings(evidence.get("variants"))
    sizes = [num.positive(size) for size in evidence.get("batch_sizes") or ()]
    measured = bool(num.finite(sizes))
    if not variants and not measured:
        return None
    chosen = evidence.get("chosen")
    height = max(2.35, _ROW * len(variants) + 0.3)
    figure = canvas.new(_title(variants, chosen), height + 0.75)
    if variants:
        longest = max(canvas.length(name(variant), canvas.SMALL) for variant in variants)
        left = min(2.4, longest + 0.15)
        width = (4.75 if measured else canvas.WIDTH - 0.25) - left
        _variants(canvas.panel(figure, left, 0.5, width, height - 0.15), variants, chosen)
    if measured:
        left = 5.6 if variants else 0.8
        cost = canvas.panel(figure, left, 0.5, canvas.WIDTH - 0.3 - left, height - 0.15)
        _cost(cost, sizes, evidence)
    return figure


def name(variant: Mapping[str, Any]) -> str:
    """A variant in words: `mixed bfloat16 · XLA · 8 steps`."""
    parts = [text.words(str(variant.get("precision") or "as it is"))]
    if variant.get("xla"):
        parts.append("XLA")
    steps = variant.get("steps_per_execution") or 1
    if steps != 1:
        parts.append(f"{steps} steps")
    return " · ".join(parts)


def _title(variants: Sequence[Mapping[str, Any]], chosen: Any) -> str:
    if not isinstance(chosen, int) or not 0 <= chosen < len(variants):
        return "What a step costs" if not variants else "Samples per second of each variant"
    if chosen == 0:
        return "The step stays as it is: no other way to run it is clearly faster"
    paces = [num.positive(variant.get("samples_per_second")) for variant in variants]
    said = f"{name(variants[chosen])} is taken"
    ratio = paces[chosen] / paces[0]
    return f"{said}: {ratio:.2f} times as fast as {name(variants[0])}" if ratio > 0 else said


def _variants(axes: Axes, variants: Sequence[Mapping[str, Any]], chosen: Any) -> None:
    paces = [num.number(variant.get("samples_per_second")) for variant in variants]
    _, high = num.limits([0.0, *paces])
    canvas.linear(axes.xaxis, 0.0, high * 1.12, 4)
    axes.set_ylim(len(variants) - 0.42, -0.5)
    axes.grid(False, axis="y")
    axes.spines["left"].set_visible(False)
    width, _ = canvas.size(axes)
    letters = int(width / canvas.length("x", 7.0) * 1.15)
    for row, (variant, pace) in enumerate(zip(variants, paces, strict=True)):
        mine = row == chosen
        colour = canvas.BLUE if mine else canvas.IDLE
        length = pace if math.isfinite(pace) else 0.0
        axes.barh([row], [length], height=0.42, color=colour, label=f"variant {row}")
        told = num.short(pace) if math.isfinite(pace) else "not measured"
        ink = canvas.BLUE if mine else canvas.MUTED
        weight = "bold" if mine else "normal"
        axes.annotate(
            told,
            (max(length, 0.0), row),
            (4, 0),
            textcoords="offset points",
            va="center",
            size=canvas.SMALL,
            color=ink,
            weight=weight,
        )
        note = textwrap.shorten(str(variant.get("note") or ""), letters, placeholder=" …")
        axes.text(0.0, row + 0.38, note, size=7.0, color=canvas.MUTED, va="center")
    axes.set_yticks(range(len(variants)), labels=[name(variant) for variant in variants])
    for row, tick in enumerate(axes.get_yticklabels()):
        tick.set_color(canvas.BLUE if row == chosen else canvas.INK)
        tick.set_fontsize(canvas.SMALL)
    axes.set_xlabel("samples per second")


def _cost(axes: Axes, sizes: Sequence[float], evidence: Mapping[str, Any]) -> None:
    lines = [
        ("training step", canvas.BLUE, evidence.get("step_seconds")),
        ("forward pass", canvas.GREEN, evidence.get("forward_seconds")),
    ]
    drawn = []
    for words, colour, seconds in lines:
        costs = [1000.0 * num.positive(cost) for cost in seconds or ()]
        drawn.append((words, colour, *num.points(sizes, costs)))
    fits = evidence.get("fits") or {}
    most = {words: num.positive(fits.get(words)) for words in ("train", "evaluate")}
    known = sorted(num.finite(sizes))
    reach = [size for size in most.values() if known[0] <= size <= 64 * known[-1]]
    low, high = min(known) / 1.3, max(known + reach) * 1.3
    canvas.logarithmic(axes.xaxis, low, high, _powers(axes, low, high))
    canvas.logarithmic(axes.yaxis, *num.log_limits([y for *_, ys in drawn for y in ys], 0.1))
    _, height = canvas.size(axes)
    for row, (words, colour, x, y) in enumerate(drawn):
        axes.plot(x, y, "o-", color=colour, markersize=4, linewidth=1.5, label=words)
        # Costs rise with the batch: the upper left corner is free.
        place = 1.0 - (0.08 + 0.16 * row) / height
        box = {"facecolor": canvas.PAPER, "edgecolor": "none", "pad": 0.8}
        axes.text(
            0.03,
            place,
            words if y else "",
            transform=axes.transAxes,
            size=canvas.SMALL,
            color=colour,
            va="top",
            bbox=box,
        )
    if not any(y for *_, y in drawn):
        canvas.nothing(axes, "not measured")
    canvas.marks(
        axes,
        [
            (most["train"], f"trains to {num.short(most['train'])}", canvas.BLUE, False),
            (most["evaluate"], f"evaluates to {num.short(most['evaluate'])}", canvas.GREEN, False),
        ],
    )
    axes.set_xlabel("batch size, samples")
    axes.set_ylabel("milliseconds")


def _powers(axes: Axes, low: float, high: float) -> list[float]:
    """Powers of two within the ends, as many as there is room for."""
    width, _ = canvas.size(axes)
    powers = range(math.ceil(math.log2(low)), math.floor(math.log2(high)) + 1)
    return [2.0**power for power in powers][:: max(1, math.ceil(len(powers) * 0.42 / width))]
