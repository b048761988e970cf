"""Batch normalization's momentum as a tensor, so that a study may move it without retracing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras import ops

from etude.optim.traced import replaced
from etude.training import _keras_compat


def layers_of(model: Any) -> list[Any]:
    """The model's batch normalizations that learn their statistics, however deep."""
    return [
        layer
        for layer in _keras_compat.all_layers(model)
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]


@contextlib.contextmanager
def moving(layers: Sequence[Any], value: Any) -> Iterator[None]:
    """Within the context the layers' momentum is the tensor `value`, unless that is negative.

    Args:
        layers: From `layers_of`.
        value: A float32 scalar; a negative one leaves each layer its own.
    """
    with contextlib.ExitStack() as stack:
        for layer in layers:
            own = ops.convert_to_tensor(layer.momentum, "float32")
            stack.enter_context(replaced(layer, "momentum", ops.where(value < 0.0, own, value)))
        yield
