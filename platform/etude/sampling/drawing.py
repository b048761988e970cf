"""Drawing samples by their probabilities; random numbers are passed in."""

from __future__ import annotations

from typing import Any, Literal

from keras import ops

Draws = Literal["systematic", "independent"]
"""How a batch is drawn by chances: at even distances along them, or each sample for itself."""

TINY = 1e-30


def with_replacement(probabilities: Any, uniform: Any) -> Any:
    """Independent draws, by the inverse of the cumulative probabilities.

    Args:
        probabilities: `(samples,)`; they need not sum to 1.
        uniform: `(count,)` numbers in [0, 1).

    Returns:
        `(count,)` int32.
    """
    return _at(probabilities, ops.cast(uniform, "float64"))


def systematic(probabilities: Any, count: Any, uniform: Any) -> Any:
    """Draws at even distances along the cumulative probabilities, from one random number.

    Each sample is drawn count · p times on average, rounded up or down: nobody twice whose
    count · p is at most 1. (Systematic sampling, Madow 1949; known from particle filters.)

    Args:
        probabilities: `(samples,)`; they need not sum to 1.
        count: How many.
        uniform: One number in [0, 1).

    Returns:
        `(count,)` int32, in rising order.
    """
    places = ops.cast(ops.arange(ops.size(probabilities))[:count], "float64")
    return _at(probabilities, (places + ops.cast(uniform, "float64")) / ops.cast(count, "float64"))


def _at(probabilities: Any, places: Any) -> Any:
    """Whose part of the cumulative probabilities each place in [0, 1) is in, int32."""
    cumulative = ops.cumsum(ops.cast(probabilities, "float64"))
    # Rounded up, the last number could lie beyond the end, and with it a sample of chance 0.
    last = ops.max(ops.where(probabilities > 0.0, ops.arange(ops.size(probabilities)), 0))
    found = ops.searchsorted(cumulative, places * cumulative[-1], "right")
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
