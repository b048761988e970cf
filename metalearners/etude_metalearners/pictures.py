"""Pictures of what transforms do, as JPEG within a finding's evidence."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from etude.augment import drawing
from etude.augment.policy import MOST_SLOTS, Policy
from etude.data.thumbnails import jpeg
from etude_metalearners.distances import Ladders, Transformer

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
