"""The learning rate: the losses of range tests, and where the rate was read from them."""

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

# Standard deviation of the smoothing in decades of the rate.
BANDWIDTH = 0.2
# The share at the beginning of a test from which the starting loss is read.
_START = 0.1
# More tests than this would be too narrow to read: the last ones are shown.
_TESTS = 3
# Of the panels, in inches.
_HEIGHT = 2.35


def draw(finding: Finding) -> Figure | None:
    """Loss against rate for each test, and the score of the rates that were tried out."""
    tests = [test for test in num.mappings(finding.evidence.get("tests")) if test.get("rates")]
    tests = tests[-_TESTS:]
    if not tests:
        return None
    tried = [
        row
        for row in num.mappings(finding.evidence.get("confirmed"))
        if math.isfinite(num.positive(row.get("rate")))
    ]
    chosen = num.positive(finding.changes.get("learning_rate"))
    title = _title(finding.evidence, tests[-1], tried, chosen)
    figure = canvas.new(title, 0.5 + _HEIGHT + canvas.HEAD)
    last = 1.55 if tried else 0.0
    width = (canvas.WIDTH - 0.75 - (last + 1.05 if tried else 0.0)) / len(tests)
    low, high = _heights(tests)
    for index, test in enumerate(tests):
        axes = canvas.panel(figure, 0.75 + width * index, 0.5, width - 0.25, _HEIGHT)
        canvas.linear(axes.yaxis, low, high)
        _test(axes, test, chosen if index == len(tests) - 1 else math.nan)
        axes.set_xlabel("learning rate")
        if index:
            axes.tick_params(labelleft=False)
        else:
            axes.set_ylabel("training loss of the step")
    if tried:
        axes = canvas.panel(figure, canvas.WIDTH - 0.2 - last, 0.5, last, _HEIGHT)
        _confirmed(axes, tried, chosen)
    return figure


def _title(
    evidence: Mapping[str, Any],
    test: Mapping[str, Any],
    tried: Sequence[Mapping[str, Any]],
    chosen: float,
) -> str:
    found = test.get("found") or {}
    if not math.isfinite(chosen):
        if found.get("extend"):
            return "The peak rate stays as it was: the answer lies outside the rates tested"
        return "The peak rate stays as it was: the range test shows no rate to trust"
    said = f"Peak rate {num.short(chosen)}"
    if len(tried) > 1:
        return f"{said}, chosen among {len(tried)} rates that were tried in short runs"
    carried = evidence.get("carried") or {}
    batches = [carried.get("from_batch"), carried.get("to_batch")]
    if None not in batches:
        return f"{said}: carried from a batch of {batches[0]:,} over to one of {batches[1]:,}"
    minimum = num.positive(found.get("minimum"))
    if math.isfinite(minimum):
        return f"{said}: {_part(chosen / minimum)} the rate of the lowest loss"
    return said


def _part(ratio: float) -> str:
    names = {"half": 0.5, "a third of": 1 / 3, "a quarter of": 0.25, "a tenth of": 0.1}
    near = [name for name, value in names.items() if abs(ratio / value - 1) < 0.04]
    if near:
        return near[0]
    return "at" if abs(ratio - 1) < 0.04 else f"{num.short(ratio)} times"


def curve(test: Mapping[str, Any]) -> tuple[list[float], list[float], list[float]]:
    """Rates, losses and smoothed losses of a test, where both are finite.

    Losses explode within a few steps. For smoothing they are cut at as much above the start
    as the lowest is below it, or the last few would lift the whole curve.
    """
    rates = [num.positive(rate) for rate in test.get("rates") or ()]
    x, y = num.points(rates, num.numbers(test.get("losses")))
    if not x:
        return [], [], []
    ceiling = _ceiling(y)
    decades = [math.log10(rate) for rate in x]
    return x, y, num.smooth(decades, [min(loss, ceiling) for loss in y], BANDWIDTH)


def _ceiling(losses: Sequence[float]) -> float:
    start = statistics.median(losses[: max(1, int(_START * len(losses)))])
    return 2.0 * start - min(losses)


def _heights(tests: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Ends of the loss axis, the same for all tests: explosions run out at the top."""
    shown: list[float] = []
    for test in tests:
        _, losses, _ = curve(test)
        if losses:
            ceiling = _ceiling(losses)
            shown += [min(loss, ceiling) for loss in losses]
    return num.limits(shown, 0.12)


def _test(axes: Axes, test: Mapping[str, Any], chosen: float) -> None:
    rates, losses, smoothed = curve(test)
    found = test.get("found") or {}
    read = num.positive(found.get("rate")) if found.get("reliable", True) else math.nan
    places = {name: num.positive(found.get(name)) for name in ("steepest", "minimum", "divergence")}
    known = [num.positive(rate) for rate in test["rates"]]
    final = chosen if math.isfinite(chosen) else read
    canvas.logarithmic(axes.xaxis, *num.log_limits([*known, final]))
    if not rates:
        canvas.nothing(axes, "no finite loss")
        return
    axes.plot(rates, losses, color=canvas.IDLE, linewidth=0.9, label="raw")
    axes.plot(rates, smoothed, color=canvas.BLUE, linewidth=2.2, label="smoothed")
    lines = [
        (places["steepest"], "steepest", canvas.MUTED, False),
        (places["minimum"], "lowest", canvas.MUTED, False),
        (places["divergence"], "diverged", canvas.MUTED, False),
    ]
    if math.isfinite(read) and math.isfinite(chosen) and abs(read / chosen - 1) > 0.01:
        lines.append((read, f"read {num.short(read)}", canvas.BLUE, False))
    # First, so that its label is nearest to the panel.
    lines.insert(0, (final, num.short(final), canvas.VERMILLION, True))
    canvas.marks(axes, lines)
    if math.isfinite(final):
        height = num.at(rates, smoothed, final)
        canvas.dot(axes, final, height, canvas.VERMILLION, "chosen")


def _confirmed(axes: Axes, tried: Sequence[Mapping[str, Any]], chosen: float) -> None:
    """Scores of short runs at a few rates, with their standard errors."""
    rates = [num.positive(row.get("rate")) for row in tried]
    scores = [num.number(row.get("score")) for row in tried]
    errors = [num.number(row.get("error")) for row in tried]
    reach = [abs(error) if math.isfinite(error) else 0.0 for error in errors]
    ends = [s + sign * e for s, e in zip(scores, reach, strict=True) for sign in (-1, 1)]
    ticks = sorted(set(rates)) if len(set(rates)) <= 3 else None
    canvas.logarithmic(axes.xaxis, *num.log_limits(rates, 0.15), ticks)
    canvas.linear(axes.yaxis, *num.limits(ends, 0.1))
    for rate, score, error in zip(rates, scores, reach, strict=True):
        mine = math.isfinite(chosen) and abs(rate / chosen - 1) < 0.01
        colour = canvas.VERMILLION if mine else canvas.BLUE
        if not math.isfinite(score):
            continue
        if error:
            axes.plot([rate, rate], [score - error, score + error], color=colour, linewidth=1.2)
        axes.plot([rate], [score], "o", color=colour, markersize=6, label="tried")
    if not num.finite(scores):
        canvas.nothing(axes, "no finite score")
    steps = {row.get("steps") for row in tried} - {None}
    after = f" after {text.value(steps.pop())} steps" if len(steps) == 1 else ""
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss" + after)
    canvas.heading(axes, "tried in short runs")
