"""The TensorFlow backend: differentiation and the errors that mean "out of memory"."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

OUT_OF_MEMORY: tuple[type[BaseException], ...] = (tf.errors.ResourceExhaustedError, MemoryError)


def over_replicas(gradients: Sequence[Any]) -> Sequence[Any] | None:
    """The gradients summed over all replicas; `None` where there is only one."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return None
    there = [g for g in gradients if g is not None]
    summed: Sequence[Any] = context.all_reduce(tf.distribute.ReduceOp.SUM, there)
    return summed


def value_and_grad(
    function: Callable[[], tuple[Any, Any]], variables: Callable[[], Sequence[Any]]
) -> tuple[Any, Any, list[Any]]:
    """Value, auxiliary result and gradient of `function() -> (scalar, auxiliary)`.

    Args:
        function: What is differentiated; its first result is a scalar.
        variables: Gives the Keras variables with respect to which it is, asked after
            `function`, since a subclassed model makes them in its first call.

    Returns:
        The scalar, the auxiliary result, and a gradient (or `None`) per variable.
    """
    with tf.GradientTape() as tape:
        # Within a stateless scope that says what weights are, they are plain tensors.
        tape.watch([v.value for v in variables() if not isinstance(v.value, tf.Variable)])
        value, auxiliary = function()
    return value, auxiliary, tape.gradient(value, [v.value for v in variables()])


def gradient(function: Callable[[Any], Any], at: Any) -> Any:
    """The gradient of a function with a scalar result at a tensor."""
    with tf.GradientTape() as tape:
        tape.watch(at)
        value = function(at)
    return tape.gradient(value, at)


CANNOT_COMPILE: tuple[type[BaseException], ...] = (
    tf.errors.InvalidArgumentError,
    tf.errors.InternalError,
    tf.errors.NotFoundError,
    tf.errors.UnimplementedError,
    NotImplementedError,
    TypeError,
    ValueError,
)
"""What a step raises that cannot be compiled in another way than the model's own."""


def has_accelerator() -> bool:
    """Whether there is a GPU."""
    return bool(tf.config.list_physical_devices("GPU"))


@functools.cache
def convolution_ratio(dtype: str) -> float:
    """Time of a convolution in `dtype` over that in float32, on the device that trains.

    One of 64 channels on images of 16 × 16, the middle of a small network; forward only, the
    least of a few. Takes some hundredths of a second.
    """

    @tf.function(autograph=False)
    def convolution(images: Any, kernel: Any) -> Any:
        return tf.reduce_sum(tf.nn.conv2d(images, kernel, 1, "SAME"))

    found = {}
    for name in ("float32", dtype):
        images, kernel = tf.ones((32, 16, 16, 64), name), tf.ones((3, 3, 64, 64), name)
        times = []
        for _ in range(4):
            start = time.perf_counter()
            float(convolution(images, kernel))
            times.append(time.perf_counter() - start)
        found[name] = min(times[1:])
    return found[dtype] / found["float32"]
