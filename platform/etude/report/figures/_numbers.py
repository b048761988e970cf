"""Numbers on their way into a figure: cleaned, smoothed, thinned, and put on axes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from etude.report import text

# Beyond this a number is a fault, and an axis made for it would show nothing else.
MOST = 1e30


def number(item: Any) -> float:
    """The item as a float; NaN for `None` and for all that no axis can hold."""
    if item is None or isinstance(item, str | bool):
        return math.nan
    value = float(item)
    return value if abs(value) <= MOST else math.nan


def positive(item: Any) -> float:
    """The item as a float above 0, as logarithms need it; else NaN."""
    value = number(item)
    return value if value >= 1.0 / MOST else math.nan


def numbers(items: Iterable[Any] | None) -> list[float]:
    """`number` of each item; nothing for `None`."""
    return [number(item) for item in items or ()]


def mappings(items: Iterable[Any] | None) -> list[Mapping[str, Any]]:
    """Those items that are mappings; nothing for `None`."""
    return [item for item in items or () if isinstance(item, Mapping)]


def finite(items: Iterable[float]) -> list[float]:
    """The items that are finite."""
    return [item for item in items if math.isfinite(item)]


def points(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    """Those pairs of which both are finite; what is longer is cut."""
    known = [(a, b) for a, b in zip(x, y, strict=False) if math.isfinite(a) and math.isfinite(b)]
    return [a for a, _ in known], [b for _, b in known]


def limits(values: Iterable[float], pad: float = 0.08) -> tuple[float, float]:
    """An axis' ends around the finite values, also around one or none."""
    known = finite(values)
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    # Values closer than this are one value: ticks between them would all read the same.
    least = 1e-5 * max(abs(low), abs(high))
    if high - low <= least:
        room = 0.1 * max(abs(low), abs(high)) or 1.0
        return low - room, high + room
    return low - pad * (high - low), high + pad * (high - low)


def scores(rows: Iterable[Mapping[str, Any]]) -> tuple[list[float], list[float], list[float]]:
    """The `score` of each row, how far its `error` reaches, and where both end.

    An error that is not known reaches nowhere.
    """
    found = [(number(row.get("score")), abs(number(row.get("error")))) for row in rows]
    reach = [error if math.isfinite(error) else 0.0 for _, error in found]
    means = [score for score, _ in found]
    ends = [s + sign * r for s, r in zip(means, reach, strict=True) for sign in (-1, 1)]
    return means, reach, ends


def log_limits(values: Iterable[float], pad: float = 0.04) -> tuple[float, float]:
    """`limits` of a logarithmic axis."""
    low, high = limits([math.log10(value) for value in finite(values) if value > 0], pad)
    return 10.0**low, 10.0**high


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers between the ends: powers of ten, with 2 and 5 where those are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    powers = range(first, last + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [step * 10.0**power for power in powers for step in steps]
        ticks = [tick for tick in ticks if low <= tick * 1.0001 and tick <= high * 1.0001]
        if len(ticks) <= most:
            return ticks
    return ticks[:: math.ceil(len(ticks) / most)]


def label(value: float) -> str:
    """A number as an axis' tick: `0.001`, `1e-5`, `50,000`, `2e+06`."""
    if not math.isfinite(value):
        return text.MISSING
    if value == 0 or 1e-4 <= abs(value) * 1.0000001 < 1e6:
        return f"{value:,.6f}".rstrip("0").rstrip(".")
    mantissa, _, power = f"{value:.4g}".partition("e")
    return f"{mantissa}e{int(power)}" if power else mantissa


def short(value: float) -> str:
    """A number beside a point: three figures."""
    if not math.isfinite(value):
        return text.MISSING
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.3g}"


def precise(value: float) -> str:
    """A result as text: four figures."""
    return short(value) if abs(value) >= 1000 else f"{value:.4g}"


def percent(share: float) -> str:
    """`23 %`."""
    return f"{100.0 * share:.0f} %"


def smooth(x: Sequence[float], y: Sequence[float], width: float) -> list[float]:
    """Mean of `y` around each `x`, weighted by a Gaussian of the distance.

    Args:
        x: Finite places, shape `(n,)`.
        y: Finite values, shape `(n,)`.
        width: Standard deviation of the Gaussian, in units of `x`.

    Returns:
        The means, shape `(n,)`.
    """
    import numpy as np

    if not len(x):
        return []
    places, values = np.asarray(x, np.float64), np.asarray(y, np.float64)
    distance = (places[None, :] - places[:, None]) / width
    weight = np.exp(-0.5 * distance**2)
    means: list[float] = (weight @ values / weight.sum(axis=1)).tolist()
    return means


def thin(
    x: Sequence[float], y: Sequence[float], most: int = 500
) -> tuple[list[float], list[float]]:
    """At most so many points: the means of neighbours where there are more."""
    if len(x) <= most:
        return list(x), list(y)
    edges = [round(i * len(x) / most) for i in range(most + 1)]
    parts = [(x[a:b], y[a:b]) for a, b in itertools.pairwise(edges)]
    return [sum(a) / len(a) for a, _ in parts], [sum(b) / len(b) for _, b in parts]


def at(x: Sequence[float], y: Sequence[float], place: float) -> float:
    """The line through the points `(x, y)` at `place`; `x` rises. Flat beyond its ends."""
    for (x0, y0), (x1, y1) in itertools.pairwise(zip(x, y, strict=True)):
        if x0 <= place <= x1 and x1 > x0:
            return y0 + (y1 - y0) * (place - x0) / (x1 - x0)
    if not len(x):
        return math.nan
    return y[0] if place < x[0] else y[-1]


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Places moved as little as needed, so that neighbours are at least `gap` apart.

    Those that come too close form a group, evenly spaced around their mean place; the order
    stays.
    """
    order = sorted(range(len(places)), key=lambda i: places[i])
    groups: list[list[int]] = []

    def ends(group: list[int]) -> tuple[float, float]:
        middle = sum(places[i] for i in group) / len(group)
        half = 0.5 * gap * (len(group) - 1)
        return middle - half, middle + half

    for index in order:
        groups.append([index])
        while len(groups) > 1 and ends(groups[-1])[0] - ends(groups[-2])[1] < gap:
            last = groups.pop()
            groups[-1] += last
    moved = [0.0] * len(places)
    for group in groups:
        start = ends(group)[0]
        for rank, index in enumerate(group):
            moved[index] = start + gap * rank
    return moved


def rows(spans: Sequence[tuple[float, float]], gap: float) -> list[int]:
    """For each span a row, 0 first, in which it overlaps none before it."""
    taken: list[list[tuple[float, float]]] = []
    found = []
    for low, high in spans:
        row = 0
        while row < len(taken) and any(low < b + gap and a < high + gap for a, b in taken[row]):
            row += 1
        if row == len(taken):
            taken.append([])
        taken[row].append((low, high))
        found.append(row)
    return found
