"""Augmentation on the device: transforms, policies that draw them, and a Keras layer."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from etude.augment.layer import Augment as Augment
    from etude.augment.names import FAMILIES as FAMILIES
    from etude.augment.policy import POLICIES as POLICIES
    from etude.augment.policy import Choice as Choice
    from etude.augment.policy import Mixing as Mixing
    from etude.augment.policy import Policy as Policy
    from etude.augment.policy import Slot as Slot

_HOMES = {
    "Augment": "layer",
    "Choice": "policy",
    "Mixing": "policy",
    "POLICIES": "policy",
    "Policy": "policy",
    "Slot": "policy",
    "FAMILIES": "names",
}

__all__ = ["FAMILIES", "POLICIES", "Augment", "Choice", "Mixing", "Policy", "Slot"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'etude.augment' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"etude.augment.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
