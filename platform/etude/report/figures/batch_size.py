"""The batch size: what a step costs, and how many of them the gradient's noise asks for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from etude.report.figures import _canvas as canvas
from etude.report.figures import _numbers as num

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from etude.findings import Finding


def draw(finding: Finding) -> Figure | None:
    """Predicted time and noise scale on one axis of batch sizes; beside them a step's cost."""
    evidence = finding.evidence
    sizes = [num.positive(size) for size in evidence.get("batch_sizes") or ()]
    if not num.finite(sizes):
        return None
    seconds = num.numbers(evidence.get("step_seconds"))
    noise = evidence.get("noise_scale") or {}
    own = num.positive(evidence.get("own"))
    chosen = num.positive(evidence.get("chosen", finding.changes.get("batch_size", own)))
    relative = num.numbers(evidence.get("relative_time"))
    figure = canvas.new(_title(sizes, relative, chosen, own), 3.75)
    time = canvas.panel(figure, 0.75, 1.3, 3.75, 2.1)
    strip = canvas.panel(figure, 0.75, 0.5, 3.75, 0.62)
    for axes in (time, strip):
        _sizes(axes, sizes, _reach(sizes, noise))
    _time(time, sizes, seconds, relative, noise, chosen, own)
    _noise(strip, noise)
    time.tick_params(labelbottom=False)
    if math.isfinite(chosen):
        lines = [(chosen, f"chosen {num.short(chosen)}", canvas.VERMILLION, True)]
        if math.isfinite(own) and own != chosen:
            lines.append((own, f"was {num.short(own)}", canvas.MUTED, False))
        canvas.marks(time, lines)
    strip.set_xlabel("batch size, samples")
    step = canvas.panel(figure, 5.45, 2.1, 2.35, 1.3)
    pace = canvas.panel(figure, 5.45, 0.5, 2.35, 1.3)
    canvas.heading(step, "a step, milliseconds")
    canvas.heading(pace, "samples per second")
    _cost(step, sizes, [1000.0 * cost for cost in seconds], chosen)
    pairs = zip(sizes, seconds, strict=False)
    paces = [size / cost if cost > 0 else math.nan for size, cost in pairs]
    _cost(pace, sizes, paces, chosen)
    step.tick_params(labelbottom=False)
    pace.set_xlabel("batch size, samples")
    return figure


def band(
    sizes: Sequence[float], seconds: Sequence[float], own: float, low: float, high: float
) -> tuple[list[float], list[float]]:
    """Least and greatest predicted time for noise scales between `low` and `high`.

    The time to a fixed loss is (1 + B / N) · t(N), over that at the batch size `own`. It is
    monotonic in the noise scale B, so the ends of the interval give the ends of the band.

    Args:
        sizes: Batch sizes N.
        seconds: Seconds of a step t(N) at each.
        own: The batch size that the times are relative to; one of `sizes`.
        low: Lower end of the noise scale's interval.
        high: Its upper end; may be infinite, where only N counts: (own / N) · t(N) / t(own).
    """

    def time(noise: float, size: float, second: float) -> float:
        return second / size if math.isinf(noise) else (1.0 + noise / size) * second

    if own not in sizes or len(seconds) <= sizes.index(own):
        return [], []
    second = seconds[sizes.index(own)]
    if not (math.isfinite(second) and second > 0):
        return [], []
    least, greatest = [], []
    for size, cost in zip(sizes, seconds, strict=False):
        ends = [time(noise, size, cost) / time(noise, own, second) for noise in (low, high)]
        least.append(min(ends))
        greatest.append(max(ends))
    return least, greatest


def _title(sizes: Sequence[float], relative: Sequence[float], chosen: float, own: float) -> str:
    if not math.isfinite(chosen):
        return "What a step costs at each batch size"
    if chosen == own:
        return f"The batch stays at {num.short(own)}: no other promises to be clearly faster"
    said = f"A batch of {num.short(chosen)}"
    times = dict(zip(sizes, relative, strict=False))
    saved = 1.0 - times.get(chosen, math.nan)
    if math.isfinite(saved) and math.isfinite(own):
        less = f"{num.percent(abs(saved))} {'less' if saved > 0 else 'more'} time"
        return f"{said} promises the same loss in {less} than {num.short(own)}"
    return said


def _interval(noise: Mapping[str, Any]) -> tuple[float, float]:
    """Ends of the noise scale's interval; an upper end that is not known is infinite."""
    low, high = num.number(noise.get("low")), num.number(noise.get("high"))
    return (max(low, 0.0) if math.isfinite(low) else 0.0, high if math.isfinite(high) else math.inf)


def _reach(sizes: Sequence[float], noise: Mapping[str, Any]) -> tuple[float, float]:
    """Ends of the axis: the sizes, and the noise scale where that is not too far away."""
    known = num.finite(sizes)
    told = (*_interval(noise), num.number(noise.get("value")))
    near = [end for end in told if min(known) / 8 <= end <= max(known) * 8]
    return min(known + near) / 1.35, max(known + near) * 1.35


def _sizes(axes: Axes, sizes: Sequence[float], ends: tuple[float, float]) -> None:
    known = sorted(set(num.finite(sizes)))
    width, _ = canvas.size(axes)
    room = max(1, int(width / 0.42))
    canvas.logarithmic(axes.xaxis, *ends, ticks=known[:: math.ceil(len(known) / room)])


def _time(
    axes: Axes,
    sizes: Sequence[float],
    seconds: Sequence[float],
    relative: Sequence[float],
    noise: Mapping[str, Any],
    chosen: float,
    own: float,
) -> None:
    low, high = _interval(noise)
    known = math.isfinite(num.number(noise.get("value"))) or low > 0
    least, greatest = band(sizes, seconds, own, low, high) if known else ([], [])
    x, y = num.points(sizes, relative)
    edge, a = num.points(sizes, least)
    _, b = num.points(sizes, greatest)
    if edge:
        axes.fill_between(edge, a, b, color=canvas.SKY, alpha=0.3, linewidth=0, label="band")
    axes.plot(x, y, "o-", color=canvas.BLUE, markersize=4, label="predicted")
    if chosen in x:
        canvas.dot(axes, chosen, y[x.index(chosen)], canvas.VERMILLION, "chosen")
    if not x and not edge:
        canvas.nothing(axes, "no time could be predicted")
    # The band may rise far above the line: the line is what must be read.
    top = max([1.0, *y]) * 2.0
    _, end = num.limits([0.0, *y, *(min(value, top) for value in b)])
    canvas.linear(axes.yaxis, 0.0, max(end, 1.1))
    unit = f"\n(1 = at {num.short(own)})" if math.isfinite(own) else ", relative"
    axes.set_ylabel(f"time to a fixed loss{unit}")


def _noise(axes: Axes, noise: Mapping[str, Any]) -> None:
    """The noise scale and its interval; an arrow where an end lies beyond the axis."""
    axes.set_ylim(0.0, 1.0)
    axes.set_yticks([])
    axes.grid(False)
    axes.spines["left"].set_visible(False)
    value, (low, high) = num.number(noise.get("value")), _interval(noise)
    told = _told(value, low, high)
    above: dict[str, Any] = {"transform": axes.transAxes, "size": canvas.SMALL, "va": "center"}
    axes.text(0.0, 0.8, told, color=canvas.GREEN, **above)
    if not math.isfinite(value) and low <= 0:
        return
    left, right = axes.get_xlim()
    ends = (max(low, left), min(high, right))
    axes.hlines([0.3], *ends, color=canvas.GREEN, linewidth=2.2, label="interval")
    for end, arrow, cut in ((ends[0], "<", low < left), (ends[1], ">", high > right)):
        name = "open" if cut else "end"
        marker = arrow if cut else "|"
        axes.plot([end], [0.3], marker, color=canvas.GREEN, ms=8, clip_on=False, label=name)
    if left <= value <= right:
        canvas.dot(axes, value, 0.3, canvas.GREEN, "noise scale")


def _told(value: float, low: float, high: float) -> str:
    if not math.isfinite(value):
        if low > 0:
            return f"gradient noise scale above {num.short(low)}"
        return "the gradient noise scale is not known"
    ends = f"{num.short(low)} to {num.short(high)}"
    if math.isinf(high):
        ends = f"above {num.short(low)}"
    return f"gradient noise scale {num.short(value)} ({ends})"


def _cost(axes: Axes, sizes: Sequence[float], values: Sequence[float], chosen: float) -> None:
    x, y = num.points(sizes, values)
    _sizes(axes, sizes, (min(num.finite(sizes)) / 1.35, max(num.finite(sizes)) * 1.35))
    _, high = num.limits([0.0, *y], 0.1)
    canvas.linear(axes.yaxis, 0.0, high, 4)
    axes.plot(x, y, "o-", color=canvas.BLUE, markersize=4, linewidth=1.4, label="cost")
    if chosen in x:
        canvas.dot(axes, chosen, y[x.index(chosen)], canvas.VERMILLION, "chosen")
    if not x:
        canvas.nothing(axes, "not measured")
