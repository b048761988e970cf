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
