"""Importance sampling: how uneven samples are, and what drawing by it promises."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from etude.report.figures import _canvas as canvas
from etude.report.figures import _numbers as num

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from etude.findings import Finding


def draw(finding: Finding) -> Figure | None:
    """τ over a miniature of the run with the gate's threshold, and the speed-up for each k."""
    evidence = finding.evidence
    taus = num.numbers(evidence.get("taus"))
    speed_ups = {
        num.number(float(k)): num.number(v) for k, v in (evidence.get("speed_ups") or {}).items()
    }
    if not num.finite(taus) or not num.finite(speed_ups.values()):
        return None
    chosen, least = (num.number(evidence.get(name)) for name in ("presample", "threshold"))
    figure = canvas.new(_title(finding, speed_ups.get(chosen, math.nan)), 2.9)
    axes = canvas.panel(figure, 0.75, 0.5, 3.8, 1.95)
    canvas.heading(axes, "τ in a miniature of the run")
    steps = num.numbers(evidence.get("steps"))
    steps += [math.nan] * (len(taus) - len(steps))
    end = max([1.0, *num.finite(steps)])
    axes.plot(*num.points(steps, taus), color=canvas.BLUE, linewidth=1.4, marker="o", markersize=3)
    ends = [*num.finite(taus), 1.0]
    if math.isfinite(least):
        ends.append(least)
        axes.axhline(least, color=canvas.VERMILLION, linewidth=1, linestyle="--")
    canvas.linear(axes.yaxis, *num.limits(ends))
    canvas.linear(axes.xaxis, 0.0, end)
    canvas.line_labels(axes, [(least, "pays above", canvas.VERMILLION)])
    axes.set_xlabel("step")
    bars = canvas.panel(figure, 5.9, 0.5, 1.9, 1.95)
    canvas.heading(bars, "promised speed-up")
    for k, value in sorted(speed_ups.items()):
        if math.isfinite(value):
            kept = bool(finding.changes) and k == chosen
            canvas.tried(bars, k, value, kept, ("adopted", "not adopted"), 6)
    bars.axhline(1.0, color=canvas.RULE, linewidth=1)
    canvas.linear(bars.yaxis, *num.limits([*num.finite(speed_ups.values()), 1.0]))
    canvas.linear(bars.xaxis, min(speed_ups) - 0.5, max(speed_ups) + 0.5)
    bars.set_xlabel("batches drawn from, k")
    return figure


def _title(finding: Finding, promised: float) -> str:
    if not finding.changes:
        return "Samples are drawn evenly: choosing them would not pay"
    told = "Samples are drawn by the bound of their gradients"
    return f"{told}: {num.short(promised)} times as fast" if math.isfinite(promised) else told
