"""Sets in one `.npz` file."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from etude.errors import DataError

_IMAGES = ("x", "images", "image", "X")
_LABELS = ("y", "labels", "label", "masks", "Y")
_WEIGHTS = ("w", "weights", "sample_weight")
_PARTS = {"train": ("train",), "validation": ("validation", "val", "valid"), "test": ("test",)}

Part = tuple[Any, ...]


def _key(keys: list[str], names: tuple[str, ...], endings: tuple[str, ...]) -> str | None:
    for name in names:
        for ending in endings:
            for key in (f"{name}_{ending}", f"{ending}_{name}") if ending else (name,):
                if key in keys:
                    return key
    return None


def open_npz(path: str | Path) -> dict[str, Part]:
    """The parts of an `.npz` file.

    Understood are `x` and `y` (also `images` and `labels`), with `w` or `weights`, bare or with
    `_train`, `_val`, `_validation`, `_test` behind or `train_`, ... before.

    Args:
        path: The file. Nothing in it is executed: pickled objects are refused.

    Returns:
        `{"train": (x, y), "test": (x, y), ...}`; the bare part is called `"train"`; labels and
        weights are left out where the file has none.

    Raises:
        DataError: If the file is no such archive, or holds no images.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not hasattr(archive, "files"):
                raise ValueError("it is a single array, not an archive of named ones")
            keys = list(archive.files)
            found: dict[str, tuple[str | None, ...]] = {}
            for part, endings in [*_PARTS.items(), ("", ("",))]:
                images = _key(keys, _IMAGES, endings)
                if images is not None and (part or "train") not in found:
                    labels = _key(keys, _LABELS, endings)
                    found[part or "train"] = (images, labels, _key(keys, _WEIGHTS, endings))
            parts = {
                part: tuple(None if key is None else archive[key] for key in names)
                for part, names in found.items()
            }
    except (OSError, ValueError, EOFError, KeyError, BadZipFile, zlib.error) as error:
        raise DataError(
            f"The file {path} cannot be read.",
            required="An .npz archive of plain arrays, as np.savez writes it.",
            received=f"{error}.",
            advice="Write it with np.savez(path, x=images, y=labels), without object arrays.",
        ) from error
    if not parts:
        raise DataError(
            f"There are no images in {path}.",
            required="Arrays named x and y (or images and labels, or x_train and y_train).",
            received=f"Arrays named {keys}.",
            advice="Write it with np.savez(path, x=images, y=labels).",
        )
    return {part: _trimmed(values) for part, values in parts.items()}


def _trimmed(values: Part) -> Part:
    while len(values) > 1 and values[-1] is None:
        values = values[:-1]
    return values


def npz_part(path: str | Path, name: str) -> Part:
    """The part of an `.npz` file that a set of this name asks for.

    A file with one part serves under any name.

    Raises:
        DataError: If the file has several parts and none of this name.
    """
    parts = open_npz(path)
    if len(parts) == 1:
        return next(iter(parts.values()))
    if name not in parts:
        raise DataError(
            f"The file {path} has no part {name!r}.",
            required=f"One of its parts {sorted(parts)}.",
            received=f"{name!r}.",
            advice="Pass the part yourself: etude.data.open_npz(path)['train'].",
        )
    return parts[name]
