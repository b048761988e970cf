"""Numbers of optimizers and layers as tensors, so that moving them retraces nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


class Traced:
    """A scalar tensor that may stand where Keras expects a Python number while it traces.

    Keras asks such numbers in Python whether they are 0 or `None`, for example to see whether a
    momentum's slots exist. Whoever puts a tensor in a number's place has checked that already.
    """

    def __init__(self, value: Any, number: Any = None) -> None:
        self.value = value
        self.number = number  # in whose place it stands

    def __ne__(self, other: object) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> Any:
        import tensorflow as tf

        return self.value if dtype is None else tf.cast(self.value, dtype)

    # Such a number is above 0: one of 0 is never replaced.
    def __gt__(self, other: Any) -> bool:
        return True

    def __lt__(self, other: Any) -> bool:
        return False

    def __bool__(self) -> bool:
        return True

    def __add__(self, other: Any) -> Any:
        return self.value + other

    def __sub__(self, other: Any) -> Any:
        return self.value - other

    def __rsub__(self, other: Any) -> Any:
        return other - self.value

    def __mul__(self, other: Any) -> Any:
        return self.value * other

    def __truediv__(self, other: Any) -> Any:
        return self.value / other

    def __neg__(self) -> Any:
        return -self.value

    __radd__, __rmul__ = __add__, __mul__


@contextlib.contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Within the context the number `name` of `owner` is the scalar tensor `value`.

    Args:
        owner: A Keras optimizer or layer.
        name: The attribute.
        value: A float32 scalar tensor.
    """
    before = getattr(owner, name)
    if isinstance(before, Traced):  # another replica's, which may leave after this one
        before = before.number
    # Past Keras' tracking __setattr__, which would take the tensor for a weight.
    object.__setattr__(owner, name, Traced(value, before))
    try:
        yield
    finally:
        object.__setattr__(owner, name, before)
