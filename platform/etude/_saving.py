"""Lets `keras.saving.load_model` find Étude's losses and metrics wherever `etude` is imported.

A segmentation model is saved with the loss and metrics that it was compiled with, some of
which are Étude's. Keras knows a class when the module that registers it was imported; that
module needs Keras, which `import etude` must not bring in. So it is imported right away where
Keras is there already, and otherwise right after Keras.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

REGISTERING = ("etude.tasks._masked",)
"""The modules with classes that Keras saves by name."""


class _AfterKeras(MetaPathFinder):
    """Stands before the other finders, and adds to what happens when `keras` is executed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "keras":
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        found = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: ModuleType) -> None:
                execute(module)
                if self in sys.meta_path:
                    sys.meta_path.remove(self)
                _register()

            spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


def _register() -> None:
    for name in REGISTERING:
        importlib.import_module(name)


def register_with_keras() -> None:
    """Registers Étude's classes with Keras: now, or as soon as Keras is imported."""
    if "keras" in sys.modules:
        _register()
    elif not any(isinstance(finder, _AfterKeras) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterKeras())
