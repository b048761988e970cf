"""What all transforms share: the draws that each has of an image, and small functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from etude.augment.names import FAMILIES

DRAWS = 4
"""Uniform numbers that every transform has of every image."""


def by_name(family: str, functions: Mapping[str, Any]) -> dict[str, Callable[..., Any]]:
    """The functions of a family, by their names and in its order.

    What a function takes besides the strength `s`, `(batch,)` in [0, 1], and its uniform draws
    `u`, `(batch, 4)` in [0, 1), and what it returns, is the family's; see the family's file.

    Args:
        family: A key of `names.FAMILIES`.
        functions: Where they are: a module's `globals()`.
    """
    return {name: functions[name] for name in FAMILIES[family]}


def sign(u: Any) -> Any:
    """-1 or 1 with even chances, from uniform draws of any shape."""
    from keras import ops

    return ops.where(u < 0.5, -1.0, 1.0)


def per_image(values: Any, rank: int = 4) -> Any:
    """`(batch,)` as `(batch, 1, 1, 1)`, so that it meets images."""
    from keras import ops

    return ops.reshape(values, (-1,) + (1,) * (rank - 1))
