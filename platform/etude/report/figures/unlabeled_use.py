"""What images without labels are for: each trial against what it is held against."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from etude.report import text
from etude.report.figures import _canvas as canvas
from etude.report.figures import _numbers as num

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from etude.findings import Finding

NAMES = {
    "none": "labels\nalone",
    "pretrained": "pre-\ntraining",
    "noisy_student": "noisy\nstudent",
    "pretrained_noisy_student": "both",
}


def draw(finding: Finding) -> Figure | None:
    """How losses differ, with what would be chance, and the metric of each trial."""
    rows = num.mappings(finding.evidence.get("arms"))
    tried = [row for row in rows if math.isfinite(num.number(row.get("difference")))]
    if not tried:
        return None
    kept = str(finding.changes.get("method", "none"))
    figure = canvas.new(_title(kept), 3.0)
    axes = canvas.panel(figure, 0.75, 0.65, 3.5, 1.85)
    canvas.heading(axes, "change of the held-out loss, ± what may be chance")
    _differences(axes, tried, kept)
    scores = canvas.panel(figure, 5.1, 0.65, 2.7, 1.85)
    metric = text.words(str(finding.evidence.get("monitor") or "metric"))
    canvas.heading(scores, f"{metric} of held-out samples")
    _scores(scores, rows, kept)
    return figure


def _differences(axes: Axes, rows: Sequence[Mapping[str, Any]], kept: str) -> None:
    ends, labels = [0.0], []
    for place, row in enumerate(rows):
        mean, arm = num.number(row.get("difference")), str(row.get("arm") or "")
        bound = num.number(row.get("bound"))
        reach = (bound if math.isfinite(bound) else 2.8) * num.number(row.get("error"))
        if math.isfinite(reach):
            colour = canvas.BLUE if arm == kept else canvas.MUTED
            axes.plot([place, place], [mean - reach, mean + reach], color=colour, linewidth=1)
            ends += [mean - reach, mean + reach]
        ends.append(mean)
        canvas.tried(axes, place, mean, arm == kept, ("adopted", "not adopted"), 6)
        again = "\nagain" if row.get("order") else ""
        labels.append(NAMES.get(arm, text.words(arm)) + again)
    axes.axhline(0.0, color=canvas.RULE, linewidth=1)
    canvas.linear(axes.yaxis, *num.limits(ends))
    axes.set_xlim(-0.6, len(rows) - 0.4)
    axes.set_xticks(range(len(rows)), labels=labels)
    axes.grid(False, axis="x")


def _scores(axes: Axes, rows: Sequence[Mapping[str, Any]], kept: str) -> None:
    arms = list(dict.fromkeys(str(row.get("arm") or "") for row in rows))
    values = []
    for row in rows:
        arm, score = str(row.get("arm") or ""), num.number(row.get("score"))
        if not math.isfinite(score):
            continue
        values.append(score)
        canvas.tried(axes, arms.index(arm), score, arm == kept, ("adopted", "not adopted"), 6)
    canvas.linear(axes.yaxis, *num.limits(values))
    axes.set_xlim(-0.6, len(arms) - 0.4)
    axes.set_xticks(range(len(arms)), labels=[NAMES.get(arm, text.words(arm)) for arm in arms])
    axes.grid(False, axis="x")


def _title(kept: str) -> str:
    if kept == "none":
        return "Images without labels are neither for pre-training nor for a student: no gain"
    words = {
        "pretrained": "the backbone is trained on them first",
        "noisy_student": "a student learns from what a teacher says of them",
        "pretrained_noisy_student": "for pre-training, and for a student of it",
    }
    return f"Images without labels: {words.get(kept, text.words(kept))}"
