"""Colour that is not linear: each pixel's new value is a function of its old one.

Each function takes

    x: `(batch, height, width, channels)` in [0, 1].
    s: `(batch,)` strength in [0, 1].
    u: `(batch, 4)` uniform draws.

and returns images of the same shape. At strength 0 each is the identity up to rounding; those
images are never passed to it.
"""

from __future__ import annotations

import math
from typing import Any

from keras import ops

from etude.augment._base import by_name, per_image, sign

MOST_GAMMA = 4.0
MOST_BITS = 6.0
"""What strength 1 is: an exponent of 4 or 1/4, and 6 of 8 bits lost."""

LEVELS = 256


def auto_contrast(x: Any, s: Any, u: Any) -> Any:
    """Each channel is stretched to the whole range, by a share `s` of the way.

    A channel of one value stays as it is.
    """
    low = ops.min(x, axis=(1, 2), keepdims=True)
    high = ops.max(x, axis=(1, 2), keepdims=True)
    flat = high - low < 1e-6
    stretched = ops.where(flat, x, (x - low) / ops.where(flat, 1.0, high - low))
    return x + per_image(s) * (stretched - x)


def gamma(x: Any, s: Any, u: Any) -> Any:
    """x^γ with γ from 1/4 to 4."""
    exponent = ops.exp(s * sign(u[:, 0]) * math.log(MOST_GAMMA))
    return ops.power(ops.clip(x, 1e-12, 1.0), per_image(exponent))


def equalize(x: Any, s: Any, u: Any) -> Any:
    """Each channel's histogram over 256 levels is made flat, by a share `s` of the way.

    As PIL's `ImageOps.equalize`: the step is what all levels but the highest hold, over 255.
    """
    shape = ops.shape(x)
    channels = x.shape[3]
    level = ops.cast(ops.round(ops.clip(x, 0.0, 1.0) * (LEVELS - 1.0)), "int32")
    planes = ops.reshape(ops.transpose(level, (0, 3, 1, 2)), (-1, shape[1] * shape[2]))
    count = ops.shape(planes)[0]
    first = ops.reshape(ops.arange(count, dtype="int32") * LEVELS, (-1, 1))
    index = ops.reshape(planes + first, (-1,))
    counts = ops.scatter(
        index[:, None], ops.ones_like(index, dtype="int32"), (shape[0] * channels * LEVELS,)
    )
    histogram = ops.reshape(counts, (-1, LEVELS))
    table = _equalizing(histogram)
    found = ops.take(ops.reshape(table, (-1,)), index, axis=0)
    found = ops.reshape(found, (-1, channels, shape[1], shape[2])) / (LEVELS - 1.0)
    return x + per_image(s) * (ops.transpose(found, (0, 2, 3, 1)) - x)


def solarize(x: Any, s: Any, u: Any) -> Any:
    """Values from 1 - `s` up are inverted."""
    return ops.where(x >= per_image(1.0 - s), 1.0 - x, x)


def posterize(x: Any, s: Any, u: Any) -> Any:
    """The lowest of 8 bits are cleared, up to 6 of them; none below strength 1/12."""
    lost = ops.round(per_image(s) * MOST_BITS)
    step = ops.power(2.0, lost)
    coarse = ops.floor(ops.round(x * (LEVELS - 1.0)) / step) * step / (LEVELS - 1.0)
    return ops.where(lost < 0.5, x, coarse)


TRANSFORMS = by_name("tone", globals())


def _equalizing(histogram: Any) -> Any:
    """Look-up tables `(planes, 256)` of histograms, in levels, float32; PIL's integers."""
    levels = ops.arange(LEVELS, dtype="int32")
    highest = ops.max(ops.where(histogram > 0, levels, -1), axis=1, keepdims=True)
    last = ops.sum(ops.where(levels == highest, histogram, 0), axis=1, keepdims=True)
    total = ops.sum(histogram, axis=1, keepdims=True)
    step = (total - last) // (LEVELS - 1)
    before = ops.cumsum(histogram, axis=1) - histogram
    table = ops.clip((before + step // 2) // ops.maximum(step, 1), 0, LEVELS - 1)
    return ops.cast(ops.where(step == 0, levels, table), "float32")
