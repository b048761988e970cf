"""The course of training: loss, monitored metric and learning rate, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from etude.report import text
from etude.report.figures import _canvas as canvas
from etude.report.figures import _numbers as num

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LEFT, _RIGHT = 0.85, 1.35


def draw(
    history: Mapping[str, Sequence[Any]],
    monitor: str | None = None,
    mode: str | None = None,
    returned: float | None = None,
) -> Figure | None:
    """How the run went.

    Args:
        history: Each figure once per evaluation, by Keras' names, and `"epoch"`: how far
            the run was then. Without it evaluations are counted.
        monitor: By what the best weights were chosen; the first `val_` metric if left out.
        mode: `"max"` or `"min"`: which way the monitor is better.
        returned: The epoch whose weights the model ends with; without it, the one with the
            best figure is marked.

    Returns:
        The figure, or `None` if there is nothing to draw.
    """
    columns = {name: num.numbers(values) for name, values in history.items()}
    rows = max((len(values) for values in columns.values()), default=0)
    epochs = columns.pop("epoch", [])
    if not num.finite(epochs):
        epochs = [float(i) for i in range(1, rows + 1)]
    columns = {name: values for name, values in columns.items() if num.finite(values)}
    monitor = _monitor(columns, monitor)
    metric = monitor.removeprefix("val_") if monitor else None
    if metric == "loss":
        metric = None
    panels = [name for name in ("loss", metric) if name and _pair(columns, name)]
    if not panels:
        return None
    rate = columns.get("learning_rate", [])
    noise = [value if value > 0 else math.nan for value in columns.get("noise_scale", [])]
    noise = noise if len(num.finite(noise)) > 1 else []
    best = _best(epochs, columns.get(monitor or "", []), mode or _mode(monitor), returned)
    low = 0.5 + (0.85 if rate else 0.0) + (0.85 if noise else 0.0)
    figure = canvas.new(_title(monitor, best, rows, returned), low + 1.85 * len(panels))
    ends = num.limits([0.0, *epochs], 0.0)
    drawn = []
    for index, name in enumerate(panels):
        axes = _panel(figure, low + 1.85 * (len(panels) - 1 - index), 1.65)
        _curves(axes, epochs, _pair(columns, name), text.words(name), ends)
        if best is not None and monitor in _pair(columns, name):
            label = "best" if returned is None else "returned"
            canvas.dot(axes, *best, canvas.VERMILLION, label)
        drawn.append(axes)
    if noise:
        drawn.append(_panel(figure, 0.5 + (0.85 if rate else 0.0), 0.6))
        _noise(drawn[-1], *num.points(epochs, noise), ends)
    if rate:
        drawn.append(_panel(figure, 0.5, 0.6))
        _rate(drawn[-1], *num.thin(*num.points(epochs, rate)), ends)
    for axes in drawn[:-1]:
        axes.tick_params(labelbottom=False)
    drawn[-1].set_xlabel("epoch")
    return figure


def _panel(figure: Figure, bottom: float, height: float) -> Axes:
    return canvas.panel(figure, _LEFT, bottom, canvas.WIDTH - _LEFT - _RIGHT, height)


def _monitor(columns: Mapping[str, Sequence[float]], monitor: str | None) -> str | None:
    if monitor in columns:
        return monitor
    metrics = [name for name in columns if name.startswith("val_") and name != "val_loss"]
    return next(iter(metrics), "val_loss" if "val_loss" in columns else None)


def _mode(monitor: str | None) -> str:
    return "min" if monitor is None or "loss" in monitor else "max"


def _pair(columns: Mapping[str, Sequence[float]], name: str) -> dict[str, Sequence[float]]:
    return {key: columns[key] for key in (name, f"val_{name}") if key in columns}


def _best(
    epochs: Sequence[float], values: Sequence[float], mode: str, returned: float | None
) -> tuple[float, float] | None:
    x, y = num.points(epochs, values)
    if not y or (returned is not None and returned not in x):
        return None
    if returned is not None:
        return returned, y[x.index(returned)]
    best = min(y) if mode == "min" else max(y)
    return x[y.index(best)], best


def _title(
    monitor: str | None, best: tuple[float, float] | None, rows: int, returned: float | None
) -> str:
    if monitor is None or best is None:
        return f"The course of training: {rows} {'row' if rows == 1 else 'rows'}"
    name = text.words(monitor).replace("val ", "validation ", 1)
    if returned is not None:
        return f"Weights of epoch {num.short(best[0])} are returned, {name} {num.precise(best[1])}"
    return f"The best {name} is {num.precise(best[1])}, at epoch {num.short(best[0])}"


def _curves(
    axes: Axes,
    epochs: Sequence[float],
    pair: Mapping[str, Sequence[float]],
    name: str,
    ends: tuple[float, float],
) -> None:
    """Training and validation of one figure, each named at its end."""
    drawn = {key: num.points(epochs, values) for key, values in pair.items()}
    # A loss that exploded once would press the rest of the course flat.
    shown = sorted(value for _, y in drawn.values() for value in y)
    low, high = num.limits(shown)
    middle, upper = shown[len(shown) // 2], shown[(9 * len(shown)) // 10]
    if high - middle > 20 * max(upper - shown[0], 1e-12):
        low, high = num.limits([value for value in shown if value <= upper], 0.2)
    canvas.linear(axes.xaxis, *ends, most=8)
    canvas.linear(axes.yaxis, low, high)
    labels = []
    for key, (x, y) in drawn.items():
        judged = key.startswith("val_")
        colour = canvas.BLUE if judged else canvas.IDLE
        marker = "o-" if len(x) < 12 and judged else ".-" if len(x) < 3 else "-"
        axes.plot(*num.thin(x, y), marker, color=colour, markersize=4, label=key)
        ink = canvas.BLUE if judged else canvas.MUTED
        labels.append((y[-1], "validation" if judged else "training", ink))
    canvas.line_labels(axes, labels)
    axes.set_ylabel(name)


def _noise(axes: Axes, x: Sequence[float], y: Sequence[float], ends: tuple[float, float]) -> None:
    """The gradient noise scale in samples, which grows by orders of magnitude."""
    canvas.linear(axes.xaxis, *ends, most=8)
    low, high = 0.7 * min(y), 1.4 * max(y)
    canvas.logarithmic(axes.yaxis, low, high)
    line = ".-" if len(x) < 3 else "-"
    axes.plot(x, y, line, color=canvas.PURPLE, label="noise_scale")
    axes.text(
        1.0 + 0.06 / canvas.size(axes)[0],
        math.log(y[-1] / low) / math.log(high / low),
        "noise scale",
        transform=axes.transAxes,
        size=canvas.SMALL,
        color=canvas.PURPLE,
        va="center",
    )


def _rate(axes: Axes, x: Sequence[float], y: Sequence[float], ends: tuple[float, float]) -> None:
    canvas.linear(axes.xaxis, *ends, most=8)
    canvas.linear(axes.yaxis, 0.0, num.limits([0.0, *y])[1], most=3)
    line = ".-" if len(x) < 3 else "-"
    axes.plot(x, y, line, color=canvas.GREEN, label="learning_rate")
    canvas.line_labels(axes, [(y[-1], "learning rate", canvas.GREEN)] if y else [])
