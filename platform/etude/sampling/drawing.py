"""Drawing samples by their probabilities; random numbers are passed in."""

from __future__ import annotations

from typing import Any

from keras import ops

TINY = 1e-30


def with_replacement(probabilities: Any, uniform: Any) -> Any:
    """Independent draws, by the inverse of the cumulative probabilities.

    Args:
        probabilities: `(samples,)`; they need not sum to 1.
        uniform: `(count,)` numbers in [0, 1).

    Returns:
        `(count,)` int32.
    """
    cumulative = ops.cumsum(ops.cast(probabilities, "float64"))
    # Rounded up, the last number could lie beyond the end, and with it a sample of chance 0.
    last = ops.max(ops.where(probabilities > 0.0, ops.arange(ops.size(probabilities)), 0))
    found = ops.searchsorted(cumulative, ops.cast(uniform, "float64") * cumulative[-1], "right")
    return ops.minimum(ops.cast(found, "int32"), ops.cast(last, "int32"))


def without_replacement(probabilities: Any, count: Any, uniform: Any) -> Any:
    """Draws one after the other, each in proportion among those that are left.

    The largest of log p + Gumbel noise are such draws, in order (Vieira 2014).

    Args:
        probabilities: `(samples,)`.
        count: How many.
        uniform: `(samples,)` numbers in [0, 1).

    Returns:
        `(count,)` int32.
    """
    gumbel = -ops.log(-ops.log(ops.clip(uniform, 1e-7, 1.0 - 1e-7)))
    return highest(ops.log(ops.maximum(probabilities, TINY)) + gumbel, count)


def highest(values: Any, count: Any) -> Any:
    """Where the highest values are, in falling order, `(count,)` int32."""
    return ops.cast(ops.argsort(-values)[:count], "int32")
