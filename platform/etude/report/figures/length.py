"""The length of the run: where its time will go."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from etude.report import text
from etude.report.figures import _canvas as canvas
from etude.report.figures import _numbers as num

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from etude.findings import Finding

COLOURS = {
    "study": canvas.ORANGE,
    "training": canvas.BLUE,
    "evaluation": canvas.GREEN,
    "finish": canvas.PURPLE,
}


def draw(finding: Finding) -> Figure | None:
    """One bar, cut into shares; each is named above or below it."""
    evidence = finding.evidence
    shares = {
        str(name): num.number(share) for name, share in (evidence.get("shares") or {}).items()
    }
    shares = {name: share for name, share in shares.items() if math.isfinite(share) and share > 0}
    if not shares:
        return None
    whole = sum(shares.values())
    seconds = num.positive(evidence.get("seconds"))
    # Shares of 1 are turned into seconds by the whole, if that is known.
    factor = seconds if abs(whole - 1.0) < 1e-3 and math.isfinite(seconds) else 1.0
    figure = canvas.new(_title(finding, shares, whole * factor), 1.25)
    axes = canvas.panel(figure, 0.15, 0.38, canvas.WIDTH - 0.3, 0.75)
    axes.set_axis_off()
    axes.set(xlim=(0.0, 1.0), ylim=(0.0, 1.0))
    width, _ = canvas.size(axes)
    left, spans, told = 0.0, [], []
    for name, share in shares.items():
        part = share / whole
        colour = COLOURS.get(name, canvas.IDLE)
        axes.barh([0.62], [part], left=left, height=0.5, color=colour, label=name)
        if left:
            axes.plot([left, left], [0.37, 0.87], color=canvas.PAPER, linewidth=1.5)
        words = f"{text.words(name)} {text.duration(share * factor)}, {num.percent(part)}"
        half = 0.5 * canvas.length(words, canvas.SMALL) / width
        middle = min(max(left + 0.5 * part, half), 1.0 - half)
        spans.append((middle - half, middle + half))
        told.append((left + 0.5 * part, middle, words, colour))
        left += part
    # Labels of neighbours that are too close stand on lines below each other.
    for (place, middle, words, colour), row in zip(told, num.rows(spans, 0.01), strict=True):
        top = 0.24 - 0.23 * row
        axes.plot([place, place], [top + 0.06, 0.37], color=colour, linewidth=1, clip_on=False)
        axes.text(middle, top, words, ha="center", va="top", size=canvas.SMALL, color=canvas.INK)
    return figure


def _title(finding: Finding, shares: dict[str, float], seconds: float) -> str:
    epochs, steps = (num.number(finding.evidence.get(key)) for key in ("epochs", "steps"))
    if math.isfinite(epochs):
        work = f"{num.short(epochs)} epochs"
    elif math.isfinite(steps):
        work = f"{num.short(steps)} steps"
    else:
        work = "The run"
    part = shares.get("training", 0.0) / sum(shares.values())
    return f"{work} in {text.duration(seconds)}: {num.percent(part)} of the time goes into training"
