"""Files that are whole or not there: a kill at any moment leaves the old or the new one."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from etude.errors import RunError

_PREFIX = ".unfinished-"


def write_atomic(path: str | Path, content: bytes) -> None:
    """Writes a file so that it is never seen half written, folders included.

    The content goes to a temporary file beside it, is flushed to the disk, and takes the
    file's name in one step. A temporary file that a killed process left is overwritten by
    the next write to the same path, so there is never more than one; two processes must
    not write to one path at the same time.

    Raises:
        OSError: The folder cannot be made or written to.
    """
    write_atomic_by(path, lambda temporary: _write_bytes(temporary, content))


def write_atomic_by(path: str | Path, write: Callable[[Path], object]) -> None:
    """`write_atomic` for things that write themselves, such as `model.save`.

    Args:
        path: The file.
        write: Is given the temporary file's path, which ends like `path`, and writes it.

    Raises:
        OSError: The folder cannot be made or written to.
        Exception: Whatever `write` raises; the file at `path` is then as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{_PREFIX}{path.name}"
    try:
        write(temporary)
        _flush(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    # The new name is safe only when the folder that holds it is on the disk too.
    _flush(path.parent)


def write_json(path: str | Path, value: Any) -> None:
    """Writes a value as JSON, atomically, in UTF-8.

    NumPy numbers and arrays become numbers and lists, tuples lists, paths text, and every
    number that JSON does not have (NaN, ±infinity) becomes `null`.

    Raises:
        TypeError: A value has no counterpart in JSON.
    """
    text = json.dumps(plain(value), ensure_ascii=False, allow_nan=False, indent=1)
    write_atomic(path, (text + "\n").encode())


def read_json(path: str | Path) -> Any:
    """Reads what `write_json` wrote; `null` reads back as `None`.

    Raises:
        RunError: There is no such file, it cannot be read, or it is not JSON.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(
            f"{path.name} is not there.",
            required="a file that Étude wrote",
            received=str(path),
            advice="check the folder's name, and whether the run got far enough to write it",
        ) from error
    except OSError as error:
        raise RunError(
            f"{path.name} cannot be read.",
            required="a file that Étude wrote, with permission to read it",
            received=f"{path}: {error.strerror}",
            advice="check the folder's name and its permissions",
        ) from error
    except ValueError as error:
        raise RunError(
            f"{path.name} is not JSON.",
            required="a file that Étude wrote",
            received=f"{path}: {error}",
            advice="delete it or bring it back; Étude itself never leaves half a file",
        ) from error


def plain(value: Any) -> Any:
    """The value in JSON's own types, by the rules of `write_json`."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    # NumPy's scalars and arrays, without importing NumPy for those who have none.
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    raise TypeError(f"{type(value).__name__} has no counterpart in JSON: {value!r}")


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
