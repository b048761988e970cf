"""The running average of the weights, with the statistics that belong to it.

Batch normalization's moving statistics are averaged along with the weights, at the same
decay: the statistics of the latest weights would belong to another network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from etude.training import _keras_compat


def decay_at(step: Any, decay: float) -> Any:
    """The decay of update `step` (from 0): min(decay, (1 + step) / (10 + step)).

    The rise lets the average forget the untrained weights quickly.
    """
    t = ops.cast(step, "float32")
    return ops.minimum(decay, (1.0 + t) / (10.0 + t))


def averaged_variables(model: Any) -> list[Any]:
    """The variables that the average covers: floating ones of layers that are not frozen."""
    frozen = {
        id(variable)
        for layer in _keras_compat.all_layers(model)
        if not layer.trainable
        for variable in layer.variables
    }
    return [
        v for v in model.variables if id(v) not in frozen and keras.backend.is_float_dtype(v.dtype)
    ]


class Average:
    """Shadows of a model's variables.

    Args:
        model: A built Keras model.
        decay: Decay per step.
    """

    def __init__(self, model: Any, decay: float) -> None:
        self.decay = decay
        self.sources = averaged_variables(model)
        self.shadows: Sequence[Any] = [
            keras.Variable(
                ops.convert_to_numpy(v),
                dtype=v.dtype,
                trainable=False,
                name=f"average_{i}",
                aggregation="only_first_replica",
            )
            for i, v in enumerate(self.sources)
        ]

    def update(self, step: Any) -> None:
        """shadow ← d · shadow + (1 − d) · weight."""
        keep = decay_at(step, self.decay)
        for shadow, source in zip(self.shadows, self.sources, strict=True):
            share = ops.cast(1.0 - keep, shadow.dtype)
            shadow.assign_add((source.value - shadow.value) * share)

    def reset(self) -> None:
        """Begins the average anew from the model's weights."""
        for shadow, source in zip(self.shadows, self.sources, strict=True):
            shadow.assign(source.value)

    def swap(self) -> None:
        """Exchanges the model's weights and the average."""
        for shadow, source in zip(self.shadows, self.sources, strict=True):
            held = ops.convert_to_numpy(source)
            source.assign(ops.convert_to_numpy(shadow))
            shadow.assign(held)
