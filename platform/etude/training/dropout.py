"""Dropout's rate as a tensor, so that a study may move it without retracing."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras import ops

from etude.training import _keras_compat

HIGHEST = 0.9
"""Rates are not raised beyond this; a layer's own may be higher."""


def layers_of(model: Any) -> list[Any]:
    """The model's plain dropout layers with a rate above 0, however deep."""
    return [
        layer
        for layer in _keras_compat.all_layers(model)
        if type(layer) is keras.layers.Dropout and layer.rate > 0
    ]


@contextlib.contextmanager
def moving(layers: Sequence[Any], factor: Any) -> Iterator[None]:
    """Within the context each layer drops `factor` times as much.

    Keras asks in Python whether a rate is above 0, in the layer and below it, so the layer's `call`
    is what is replaced.

    Args:
        layers: From `layers_of`.
        factor: A float32 scalar; 1 leaves each layer its own rate.
    """
    try:
        for layer in layers:
            own = ops.convert_to_tensor(layer.rate, "float32")
            rate = ops.minimum(own * factor, ops.maximum(own, HIGHEST))
            # Past Keras' tracking __setattr__.
            object.__setattr__(layer, "call", functools.partial(_dropped, layer, rate))
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("call", None)


def _dropped(layer: Any, rate: Any, inputs: Any, training: bool = False) -> Any:
    """What the layer's own `call` does, at a rate that is a tensor."""
    if not training:
        return inputs
    shape = list(ops.shape(inputs))
    if layer.noise_shape is not None:
        own = zip(layer.noise_shape, shape, strict=True)
        shape = [size if fixed is None else fixed for fixed, size in own]
    rate = ops.cast(rate, inputs.dtype)
    drawn = keras.random.uniform(tuple(shape), dtype=inputs.dtype, seed=layer.seed_generator)
    return ops.where(drawn >= rate, inputs / (1.0 - rate), ops.zeros_like(inputs))
