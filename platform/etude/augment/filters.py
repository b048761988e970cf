"""Filters: each pixel's new value is a function of its neighbourhood, or of noise.

Each function takes and returns images as those of `tone.py` do. `gaussian_noise` also takes a
table of standard normal draws of an image's shape.
"""

from __future__ import annotations

from typing import Any

from keras import ops

from etude.augment._base import by_name, per_image

MOST_SHARPNESS = 0.99
MOST_BLUR = 1.0 / 12.0
MOST_NOISE = 0.25
"""What strength 1 is: the factor of PIL's `Sharpness` less 1, the blur's standard deviation as a
share of the shorter side, and the noise's as a share of the value range."""


def sharpen(x: Any, s: Any, u: Any) -> Any:
    """Distances from a 3×3 smoothing times 1 to 1.99, as PIL's `Sharpness`; borders stay."""
    inner = x[:, 1:-1, 1:-1]
    rows_ = x[:, :-2] + x[:, 1:-1] + x[:, 2:]
    nine = rows_[:, :, :-2] + rows_[:, :, 1:-1] + rows_[:, :, 2:]
    sharper = inner + per_image(s) * MOST_SHARPNESS * (inner - (nine + 4.0 * inner) / 13.0)
    middle = ops.concatenate([x[:, 1:-1, :1], sharper, x[:, 1:-1, -1:]], axis=2)
    return ops.concatenate([x[:, :1], middle, x[:, -1:]], axis=1)


def gaussian_blur(x: Any, s: Any, u: Any) -> Any:
    """Gaussian blur, its standard deviation up to a twelfth of the shorter side.

    Beyond the edges there is nothing: the weights inside sum to 1.
    """
    height, width, channels = x.shape[1:]
    sigma = s * (min(height, width) * MOST_BLUR)
    down = _kernel(sigma, height)
    across = _kernel(sigma, width)
    flat = ops.reshape(x, (-1, height, width * channels))
    flat = ops.reshape(ops.matmul(down, flat), (-1, height, width, channels))
    turned = ops.transpose(flat, (0, 2, 1, 3))
    turned = ops.matmul(across, ops.reshape(turned, (-1, width, height * channels)))
    return ops.transpose(ops.reshape(turned, (-1, width, height, channels)), (0, 2, 1, 3))


def gaussian_noise(x: Any, s: Any, u: Any, table: Any) -> Any:
    """Adds normal noise, its standard deviation up to a quarter of the range.

    Each image sees the table of draws from a place of its own and with a sign of its own, going
    round its edges: noise is independent among the pixels of an image, and hardly dependent
    among images, at the price of one table.
    """
    height, width, channels = x.shape[1:]
    line = (ops.arange(height) + ops.cast(u[:, :1] * height, "int32")) % height
    column = (ops.arange(width) + ops.cast(u[:, 1:2] * width, "int32")) % width
    index = line[:, :, None] * width + column[:, None, :]
    noise = ops.take(ops.reshape(table, (-1, channels)), index, axis=0)
    size = s * MOST_NOISE * ops.where(u[:, 2] < 0.5, -1.0, 1.0)
    return x + per_image(size) * noise


TRANSFORMS = by_name("filters", globals())


def _kernel(sigma: Any, side: int) -> Any:
    """Rows of Gaussian weights around each pixel of an axis, `(batch, side, side)`."""
    places = ops.arange(side, dtype="float32")
    distance = ops.square(places[:, None] - places[None, :])
    scale = -0.5 / ops.maximum(ops.square(sigma), 1e-6)
    weights = ops.exp(scale[:, None, None] * distance)
    return weights / ops.sum(weights, axis=2, keepdims=True)
