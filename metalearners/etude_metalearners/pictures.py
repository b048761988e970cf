"""Pictures of what transforms do, as JPEG within a finding's evidence."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from etude.augment import drawing
from etude.augment.policy import MOST_SLOTS, Policy
from etude_metalearners.distances import Ladders, Transformer, thumbnails

SAMPLES, TIMES = 8, 3
"""Images that a policy is shown on, and how often each."""


def made(
    ladders: Ladders, transformer: Transformer, policy: Policy, images: npt.NDArray[Any]
) -> dict[str, Any]:
    """The sheet of all transforms, and samples of a policy.

    Args:
        ladders: One image at every magnitude.
        transformer: Transforms images.
        policy: Whose samples are shown; mixing is left out of them.
        images: Of which the first are shown.

    Returns:
        `"sheet"` and `"samples"`, each JPEG in base64; the sheet has a line for each transform and
        a column for each magnitude, the samples a line of originals and below it each as drawn.
    """
    low_high = transformer.value_range
    count = min(SAMPLES, len(images))
    uniform, controls = transformer.draws(count * TIMES)
    picks = transformer.rng.random((count * TIMES, MOST_SLOTS, 2), np.float32)
    tables = drawing.Tables.of(policy.for_channels(images.shape[-1]))
    strength = np.asarray(drawing.strengths(tables, tf.constant(picks)))
    shown = np.tile(images[:count], (TIMES, 1, 1, 1))
    _, changed = transformer(shown, strength, uniform, controls)
    rows = np.concatenate([images[:count].astype(np.float32), changed])
    samples = rows.reshape(TIMES + 1, count, *images.shape[1:])
    return {"sheet": jpeg(ladders.shown, low_high), "samples": jpeg(samples, low_high)}


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
