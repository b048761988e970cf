"""What choosing samples did: τ and the gate, scores at the end, and whom it drew."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from etude.report.figures import _canvas as canvas
from etude.report.figures import _numbers as num
from etude.report.figures._pictures import decoded

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from etude.findings import Finding

# Inches: the height of a panel, and of a picture in the two rows.
_TALL, _PICTURE = 1.7, 0.5
# A threshold beyond is one that no τ reaches.
_NEVER = 1e6


def draw(finding: Finding) -> Figure | None:
    """τ with the gate over the run, histograms of scores and of draws, and samples."""
    evidence = finding.evidence
    epochs, taus = num.numbers(evidence.get("epochs")), num.numbers(evidence.get("taus"))
    if not num.points(epochs, taus)[0]:
        return None
    picture = decoded(evidence.get("pictures"))
    rows = 0.0 if picture is None else 2 * _PICTURE + 0.75
    figure = canvas.new(_title(evidence), _TALL + 0.5 + 0.3 + rows)
    axes = canvas.panel(figure, 0.75, 0.5 + rows, 2.75, _TALL)
    _course(axes, epochs, taus, evidence)
    _scores(canvas.panel(figure, 4.6, 0.5 + rows, 1.35, _TALL), evidence.get("scores") or {})
    _draws(canvas.panel(figure, 6.55, 0.5 + rows, 1.35, _TALL), evidence.get("draws") or {})
    if picture is not None:
        _samples(figure, picture, evidence)
    return figure


def _title(evidence: Mapping[str, Any]) -> str:
    shares = num.finite(num.numbers(evidence.get("open")))
    share = sum(shares) / len(shares) if shares else math.nan
    told = "Samples chosen"
    if math.isfinite(share):
        told = f"Samples chosen in {num.percent(share)} of the steps"
    worth, promised = num.number(evidence.get("speed_up")), num.number(evidence.get("promised"))
    if not math.isfinite(worth):
        return told
    told += f": worth {num.short(worth)} of their cost"
    return f"{told} ({num.short(promised)} predicted)" if math.isfinite(promised) else told


def _course(
    axes: Axes, epochs: Sequence[float], taus: Sequence[float], evidence: Mapping[str, Any]
) -> None:
    """τ at the end of each segment; shaded by the share of its steps with the gate open."""
    canvas.heading(axes, "τ; shaded where samples were chosen")
    shares = num.numbers(evidence.get("open"))
    for start, end, share in zip([0.0, *epochs], epochs, shares, strict=False):
        if share > 0.0 and start < end < math.inf:
            axes.axvspan(start, end, color=canvas.BLUE, alpha=0.12 * min(1.0, share), linewidth=0)
    axes.plot(*num.points(epochs, taus), color=canvas.BLUE, linewidth=1.4, label="τ")
    least = num.number(evidence.get("threshold"))
    ends = [*num.finite(taus), 1.0]
    least = least if 0.0 < least < _NEVER else math.nan
    if math.isfinite(least):
        ends.append(least)
        axes.axhline(least, color=canvas.VERMILLION, linewidth=1, linestyle="--", label="threshold")
    canvas.linear(axes.yaxis, *num.limits(ends))
    canvas.linear(axes.xaxis, *num.limits([0.0, *num.finite(epochs)], 0.0))
    canvas.line_labels(axes, [(least, "opens above", canvas.VERMILLION)])
    axes.set_xlabel("epoch")


def _scores(axes: Axes, found: Mapping[str, Any]) -> None:
    canvas.heading(axes, "scores at the end")
    edges, counts = num.numbers(found.get("edges")), num.numbers(found.get("counts"))
    rising = all(0.0 < a < b < math.inf for a, b in itertools.pairwise(edges))
    if len(edges) != len(counts) + 1 or not rising or not num.finite(counts):
        canvas.nothing(axes, "none above 0")
        axes.set_axis_off()
        return
    axes.stairs(counts, edges, fill=True, color=canvas.BLUE, label="scores")
    canvas.logarithmic(axes.xaxis, *num.log_limits(edges, 0.08))
    canvas.linear(axes.yaxis, 0.0, num.limits([0.0, *num.finite(counts)])[1], most=4)
    axes.set_xlabel("score")


def _draws(axes: Axes, found: Mapping[str, Any]) -> None:
    canvas.heading(axes, "times drawn")
    known = num.numbers(found.get("times")), num.numbers(found.get("samples"))
    times, samples = num.points(*known)
    if not times:
        canvas.nothing(axes, "not known of a stream")
        axes.set_axis_off()
        return
    axes.bar(times, samples, width=0.9, color=canvas.BLUE, label="samples")
    canvas.linear(axes.xaxis, min(times) - 0.6, max(times) + 0.6, most=4)
    canvas.linear(axes.yaxis, 0.0, num.limits([0.0, *samples])[1], most=4)
    axes.set_xlabel("times")


def _samples(figure: Figure, picture: Any, evidence: Mapping[str, Any]) -> None:
    """Two rows of thumbnails: those drawn most, and those drawn least."""
    most, least = (num.finite(num.numbers(evidence.get(name))) for name in ("most", "least"))
    wide = _PICTURE * max(1, len(most))
    half = picture.shape[0] // 2
    for bottom, part, words, counts in (
        (_PICTURE + 0.4, picture[:half], "drawn most", most),
        (0.1, picture[half:], "drawn least", least),
    ):
        axes = canvas.panel(figure, 1.7, bottom, wide, _PICTURE)
        axes.imshow(part, aspect="auto")
        axes.axis("off")
        told = f"{words}: {_span(counts)} times" if counts else words
        canvas.heading(axes, told)


def _span(counts: Sequence[float]) -> str:
    low, high = min(counts), max(counts)
    return num.short(low) if low == high else f"{num.short(low)} to {num.short(high)}"
