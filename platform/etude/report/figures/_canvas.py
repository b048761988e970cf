"""What all figures share: their size, colours, axes and labels, and how they become files.

A figure is 8 inches wide: at 100 dots an inch its letters are as large as a page's. Places are
in inches from the lower left corner, set by hand: an automatic layout would draw every figure
several times, and would move what was looked at.
"""

from __future__ import annotations

import contextlib
import io
import math
import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from etude.report.figures import _numbers as num

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

WIDTH, DOTS = 8.0, 120

# Okabe and Ito's palette, told apart with every kind of colour vision.
BLUE, ORANGE, GREEN, VERMILLION = "#0072b2", "#e69f00", "#009e73", "#d55e00"
SKY, PURPLE = "#56b4e9", "#cc79a7"
# What a page replaces by its own ink and paper.
INK, MUTED, RULE, PAPER = "#1c1c21", "#66666f", "#d9d9de", "#fefefe"
IDLE = "#a9a9b2"
LINES = (BLUE, VERMILLION, GREEN, PURPLE, SKY, ORANGE, INK)

TITLE, BODY, SMALL = 11.0, 9.0, 8.0

_STYLE: dict[str, Any] = {
    # The font that comes with matplotlib: the same widths on every machine.
    "font.family": ["DejaVu Sans"],
    "font.size": BODY,
    "text.color": INK,
    "text.parse_math": False,  # names of metrics and notes may hold dollar signs
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.labelcolor": MUTED,
    "axes.labelsize": SMALL,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "figure.facecolor": PAPER,
    # Text stays text: a page can be searched and read aloud, and is written in half the time.
    "svg.fonttype": "none",
    "text.hinting": "none",
    "svg.hashsalt": "etude",
    "path.simplify": True,
}


# Groups of settings that change how a figure looks.
_LOOKS = (
    *("axes.", "figure.", "font.", "grid.", "hatch.", "image.", "lines.", "markers.", "patch."),
    *("path.", "savefig.", "svg.", "text.", "xtick.", "ytick."),
)


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Étude's look, whatever the program around has set; its settings come back after."""
    import matplotlib

    current: Any = matplotlib.rcParams
    default: Any = matplotlib.rcParamsDefault
    looks = [name for name in default if name.startswith(_LOOKS)]
    # Setting one takes longer than comparing all.
    changed = {name: default[name] for name in looks if current[name] != default[name]}
    own: Any = {**changed, **_STYLE}
    with matplotlib.rc_context(own):
        yield


def new(title: str, height: float) -> Figure:
    """An empty figure with a title above `height` inches for panels."""
    from matplotlib.figure import Figure

    lines = textwrap.wrap(title, 80) or [""]
    whole = height + 0.17 + 0.2 * len(lines)
    figure = Figure(figsize=(WIDTH, whole), dpi=DOTS)
    figure.text(
        0.12 / WIDTH,
        1.0 - 0.1 / whole,
        "\n".join(lines),
        size=TITLE,
        weight="bold",
        va="top",
        linespacing=1.25,
    )
    return figure


def panel(
    figure: Figure, left: float, bottom: float, width: float, height: float, **kind: Any
) -> Axes:
    """Axes at a place in inches."""
    whole = figure.get_figheight()
    place = (left / WIDTH, bottom / whole, width / WIDTH, height / whole)
    return figure.add_axes(place, **kind)


def size(axes: Axes) -> tuple[float, float]:
    """Width and height of a panel in inches."""
    dots = axes.figure.dpi
    return axes.bbox.width / dots, axes.bbox.height / dots


def linear(axis: Axis, low: float, high: float, most: int = 5) -> None:
    """A linear axis between two ends, with at most so many round ticks within them."""
    from matplotlib.ticker import MaxNLocator

    ticks = MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    inside = [float(tick) for tick in ticks if low <= tick <= high]
    axis.axes.set(**{f"{_name(axis)}lim": (low, high)})
    axis.set_ticks(inside, labels=[num.label(tick) for tick in inside])


def logarithmic(axis: Axis, low: float, high: float, ticks: Sequence[float] | None = None) -> None:
    """A logarithmic axis between two ends, with plain numbers for ticks."""
    from matplotlib.ticker import NullLocator

    axis.axes.set(**{f"{_name(axis)}scale": "log", f"{_name(axis)}lim": (low, high)})
    width, height = size(axis.axes)
    most = int(width / 0.62) if _name(axis) == "x" else int(height / 0.3)
    chosen = num.log_ticks(low, high, max(2, most)) if ticks is None else list(ticks)
    axis.set_ticks(chosen, labels=[num.label(tick) for tick in chosen])
    axis.set_minor_locator(NullLocator())


def _name(axis: Axis) -> str:
    return "x" if axis is axis.axes.xaxis else "y"


def length(words: str, points: float) -> float:
    """About how many inches a line of text takes, rather more than less."""
    return 0.62 * points / 72.0 * len(words)


ROWS = 3
"""Most rows of labels above a panel; they take `HEAD` inches."""
HEAD = 0.5


def marks(axes: Axes, lines: Sequence[tuple[float, str, str, bool]]) -> None:
    """Thin vertical lines, their labels above the panel in up to `ROWS` rows.

    Args:
        axes: The panel; its x axis has its scale and limits.
        lines: Place, label, colour, and whether it is what the figure is about.
    """
    width, height = size(axes)
    low, high = axes.get_xlim()
    scale = axes.transScale.transform
    first, last = scale((low, 1.0))[0], scale((high, 1.0))[0]
    shown, spans = [], []
    for place, words, colour, strong in lines:
        if not (math.isfinite(place) and low <= place <= high):
            continue
        middle = (scale((place, 1.0))[0] - first) / (last - first) * width
        half = 0.5 * length(words, SMALL) * (1.08 if strong else 1.0)
        middle_of_text = min(max(middle, half - 0.1), width - half + 0.1)
        shown.append((place, words, colour, strong, middle_of_text))
        spans.append((middle_of_text - half, middle_of_text + half))
    for (place, words, colour, strong, middle), row in zip(
        shown, num.rows(spans, 0.06), strict=True
    ):
        if row >= ROWS:  # it would reach into the title
            words, row = "", 0
        top = 1.0 + (0.05 + 0.15 * row) / height
        axes.plot(
            [place, place],
            [0.0, top],
            transform=axes.get_xaxis_transform(),
            color=colour,
            linewidth=1.4 if strong else 0.8,
            linestyle="-" if strong else (0, (4, 3)),
            clip_on=False,
            label=f"mark: {words}",
            zorder=1.5,
        )
        axes.text(
            middle / width,
            top + 0.02 / height,
            words,
            transform=axes.transAxes,
            size=SMALL,
            weight="bold" if strong else "normal",
            color=colour,
            ha="center",
            va="bottom",
            # Lines to labels further up pass behind.
            bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.8},
        )


def line_labels(axes: Axes, ends: Sequence[tuple[float, str, str]], right: float = 0.06) -> None:
    """Labels beside the right ends of lines, none on another.

    Args:
        axes: The panel; its y axis is linear and has its limits.
        ends: Height of each line's end, label, colour.
        right: Distance from the panel in inches.
    """
    width, height = size(axes)
    low, high = axes.get_ylim()
    known = [end for end in ends if math.isfinite(end[0])]
    places = [(min(max(y, low), high) - low) / (high - low) * height for y, _, _ in known]
    for place, (_, words, colour) in zip(num.spread(places, 0.155), known, strict=True):
        axes.text(
            1.0 + right / width,
            place / height,
            words,
            transform=axes.transAxes,
            size=SMALL,
            color=colour,
            va="center",
        )


def dot(axes: Axes, x: float, y: float, colour: str, name: str) -> None:
    """The point that a figure is about, set off from the line beneath it."""
    axes.plot([x], [y], "o", color=colour, ms=8, mec=PAPER, label=name, zorder=4, clip_on=False)


def tried(axes: Axes, x: float, y: float, kept: bool, names: tuple[str, str], size: float) -> None:
    """The point of something that was tried: full where it was kept, else hollow.

    Args:
        axes: Where.
        x: Its place.
        y: Its place.
        kept: Whether it was kept.
        names: What the legend says of what was kept, and of what was not.
        size: In points.
    """
    colour = BLUE if kept else MUTED
    inside = colour if kept else PAPER
    name = names[0] if kept else names[1]
    axes.plot([x], [y], "o", color=colour, ms=size, mfc=inside, label=name, zorder=3)


def heading(axes: Axes, words: str) -> None:
    """What a panel shows, above its left edge."""
    _, height = size(axes)
    axes.text(
        0.0,
        1.0 + 0.08 / height,
        words,
        transform=axes.transAxes,
        size=SMALL,
        color=MUTED,
        va="bottom",
    )


def nothing(axes: Axes, words: str) -> None:
    """Says in a panel that there is nothing to see in it."""
    axes.text(
        0.5, 0.5, words, transform=axes.transAxes, color=MUTED, size=SMALL, ha="center", va="center"
    )


def png(figure: Figure) -> bytes:
    """The figure as PNG; the same figure gives the same bytes."""
    stream = io.BytesIO()
    with style():
        figure.savefig(stream, format="png", dpi=DOTS, metadata={"Software": None})
    return stream.getvalue()


def svg(figure: Figure) -> str:
    """The figure as SVG, without dates; the same figure gives the same text."""
    stream = io.BytesIO()
    nobody = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with style():
        figure.savefig(stream, format="svg", facecolor="none", metadata=nobody)
    return re.sub(r"\s+$", "", stream.getvalue().decode(), flags=re.MULTILINE)
