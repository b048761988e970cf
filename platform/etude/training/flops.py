"""Floating-point operations of a model, as TensorFlow counts those of its graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

BACKWARD = 2
"""A backward pass counts as two forward ones, a training step as three."""


def forward(call: Callable[[Any], Any], shape: Sequence[int], dtype: str = "float32") -> int:
    """Operations of a forward pass on one sample; a multiplication and an addition are two.

    Of all operations that TensorFlow has a count of: convolutions, matrix products, and most that
    go by elements.

    Args:
        call: From `(1, *shape)` to outputs.
        shape: Of the sample.
        dtype: Of the sample.
    """
    # It lets go of variables that it would change: the graph is counted, and never run.
    function = tf.function(call, autograph=False)
    graph = function.get_concrete_function(tf.TensorSpec((1, *shape), dtype)).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")  # it says every time that it is of TensorFlow 1
    try:
        return int(tf.compat.v1.profiler.profile(graph, options=options).total_float_ops)
    finally:
        logger.setLevel(level)
