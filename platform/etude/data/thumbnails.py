"""Small pictures of images, for reports."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

SIDE = 40
"""Pixels along the longer side of a thumbnail, at most."""


def thumbnails(images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Images `(samples, height, width, channels)` of at most `SIDE` pixels a side, by areas."""
    tall, wide = images.shape[1:3]
    factor = SIDE / max(tall, wide)
    if factor >= 1.0:
        return images.astype(np.float32)
    size = (max(1, round(tall * factor)), max(1, round(wide * factor)))
    return np.asarray(tf.image.resize(images.astype(np.float32), size, method="area"))


def jpeg(tiles: npt.NDArray[Any], value_range: tuple[float, float]) -> str:
    """Tiles `(lines, columns, height, width, channels)` side by side, as JPEG in base64."""
    lines, columns, tall, wide, channels = tiles.shape
    small = thumbnails(tiles.reshape(-1, tall, wide, channels))
    size = small.shape[1:3]
    low, high = value_range
    colours = np.clip((small - low) / (high - low), 0.0, 1.0)
    colours = colours[..., :3] if channels >= 3 else np.repeat(colours[..., :1], 3, axis=-1)
    grid = colours.reshape(lines, columns, *size, 3).swapaxes(1, 2)
    whole = (255.0 * grid.reshape(lines * size[0], columns * size[1], 3)).round()
    coded = tf.io.encode_jpeg(whole.astype(np.uint8), quality=85).numpy()
    return base64.b64encode(coded).decode("ascii")
