"""A model trained in another precision than it was made for, and left as it was made."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

from etude.errors import RecipeError
from etude.inspection import _graph
from etude.training import _keras_compat

OWN = "own"
"""The recipe's word for the precision that the model was made with."""


def layers_before_head(model: Any) -> list[Any]:
    """The layers that may compute in less precision: all before the last one with weights.

    The head stays as it is, since the loss is sensitive to rounded outputs; so do layers whose
    precision is not the model's, for someone chose it.

    Args:
        model: A Functional or Sequential model.

    Raises:
        RecipeError: It is not built, or the order of its layers cannot be told.
    """
    ordered = _leaves(model)
    if ordered is None:
        waits = _waits_for_shape(model)
        kind = "Sequential model without an input shape" if waits else "subclassed model"
        raise RecipeError(
            "The model's precision cannot be changed: which layer is its head cannot be told.",
            required="a built Functional or Sequential model, or `compute.precision: own`",
            received=f"a {kind}, {type(model).__name__}",
            advice=remedy(model),
        )
    weighted = [index for index, layer in enumerate(ordered) if layer.weights]
    body = ordered[: weighted[-1]] if weighted else []
    inner = [part for layer in body for part in _keras_compat.all_layers(layer)]
    return [layer for layer in inner if layer.dtype_policy.name == "float32"]


def obstacle(model: Any) -> str | None:
    """Why the model cannot compute in another precision; `None` where it can."""
    try:
        layers = layers_before_head(model)
    except RecipeError:
        if _waits_for_shape(model):
            return "it has no input shape yet, and so no weights that tell which layer is its head"
        return "the order of a subclassed model's layers cannot be told"
    if not any(layer.weights for layer in layers):
        return "no layer with weights before its head computes in float32"
    return None


def remedy(model: Any) -> str:
    """What its owner can do where there is an obstacle."""
    if _waits_for_shape(model):
        return "begin it with keras.Input(shape), or call model.build((None, *shape)) before"
    return (
        "set keras.mixed_precision.set_dtype_policy(…) before the model is made, and leave "
        "`compute.precision` out"
    )


def scaled(optimizer: Any) -> Any:
    """The optimizer with its loss scaled, as gradients in float16 need it."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return optimizer
    return keras.optimizers.LossScaleOptimizer(optimizer)


@contextlib.contextmanager
def computing(model: Any, precision: str) -> Iterator[None]:
    """Within the context the model's layers, but for its head, compute in `precision`.

    Variables stay float32. The policies are the layers' own again afterwards, so that what is
    saved, and what the model computes for its owner, is as if they had never changed.

    Args:
        model: A Functional or Sequential model.
        precision: A Keras policy such as `"mixed_bfloat16"`, or `"own"`.
    """
    if precision == OWN:
        yield
        return
    layers = layers_before_head(model)
    before = [layer.dtype_policy for layer in layers]
    policy = keras.DTypePolicy(precision)
    try:
        for layer in layers:
            layer.dtype_policy = policy
        yield
    finally:
        for layer, own in zip(layers, before, strict=True):
            layer.dtype_policy = own


def _waits_for_shape(model: Any) -> bool:
    """Whether it is a Sequential model that nobody has built yet."""
    return isinstance(model, keras.Sequential) and not model.built


def _leaves(model: Any) -> list[Any] | None:
    """The layers in the order in which they compute, those of nested models in place."""
    if not _graph.has_graph(model):
        return None
    found = []
    for layer in _graph.operations(model):
        if isinstance(layer, keras.Model):
            inner = _leaves(layer)
            if inner is None:
                return None
            found += inner
        elif isinstance(layer, keras.Layer):
            found.append(layer)
    return found
