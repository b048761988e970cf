"""The whole state of training as one file, and back."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from etude.errors import RunError
from etude.storage import write_atomic
from etude.training import _keras_compat
from etude.training.values import host

State = dict[str, np.ndarray[Any, Any]]

_META = "meta"


def variables(trainer: Any) -> dict[str, Any]:
    """Every variable that a step reads or writes, by a name that is stable over processes.

    Names count positions: Keras' own paths depend on what else the process has made.
    """
    named: dict[str, Any] = {}
    groups: dict[str, Iterable[Any]] = {
        "model": trainer.model.variables,
        "optimizer": trainer.optimizer.variables if trainer.optimizer is not None else (),
        "metrics": [v for metric in trainer.metrics for v in metric.variables],
        "controls": trainer.controls.variables if trainer.controls is not None else (),
        "augmenter": trainer.augmenter.variables if trainer.augmenter is not None else (),
        "selector": trainer.selector.variables if trainer.selector is not None else (),
        "reducer": trainer.reducer.variables if trainer.reducer is not None else (),
        "meter": trainer.meter.variables if trainer.meter is not None else (),
        "kept": trainer.kept_variables,
        "average": trainer.average.shadows if trainer.average is not None else (),
    }
    for group, members in groups.items():
        for index, variable in enumerate(members):
            named[f"{group}/{index}"] = variable
    return named


def capture(trainer: Any, groups: Iterable[str] | None = None) -> State:
    """A copy of the state on the host.

    Args:
        trainer: A compiled Trainer.
        groups: Only these (`"model"`, `"optimizer"`, …); all when left out.
    """
    wanted = None if groups is None else set(groups)
    state = {
        name: host(variable)
        for name, variable in variables(trainer).items()
        if wanted is None or name.split("/")[0] in wanted
    }
    if wanted is None:
        state["seed/global"] = _keras_compat.global_seed()
    return state


def restore(trainer: Any, state: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Puts a captured state back.

    Variables that came into being since (an optimizer's slots, a metric's totals) and are
    not in the state are left alone; `restore` fails on what the state has and the trainer
    has not.

    Raises:
        RunError: The state is of another model.
    """
    named = variables(trainer)
    for name, value in state.items():
        if name == "seed/global":
            _keras_compat.set_global_seed(value)
            continue
        variable = named.get(name)
        if variable is None or tuple(variable.shape) != value.shape:
            have = "no such variable" if variable is None else f"shape {tuple(variable.shape)}"
            raise RunError(
                "The stored state is of another model.",
                required=f"{name} of shape {value.shape}",
                received=have,
                advice="use another `run_dir`, or the model that the run began with",
            )
        variable.assign(value)
    if trainer.meter is not None:
        trainer.meter.begin()


def only(state: State, group: str, *, strip: bool = False) -> State:
    """The part of a state under `group/`; `strip` drops that prefix from the names."""
    prefix = f"{group}/"
    return {
        name.removeprefix(prefix) if strip else name: value
        for name, value in state.items()
        if name.startswith(prefix)
    }


def to_bytes(state: State, meta: Mapping[str, Any]) -> bytes:
    """State and plain values as the bytes of an `.npz` file, without pickle."""
    dtypes = {}
    arrays: dict[str, Any] = {}
    for name, value in state.items():
        dtypes[name] = value.dtype.name
        # NumPy's file format does not know bfloat16 and its like: store their bits.
        arrays[name] = value if value.dtype.kind in "fiub" else value.view(f"u{value.itemsize}")
    text = json.dumps({"meta": meta, "dtypes": dtypes})
    buffer = io.BytesIO()
    arrays[_META] = np.frombuffer(text.encode(), np.uint8)
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def from_bytes(data: bytes) -> tuple[State, dict[str, Any]]:
    """What `to_bytes` was given."""
    import ml_dtypes

    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        header = json.loads(file[_META].tobytes().decode())
        state: State = {}
        for name, dtype in header["dtypes"].items():
            value = file[name]
            if value.dtype.name != dtype:
                value = value.view(getattr(ml_dtypes, dtype))
            state[name] = value
    return state, header["meta"]


def write(path: Path, state: State, meta: Mapping[str, Any]) -> None:
    """Writes a snapshot so that at any moment the file is the old one or the new one."""
    write_atomic(path, to_bytes(state, meta))


def read(path: Path) -> tuple[State, dict[str, Any]]:
    """Reads a snapshot.

    Raises:
        RunError: The file cannot be read.
    """
    try:
        return from_bytes(path.read_bytes())
    except (OSError, ValueError, KeyError) as error:
        raise RunError(
            f"The stored state {path} cannot be read.",
            required="a snapshot that Étude wrote",
            received=f"{type(error).__name__}: {error}",
            advice="remove the file to begin anew, or use another `run_dir`",
        ) from error
