"""Momentum as a tensor: lets a schedule move it without retracing the step."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from etude.errors import RecipeError
from etude.optim._registry import momentum_attribute, unwrapped


class _TracedMomentum:
    """A scalar tensor that Keras' SGD may compare with 0 while it is being traced.

    Keras asks `momentum != 0` in Python to see whether slots exist. They do: `moving`
    checks the number before it puts a tensor in its place.
    """

    def __init__(self, value: Any) -> None:
        self.value = value

    def __ne__(self, other: object) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> Any:
        import tensorflow as tf

        return self.value if dtype is None else tf.cast(self.value, dtype)

    def __rsub__(self, other: Any) -> Any:
        return other - self.value

    def __mul__(self, other: Any) -> Any:
        return self.value * other

    __rmul__ = __mul__


def check_movable(optimizer: Any) -> None:
    """Raises a `RecipeError` when the optimizer's momentum cannot be moved."""
    name = momentum_attribute(optimizer)
    value = getattr(unwrapped(optimizer), name) if name else 0.0
    if not value:
        raise RecipeError(
            "The recipe moves momentum, and the optimizer has none.",
            required="an optimizer with momentum above 0",
            received=f"{type(unwrapped(optimizer)).__name__} with momentum {value}",
            advice="set `optimization.momentum`, or `cycle_momentum: false`",
        )


@contextlib.contextmanager
def moving(optimizer: Any, value: Any) -> Iterator[None]:
    """Within the context the optimizer's momentum is the scalar tensor `value`."""
    inner = unwrapped(optimizer)
    name = momentum_attribute(optimizer)
    assert name is not None, "check_movable was not called"
    before = getattr(inner, name)
    # Past Keras' tracking __setattr__, which would take the tensor for a weight.
    object.__setattr__(inner, name, _TracedMomentum(value))
    try:
        yield
    finally:
        object.__setattr__(inner, name, before)
