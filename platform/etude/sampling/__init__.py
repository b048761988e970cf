"""Importance sampling: scores of samples, strategies that draw by them, and what that is worth."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from etude.sampling.strategies import STRATEGIES as STRATEGIES

_HOMES = {"STRATEGIES": "strategies"}

__all__ = ["STRATEGIES"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'etude.sampling' has no attribute {name!r}")
    return getattr(importlib.import_module(f"etude.sampling.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
