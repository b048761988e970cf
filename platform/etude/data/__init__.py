"""Data in: arrays, `tf.data`, `PyDataset`, TFDS, folders, `.npz`; perfect shuffles; splits.

The names below are resolved when they are first used: importing this package imports neither
TensorFlow nor Keras.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from etude.data._base import Arrays, Source, Spec
    from etude.data.adapter import AdaptedSource, Adapter, adapt, adapter_for
    from etude.data.arrays import ArraySource, in_memory
    from etude.data.folder import FolderSource, open_folder
    from etude.data.npz import open_npz
    from etude.data.opening import open_source
    from etude.data.pydataset import PyDatasetSource
    from etude.data.resize import Resize, parse_resize
    from etude.data.scanning import Scan, scan
    from etude.data.shuffle import id_stream, ids_in_order, permutation
    from etude.data.splitting import held_out_indices, split
    from etude.data.streams import StreamSource
    from etude.data.tfdata import DatasetSource

__all__ = [
    "AdaptedSource",
    "Adapter",
    "ArraySource",
    "Arrays",
    "DatasetSource",
    "FolderSource",
    "PyDatasetSource",
    "Resize",
    "Scan",
    "Source",
    "Spec",
    "StreamSource",
    "adapt",
    "adapter_for",
    "held_out_indices",
    "id_stream",
    "ids_in_order",
    "in_memory",
    "open_folder",
    "open_npz",
    "open_source",
    "parse_resize",
    "permutation",
    "scan",
    "split",
]

_HOMES = {
    "_base": ("Arrays", "Source", "Spec"),
    "adapter": ("AdaptedSource", "Adapter", "adapt", "adapter_for"),
    "arrays": ("ArraySource", "in_memory"),
    "folder": ("FolderSource", "open_folder"),
    "npz": ("open_npz",),
    "opening": ("open_source",),
    "pydataset": ("PyDatasetSource",),
    "resize": ("Resize", "parse_resize"),
    "scanning": ("Scan", "scan"),
    "shuffle": ("id_stream", "ids_in_order", "permutation"),
    "splitting": ("held_out_indices", "split"),
    "streams": ("StreamSource",),
    "tfdata": ("DatasetSource",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
