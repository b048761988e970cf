"""Colour that is linear: every transform is a matrix, and all of an image's are one 3×4 matrix.

Pixels are taken to [0, 1] by their value range. Each function here takes

    s: `(batch,)` strength in [0, 1]; 0 is the identity matrix, to the bit.
    u: `(batch, 4)` uniform draws.
    mean: `(batch, channels)` means of the image as the transforms before have left it.

and returns `(batch, channels, channels + 1)`: a matrix, and beside it what is added. Factors are
those of PIL's `ImageEnhance`, .01 to 1.99; its mean grey is not rounded here.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from keras import ops

from etude.augment._base import by_name, sign
from etude.augment.names import possible

MOST = 0.99
"""By how much strength 1 moves a factor from 1."""

GREY = (0.299, 0.587, 0.114)
"""Luma of red, green and blue (ITU-R BT.601), as PIL's."""

# The permutations of three channels other than the identity, as matrices.
_SHUFFLES = np.stack(
    [np.eye(3, dtype=np.float32)[list(p)] for p in list(itertools.permutations(range(3)))[1:]]
)
# Turning hues is a rotation of the chroma plane of YIQ.
_YIQ = np.array(
    [[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]]
)


def brightness_up(s: Any, u: Any, mean: Any) -> Any:
    """Pixels times 1 to 1.99."""
    return _scaled(1.0 + s * MOST, mean)


def brightness_down(s: Any, u: Any, mean: Any) -> Any:
    """Pixels times 1 down to .01."""
    return _scaled(1.0 - s * MOST, mean)


def contrast_up(s: Any, u: Any, mean: Any) -> Any:
    """Distances from the image's mean grey times 1 to 1.99."""
    return _around(1.0 + s * MOST, mean)


def contrast_down(s: Any, u: Any, mean: Any) -> Any:
    """Distances from the image's mean grey times 1 down to .01."""
    return _around(1.0 - s * MOST, mean)


def saturation_up(s: Any, u: Any, mean: Any) -> Any:
    """Distances of channels from the pixel's grey times 1 to 1.99."""
    return _saturated(1.0 + s * MOST)


def saturation_down(s: Any, u: Any, mean: Any) -> Any:
    """Distances of channels from the pixel's grey times 1 down to .01."""
    return _saturated(1.0 - s * MOST)


def hue(s: Any, u: Any, mean: Any) -> Any:
    """Turns all hues by up to 180 degrees either way, at the same luma."""
    angle = s * sign(u[:, 0]) * math.pi
    # I + (cos - 1) A + sin B, which is exact at 0; A projects on the chroma plane.
    back = np.linalg.inv(_YIQ)
    project = back @ np.diag([0.0, 1.0, 1.0]) @ _YIQ
    turn = back @ np.array([[0.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]]) @ _YIQ
    matrix = (
        np.eye(3, dtype=np.float32)
        + (ops.cos(angle) - 1.0)[:, None, None] * project.astype(np.float32)
        + ops.sin(angle)[:, None, None] * turn.astype(np.float32)
    )
    return _with_offset(matrix, ops.zeros_like(mean))


def invert(s: Any, u: Any, mean: Any) -> Any:
    """A share `s` of the images becomes its negative."""
    turned = ops.cast(u[:, 0] < s, "float32")
    matrix = (1.0 - 2.0 * turned)[:, None, None] * np.eye(mean.shape[1], dtype=np.float32)
    return _with_offset(matrix, turned[:, None] * ops.ones_like(mean))


def grayscale(s: Any, u: Any, mean: Any) -> Any:
    """A share `s` of the images loses its colours."""
    return _saturated(1.0 - ops.cast(u[:, 0] < s, "float32"))


def channel_shuffle(s: Any, u: Any, mean: Any) -> Any:
    """The channels of a share `s` of the images change places, one of the five ways."""
    turned = ops.cast(u[:, 0] < s, "float32")[:, None, None]
    which = ops.minimum(ops.cast(u[:, 1] * 5.0, "int32"), 4)
    shuffled = ops.take(ops.convert_to_tensor(_SHUFFLES), which, axis=0)
    matrix = (1.0 - turned) * np.eye(3, dtype=np.float32) + turned * shuffled
    return _with_offset(matrix, ops.zeros_like(mean))


TRANSFORMS = by_name("colour", globals())


def composed(s: Any, u: Any, mean: Any) -> Any:
    """All transforms one after the other, in the family's order, as one matrix.

    Args:
        s: `(batch, transforms)`.
        u: `(batch, transforms, 4)`.
        mean: `(batch, channels)` means of the images, in [0, 1].

    Returns:
        `(batch, channels, channels + 1)`.
    """
    channels = mean.shape[1]
    matrix: Any = None
    offset: Any = None
    draws = zip(ops.unstack(s, axis=1), ops.unstack(u, axis=1), strict=True)
    for (name, function), (strength, uniform) in zip(TRANSFORMS.items(), draws, strict=True):
        if not possible(name, channels):
            continue
        step = function(strength, uniform, mean)
        turn, add = step[..., :channels], step[..., channels]
        mean = ops.matmul(turn, mean[..., None])[..., 0] + add
        if matrix is None:
            matrix, offset = turn, add
        else:
            matrix = ops.matmul(turn, matrix)
            offset = ops.matmul(turn, offset[..., None])[..., 0] + add
    return _with_offset(matrix, offset)


def applied(images: Any, matrix: Any, low: float, high: float) -> Any:
    """Images `(batch, height, width, channels)` of a value range through a composed matrix."""
    channels = images.shape[3]
    turn, add = matrix[..., :channels], matrix[..., channels]
    # In the images' own units: low + range · (turn · (x - low) / range + add).
    add = low + (high - low) * add - low * ops.sum(turn, axis=2)
    out = [
        sum(images[..., k] * turn[:, c, k][:, None, None] for k in range(channels))
        + add[:, c][:, None, None]
        for c in range(channels)
    ]
    return ops.stack(out, axis=-1)


# -- parts ---------------------------------------------------------------------------


def _with_offset(matrix: Any, offset: Any) -> Any:
    return ops.concatenate([matrix, offset[..., None]], axis=2)


def _scaled(factor: Any, mean: Any) -> Any:
    matrix = factor[:, None, None] * np.eye(mean.shape[1], dtype=np.float32)
    return _with_offset(matrix, ops.zeros_like(mean))


def _around(factor: Any, mean: Any) -> Any:
    """Scales distances from the mean grey; without three channels, from the mean of all."""
    channels = mean.shape[1]
    weights = np.asarray(GREY if channels == 3 else [1.0 / channels] * channels, np.float32)
    grey = ops.sum(mean * weights, axis=1, keepdims=True)
    matrix = factor[:, None, None] * np.eye(channels, dtype=np.float32)
    return _with_offset(matrix, (1.0 - factor)[:, None] * grey * ops.ones_like(mean))


def _saturated(factor: Any) -> Any:
    grey = np.tile(np.asarray(GREY, np.float32), (3, 1))
    kept = factor[:, None, None]
    matrix = kept * np.eye(3, dtype=np.float32) + (1.0 - kept) * grey
    return _with_offset(matrix, ops.zeros_like(matrix[..., 0]))
