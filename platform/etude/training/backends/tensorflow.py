"""The TensorFlow backend: differentiation and the errors that mean "out of memory"."""

from __future__ import annotations

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
        value, auxiliary = function()
    return value, auxiliary, tape.gradient(value, [v.value for v in variables()])


def compiled(function: Callable[[Any], Any], example: Any, *, jit: bool = False) -> Any:
    """The function compiled once for batches of any size.

    Args:
        function: Takes one batch.
        example: A batch; all but the first dimension of its parts is fixed by it.
        jit: Whether XLA compiles it, anew for every size.
    """
    spec = tf.nest.map_structure(lambda t: tf.TensorSpec((None, *t.shape[1:]), t.dtype), example)
    return tf.function(function, input_signature=(spec,), jit_compile=jit)


def resized(batch: Any, size: int) -> Any:
    """A batch of `size` samples made of those of another, repeated or cut off."""
    return tf.nest.map_structure(lambda t: tf.gather(t, tf.range(size) % tf.shape(t)[0]), batch)
