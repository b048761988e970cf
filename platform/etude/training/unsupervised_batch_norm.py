"""Unsupervised Batch Normalization: images without labels count in the statistics.

Of labelled images x and unlabelled ones y the mean and variance of every batch normalization are
those of n = {x, y}, and the loss is that of x alone (Koçyiğit 2023, section 2.3.2). Where y equals
x, both forms of the source are batch normalization on x.

A third is ours: the values of the second form with the gradient of the labelled images' own
statistics. As constants, statistics do not take from the gradient what they take from the outputs,
a common shift and scale of each channel, and training spends its steps on these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from etude.errors import ModelError, RecipeError
from etude.recipe import Recipe
from etude.training import _keras_compat, batch_norm

Run = Callable[[Any], Any]
"""Outputs of images, as in training."""

Own = Callable[[], _keras_compat.Moments]
"""Gives the moments that a layer would take by itself."""

OFF = "labelled"
"""The value of `semisupervised.batch_norm` that leaves them out."""


def joint(run: Run, x: Any, unlabeled: Any) -> Any:
    """Outputs of `x` from one pass over both; the gradient goes through the statistics.

    Args:
        run: The model.
        x: Labelled images, `(batch, ...)`.
        unlabeled: Others of the same size, as many as there are.
    """
    return run(_both(x, unlabeled))[: ops.shape(x)[0]]


def two_step(
    run: Run, x: Any, unlabeled: Any, layers: Sequence[Any], *, through: bool = False
) -> Any:
    """Outputs of `x`, by statistics that a pass over both found before.

    Only the second pass moves the moving averages, dropout's state and the like.

    Args:
        run: The model.
        x: Labelled images, `(batch, ...)`.
        unlabeled: Others of the same size, as many as there are.
        layers: The model's batch normalizations.
        through: Whether these have the gradient of the statistics of `x`, which goes *straight
            through* them; they are constants otherwise.
    """
    found: dict[int, list[_keras_compat.Moments]] = {id(layer): [] for layer in layers}

    def record(layer: Any, inputs: Any, own: Own) -> _keras_compat.Moments:
        moments = own()
        found[id(layer)].append(tuple(map(ops.stop_gradient, moments)))
        return moments

    with keras.StatelessScope(), _keras_compat.moments_by(layers, record):
        run(_both(x, unlabeled))
    left = {key: iter(moments) for key, moments in found.items()}

    def replay(layer: Any, inputs: Any, own: Own) -> _keras_compat.Moments:
        moments = next(left[id(layer)], None)
        if moments is None:
            raise ModelError(
                f"The layer {layer.name!r} is called more often in one pass than in another.",
                required="a model that calls each of its layers as often whatever the images",
                received=f"{len(found[id(layer)])} calls in the first pass, and more in the second",
                advice="set `semisupervised.batch_norm` to joint, which is one pass",
            )
        if not through:
            return moments
        mean, variance = (
            value + (mine - ops.stop_gradient(mine))
            for value, mine in zip(moments, own(), strict=True)
        )
        return mean, variance

    with _keras_compat.moments_by(layers, replay):
        return run(x)


def features(run: Run, images: Any, layers: Sequence[Any]) -> dict[str, list[Any]]:
    """What goes into each normalization, as in training; nothing is moved by it.

    Args:
        run: The model.
        images: `(batch, ...)`.
        layers: The model's batch normalizations.

    Returns:
        By the layer's name, one of `(places, channels)` for each of its calls; channels last.
    """
    found: dict[str, list[Any]] = {layer.name: [] for layer in layers}

    def record(layer: Any, inputs: Any, own: Own) -> _keras_compat.Moments:
        rows = ops.moveaxis(inputs, layer.axis, -1)
        found[layer.name].append(ops.reshape(rows, (-1, rows.shape[-1])))
        return own()

    with keras.StatelessScope(), _keras_compat.moments_by(layers, record):
        run(images)
    return found


def check(model: Any, recipe: Recipe) -> None:
    """Raises an error where images without labels cannot count in a model's statistics.

    Raises:
        ModelError: It has none that are learned.
        RecipeError: The recipe asks for something beside that does not go with it.
    """
    if recipe.semisupervised.batch_norm == OFF:
        return
    if not batch_norm.layers_of(model):
        raise ModelError(
            "There are no statistics in which images without labels could count.",
            required="a model with `keras.layers.BatchNormalization` that is trainable",
            received=f"{model.name}, which has none, or none that is not frozen",
            advice="leave `semisupervised.batch_norm` at `labelled`",
        )


def check_strategy(recipe: Recipe, *, reduces: bool) -> None:
    """Raises a `RecipeError` beside variance reduction, whose large batches are labelled."""
    if reduces and recipe.semisupervised.batch_norm != OFF:
        raise RecipeError(
            "Variance reduction has gradients of its own, of labelled samples alone.",
            required="semisupervised.batch_norm: labelled, or another strategy of sampling",
            received=f"batch_norm: {recipe.semisupervised.batch_norm} beside "
            f"strategy: {recipe.sampling.strategy}",
            advice="leave one of them out",
        )


def _both(x: Any, unlabeled: Any) -> Any:
    return ops.concatenate([x, ops.cast(unlabeled, x.dtype)], axis=0)
