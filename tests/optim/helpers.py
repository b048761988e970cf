"""What the tests of single optimizers share."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

SHAPES = {"kernel": (3, 3, 2, 4), "matrix": (5, 4), "bias": (4,), "scalar": ()}


def apply(optimizer: Any, target: Any, gradients: Any) -> Any:
    """The value of a variable after these gradients."""
    for gradient in gradients:
        optimizer.apply([ops.cast(gradient, target.dtype)], [target])
    return ops.convert_to_numpy(target)


def moved(optimizer: Any, start: Any, gradients: Any) -> Any:
    """The value of a variable that began with `start`, in float32."""
    return apply(optimizer, keras.Variable(start, dtype="float32"), gradients)


def path(kind: str) -> tuple[Any, list[Any]]:
    """A start of one of `SHAPES`, and gradients of very different lengths."""
    rng = np.random.default_rng(3)
    start = rng.normal(size=SHAPES[kind])
    return start, [rng.normal(size=SHAPES[kind]) * 2.0 ** rng.integers(-4, 4) for _ in range(14)]
