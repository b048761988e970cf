"""The meta-learners: `etude.metalearners.<Name>` is `etude_metalearners.<Name>`.

They live in a package of their own, on the floor above this one; this façade resolves
names when they are used, so that importing it imports nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from etude_metalearners import *  # noqa: F403


def __getattr__(name: str) -> Any:
    # Dunder names are asked for by tools (inspect, copy, doctest) and are never ours.
    if name.startswith("__"):
        raise AttributeError(f"module 'etude.metalearners' has no attribute {name!r}")
    package = importlib.import_module("etude_metalearners")
    if name not in _public(package):
        raise AttributeError(f"module 'etude.metalearners' has no attribute {name!r}")
    return getattr(package, name)


def __dir__() -> list[str]:
    return _public(importlib.import_module("etude_metalearners"))


def _public(package: Any) -> list[str]:
    return sorted(package.__all__)
