"""Compiles pure functions of tensors, and traces them once, where the backend does not.

TensorFlow runs every operation of a graph by itself, and most of what augmentation does waits for
memory: compiled by XLA, a resampling takes a third of the time. JAX compiles whole steps anyway.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras


def shared(function: Callable[..., Any], shapes: tuple[tuple[Any, ...], ...]) -> Callable[..., Any]:
    """The function of float32 tensors, traced once and called from all graphs that need it.

    Args:
        function: Takes as many tensors as there are shapes.
        shapes: Of the tensors, `None` for what is open.
    """
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    signature = [tf.TensorSpec(shape, tf.float32) for shape in shapes]
    return tf.function(function, input_signature=signature, autograph=False)


def fused(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, compiled anew for every shape that it meets."""
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    return tf.function(function, jit_compile=True, autograph=False)
