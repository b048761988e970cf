"""The state of callbacks that can be stored: plain numbers and words, and lists of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def plain_state(callback: Any) -> dict[str, Any]:
    """The public attributes of a callback that JSON can hold.

    Keras' own callbacks keep their patience, waits and best values in such attributes.
    Objects and arrays (the model, weights, files) are left out.
    """
    state: dict[str, Any] = {}
    for name, value in vars(callback).items():
        if name.startswith("_") or name in ("params", "validation_data", "model"):
            continue
        if isinstance(value, np.generic):
            value = value.item()
        if _is_plain(value):
            state[name] = value
    return state


def set_plain_state(callback: Any, state: Mapping[str, Any]) -> None:
    """Gives a callback back what `plain_state` took."""
    for name, value in state.items():
        setattr(callback, name, value)


def _is_plain(value: Any) -> bool:
    if value is None or isinstance(value, bool | int | float | str):
        return True
    if isinstance(value, list):
        return all(_is_plain(item) for item in value)
    if isinstance(value, dict):
        return all(isinstance(k, str) and _is_plain(v) for k, v in value.items())
    return False
