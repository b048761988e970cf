"""Numbers and values as people read them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII_BLOCKS = "_.-=+*%#"
MISSING = "–"

# Lists under these names are sizes of one thing: 28 × 28 × 1.
_SHAPES = ("shape", "size")
# Pairs under these names are bounds: 0 to 255.
_RANGES = ("range", "bounds", "interval")


def number(value: float | int) -> str:
    """`10,000`, `0.9312`, `1.2e-05`; NaN and infinities in words."""
    if isinstance(value, int):
        return f"{value:,}"
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "infinite" if value > 0 else "-infinite"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def duration(seconds: float | None) -> str:
    """`0.12 s`, `71.3 s`, `12 min 30 s`, `3 h 20 min`; a dash for what is not known."""
    if seconds is None or math.isnan(seconds):
        return MISSING
    if math.isinf(seconds):
        return "no limit"
    if seconds < 9.995:
        return f"{seconds:.2f} s"
    if seconds < 119.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 7200:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(whole / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def words(name: str) -> str:
    """A key as words: `image_shape` → `image shape`."""
    return name.replace("_", " ").replace(".", " · ")


def value(item: Any, name: str = "") -> str:
    """Any value ready for JSON in one line.

    Args:
        item: The value.
        name: Its key, which tells a shape from a range from a plain list.
    """
    if item is None:
        return MISSING
    if isinstance(item, bool):
        return "yes" if item else "no"
    if isinstance(item, int | float):
        return number(item)
    if isinstance(item, Mapping):
        return ", ".join(f"{words(str(key))} {value(part, str(key))}" for key, part in item.items())
    if isinstance(item, Sequence) and not isinstance(item, str):
        return _list(item, name)
    return str(item)


def _list(items: Sequence[Any], name: str) -> str:
    parts = [value(item) for item in items]
    if not parts:
        return "none"
    if name.endswith(_SHAPES) and len(parts) <= 4:
        return " × ".join("any" if part == MISSING else part for part in parts)
    if name.endswith(_RANGES) and len(parts) == 2:
        return f"{parts[0]} to {parts[1]}"
    if len(parts) > 2 and len(set(parts)) == 1:
        return f"{len(parts)} × {parts[0]}"
    if len(parts) > 12:
        return f"{', '.join(parts[:5])}, … {parts[-1]} ({len(parts)} in all)"
    return ", ".join(parts)


def flat(facts: Mapping[str, Any], above: str = "") -> Iterable[tuple[str, str]]:
    """Rows `(name, value)` of nested facts; short mappings of plain values stay in one row."""
    for key, item in facts.items():
        name = f"{above} {words(str(key))}".strip()
        line = value(item, str(key))
        if isinstance(item, Mapping) and item and len(line) > 48:
            yield from flat(item, name)
        else:
            yield name, line


def is_curve(item: Any, least: int = 5) -> bool:
    """Whether a value is a list of at least so many numbers, and so worth drawing."""
    return (
        isinstance(item, Sequence)
        and not isinstance(item, str)
        and len(item) >= least
        and all(isinstance(x, int | float) or x is None for x in item)
        and sum(x is not None and math.isfinite(x) for x in item) >= 2
    )


def is_axis(items: Sequence[float | None]) -> bool:
    """Whether values rise by equal steps or equal factors, as an axis does."""
    known = [x for x in items if x is not None]
    if len(known) != len(items) or not all(a < b for a, b in itertools.pairwise(known)):
        return False
    steps = [b - a for a, b in itertools.pairwise(known)]
    factors = [b / a for a, b in itertools.pairwise(known)] if known[0] > 0 else [1.0, 2.0]
    return any(max(kind) - min(kind) < 1e-3 * max(kind) for kind in (steps, factors))


def curve(items: Sequence[float | None], width: int = 24, *, ascii_only: bool = False) -> str:
    """A line of blocks, low to high; places without a finite number show `·`.

    Longer series are cut into `width` equal parts and each part's mean is drawn.
    """
    blocks, gap = (ASCII_BLOCKS, "?") if ascii_only else (BLOCKS, "·")
    finite = [math.nan if x is None or not math.isfinite(x) else float(x) for x in items]
    if len(finite) > width:
        edges = [round(i * len(finite) / width) for i in range(width + 1)]
        finite = [_mean(finite[a:b]) for a, b in itertools.pairwise(edges)]
    known = [x for x in finite if not math.isnan(x)]
    if not known:
        return gap * len(finite)
    low, high = min(known), max(known)
    scale = (len(blocks) - 1) / (high - low) if high > low else 0.0
    return "".join(gap if math.isnan(x) else blocks[round((x - low) * scale)] for x in finite)


def _mean(items: Sequence[float]) -> float:
    known = [x for x in items if not math.isnan(x)]
    return sum(known) / len(known) if known else math.nan
