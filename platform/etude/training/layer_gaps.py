"""How far labelled images are from unlabelled ones, layer by layer, to a network as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from etude.ssl.gaps import Gap, gap
from etude.training import batch_norm
from etude.training.unsupervised_batch_norm import features


def layer_gaps(model: Any, labelled: Any, unlabelled: Any, seed: int = 0) -> dict[str, Gap]:
    """The gap before each batch normalization, by the layers' names.

    Both sets go through in one pass: each by itself would be normalized by its own statistics. Of
    each image one place counts, drawn at random: places of one image are not independent, and a
    test would take them for many.

    Args:
        model: With batch normalization.
        labelled: `(images, ...)`.
        unlabelled: `(others, ...)`, of the same size.
        seed: Of the places.
    """
    layers = batch_norm.layers_of(model)
    both = ops.concatenate([labelled, ops.cast(unlabelled, labelled.dtype)], axis=0)
    count, images = int(labelled.shape[0]), int(both.shape[0])
    rng = np.random.default_rng(seed)
    found = {}
    for name, calls in features(lambda x: model(x, training=True), both, layers).items():
        if not calls:
            continue
        rows = np.asarray(ops.convert_to_numpy(calls[0]), np.float64)
        each = rows.reshape(images, -1, rows.shape[-1])
        places = rng.integers(each.shape[1], size=images)
        seen = each[np.arange(images), places]
        found[name] = gap(seen[:count], seen[count:], seed)
    return found
