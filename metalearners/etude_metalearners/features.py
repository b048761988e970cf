"""What images are told apart by: a network's features, or statistics of their pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from keras import ops

from etude.errors import EtudeError
from etude.inspection.backbone import before_head

Extract = Callable[[Any], Any]
"""Takes float32 images `(batch, height, width, channels)`, gives features `(batch, features)`."""

Features = Literal["model", "pixels"] | Extract

GRID = 4
"""Cells along each side over which pixels are pooled."""


def of(features: Features, model: Any, value_range: tuple[float, float]) -> Extract:
    """The function that a choice of features stands for.

    Args:
        features: `"model"`, `"pixels"`, or a function or Keras model of images.
        model: The user's own.
        value_range: Lowest and highest value that a pixel can have.
    """
    if features == "model":
        return of_model(model)
    if features == "pixels":
        return lambda images: of_pixels(images, value_range)
    if callable(features):
        return lambda images: flat(features(images))
    raise EtudeError(
        "There are no such features.",
        required='"model", "pixels", or a function of a batch of images',
        received=repr(features),
        advice="take one of these",
    )


def of_model(model: Any) -> Extract:
    """What goes into the model's last layer with weights, pooled over places.

    A model whose layers are not known to Keras as a graph, or whose last layer takes several
    tensors or is called in another graph first, gives its outputs.
    """
    body = before_head(model) or model
    return lambda images: flat(body(images, training=False))


def of_pixels(images: Any, value_range: tuple[float, float]) -> Any:
    """Mean and standard deviation of every channel in each cell of a grid.

    Args:
        images: `(batch, height, width, channels)` float32.
        value_range: Lowest and highest value that a pixel can have, which become 0 and 1.

    Returns:
        `(batch, 2 · cells · channels)`, cells `GRID` × `GRID`, or as many as there are pixels.
    """
    low, high = value_range
    x = (images - low) / (high - low)
    rows = [_cell(k, int(x.shape[1])) for k in range(min(GRID, int(x.shape[1])))]
    columns = [_cell(k, int(x.shape[2])) for k in range(min(GRID, int(x.shape[2])))]
    pooled = []
    for row in rows:
        for column in columns:
            cell = x[:, row, column]
            pooled += [ops.mean(cell, axis=(1, 2)), ops.std(cell, axis=(1, 2))]
    return ops.concatenate(pooled, axis=-1)


def flat(values: Any) -> Any:
    """Features `(batch, features)`, pooled over all axes in between."""
    if len(values.shape) > 2:
        values = ops.mean(values, axis=tuple(range(1, len(values.shape) - 1)))
    return ops.cast(ops.reshape(values, (ops.shape(values)[0], -1)), "float32")


def _cell(k: int, side: int) -> slice:
    count = min(GRID, side)
    return slice(k * side // count, (k + 1) * side // count)
