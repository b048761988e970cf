"""Batch normalization's momentum as a tensor, so that a study may move it without retracing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras import ops

from etude.optim.traced import replaced
from etude.training import _keras_compat

LEAST = 0.5
"""Statistics that move faster than this are those of a batch or two."""


def layers_of(model: Any) -> list[Any]:
    """The model's batch normalizations that learn their statistics, however deep."""
    return [
        layer
        for layer in _keras_compat.all_layers(model)
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]


def statistics_of(model: Any) -> list[Any]:
    """The statistics of these layers, which evaluation goes by."""
    return [v for layer in layers_of(model) for v in (layer.moving_mean, layer.moving_variance)]


@contextlib.contextmanager
def moving(layers: Sequence[Any], value: Any, pace: Any) -> Iterator[None]:
    """Within the context the layers' momentum is the tensor `value`, unless that is negative.

    Args:
        layers: From `layers_of`.
        value: A float32 scalar; a negative one leaves each layer its own.
        pace: A float32 scalar: how many times as fast the statistics move as the momentum says.
    """
    with contextlib.ExitStack() as stack:
        for layer in layers:
            own = ops.convert_to_tensor(layer.momentum, "float32")
            kept = ops.where(value < 0.0, own, value)
            # At a pace of 1 it is the momentum to the last bit.
            hurried = ops.where(pace == 1.0, kept, paced(kept, pace))
            stack.enter_context(replaced(layer, "momentum", hurried))
        yield


def paced(momentum: Any, pace: Any) -> Any:
    """The momentum at which statistics move so many times as fast, not below `LEAST`.

    Args:
        momentum: In the place of which; one that is below `LEAST` itself stays.
        pace: At least 1.
    """
    return ops.maximum(1.0 - (1.0 - momentum) * pace, ops.minimum(momentum, LEAST))
