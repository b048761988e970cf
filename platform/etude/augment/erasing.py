"""Erasing: parts of an image are covered.

Each function takes

    s: `(batch,)` strength in [0, 1]; 0 covers nothing.
    u: `(batch, 4)` uniform draws.
    frame: (height, width).

and returns which pixels are covered, boolean, as one mask over lines `(batch, height)` and one
over columns `(batch, width)`: covered is where both are true.
"""

from __future__ import annotations

import math
from typing import Any

from keras import ops

from etude.augment._base import by_name

Frame = tuple[int, int]

MOST_AREA = 0.5
MOST_RATIO = 10.0 / 3.0
MOST_GRID = 0.8
"""What strength 1 is: the share of the area of random erasing, how far its sides' ratio is from
1, and the share of a period that the grid covers."""


def cutout(s: Any, u: Any, frame: Frame) -> tuple[Any, Any]:
    """A square with a side of up to the shorter side, centred anywhere (DeVries 2017)."""
    side = s * float(min(frame))
    return _between(u[:, 0], side, frame[0], whole=False), _between(
        u[:, 1], side, frame[1], whole=False
    )


def random_erasing(s: Any, u: Any, frame: Frame) -> tuple[Any, Any]:
    """A rectangle of up to half the area within the image (Zhong et al. 2017)."""
    area = s * (MOST_AREA * frame[0] * frame[1])
    ratio = ops.exp(math.log(MOST_RATIO) * (2.0 * u[:, 2] - 1.0))
    tall, wide = ops.sqrt(area * ratio), ops.sqrt(area / ratio)
    return _between(u[:, 0], tall, frame[0], whole=True), _between(
        u[:, 1], wide, frame[1], whole=True
    )


def grid_mask(s: Any, u: Any, frame: Frame) -> tuple[Any, Any]:
    """Squares in a grid with a period of a quarter to half of the side (Chen et al. 2020)."""
    period = min(frame) * (0.25 + 0.25 * u[:, 2])
    return (
        _periodic(u[:, 0], period, s * MOST_GRID, frame[0]),
        _periodic(u[:, 1], period, s * MOST_GRID, frame[1]),
    )


TRANSFORMS = by_name("erasing", globals())


def covered(lines: Any, columns: Any) -> Any:
    """`(batch, height, width, 1)`: where both masks are true."""
    return ops.logical_and(lines[:, :, None, None], columns[:, None, :, None])


def _between(u: Any, length: Any, side: int, *, whole: bool) -> Any:
    """Pixels whose middle lies in a stretch of that length around a drawn place."""
    if whole:
        length = ops.minimum(length, float(side))
        centre = length / 2.0 + u * (side - length)
    else:
        centre = u * float(side)
    places = ops.arange(side, dtype="float32") + 0.5
    return ops.abs(places[None] - centre[:, None]) < length[:, None] / 2.0


def _periodic(u: Any, period: Any, share: Any, side: int) -> Any:
    places = ops.arange(side, dtype="float32") + 0.5
    phase = ops.mod(places[None] / period[:, None] + u[:, None], 1.0)
    return phase < share[:, None]
