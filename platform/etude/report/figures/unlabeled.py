"""Images without labels: how far off labelled features are, and what counting them gives."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from etude.report import text
from etude.report.figures import _canvas as canvas
from etude.report.figures import _numbers as num

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from etude.findings import Finding


def draw(finding: Finding) -> Figure | None:
    """The distance before each normalization with its control, and the change of the loss."""
    evidence = finding.evidence
    gaps = num.mappings((evidence.get("gaps") or {}).values())
    forms = {str(name): num.numbers(pair) for name, pair in (evidence.get("forms") or {}).items()}
    forms = {name: pair for name, pair in forms.items() if len(pair) == 2}
    if not gaps or not forms:
        return None
    figure = canvas.new(_title(finding), 2.9)
    axes = canvas.panel(figure, 0.75, 0.5, 3.6, 1.95)
    canvas.heading(axes, "distance of labelled features, in deviations")
    far = [num.number(gap.get("wasserstein")) for gap in gaps]
    usual = [num.number(gap.get("control")) for gap in gaps]
    layers = [float(place) for place in range(1, len(gaps) + 1)]
    for values, colour in ((usual, canvas.MUTED), (far, canvas.BLUE)):
        axes.plot(
            *num.points(layers, values), color=colour, linewidth=1.4, marker="o", markersize=3
        )
    canvas.linear(axes.yaxis, *num.limits([*num.finite([*far, *usual]), 0.0]))
    canvas.linear(axes.xaxis, 0.5, len(gaps) + 0.5)
    canvas.line_labels(
        axes, [(far[-1], "labelled", canvas.BLUE), (usual[-1], "by chance", canvas.MUTED)]
    )
    axes.set_xlabel("batch normalization, in order")
    bars = canvas.panel(figure, 5.9, 0.5, 1.9, 1.95)
    canvas.heading(bars, "change of the loss")
    ends = [0.0]
    for place, (name, (mean, error)) in enumerate(forms.items()):
        kept = finding.changes.get("batch_norm") == name
        if not math.isfinite(mean):
            continue
        colour = canvas.BLUE if kept else canvas.MUTED
        if math.isfinite(error):
            bars.plot([place, place], [mean - error, mean + error], color=colour, linewidth=1)
            ends += [mean - error, mean + error]
        ends.append(mean)
        canvas.tried(bars, place, mean, kept, ("adopted", "not adopted"), 6)
    bars.axhline(0.0, color=canvas.RULE, linewidth=1)
    canvas.linear(bars.yaxis, *num.limits(ends))
    bars.set_xlim(-0.6, len(forms) - 0.4)
    bars.set_xticks(
        range(len(forms)), labels=[text.words(name).replace(" ", "\n") for name in forms]
    )
    bars.grid(False, axis="x")
    return figure


def _title(finding: Finding) -> str:
    form = finding.changes.get("batch_norm")
    if form is None:
        return "Images without labels do not count in the statistics: it would not help"
    return f"Images without labels count in the statistics: {text.words(str(form))}"
