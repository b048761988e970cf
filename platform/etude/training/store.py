"""A run's folder: what is kept there so that nothing is lost."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from etude.errors import RunError
from etude.findings import Finding
from etude.storage import read_json, write_json
from etude.training import snapshot
from etude.training.values import host

CALL, FINDINGS, INITIAL, STATE = "call.json", "findings.json", "initial.npz", "state.npz"


class Store:
    """Reads and writes a run's folder, each file atomically.

    - `call.json`: what was asked for; another call may not go on in this folder.
    - `initial.npz`: the model's weights as they were handed in.
    - `findings.json`: what the study found so far.
    - `state.npz`: the latest state of training, with its schedule.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise RunError(
                "The run's folder is a file.",
                required="a folder, or a path where one can be made",
                received=str(self.folder),
                advice="choose another `run_dir`",
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(
                "The run's folder cannot be made.",
                required="a path that can be written to",
                received=f"{self.folder}: {error.strerror}",
                advice="choose another `run_dir`",
            ) from error
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise RunError(
                "The run's folder cannot be written to.",
                required="a folder in which files can be made",
                received=f"{self.folder}, without that permission",
                advice="choose another `run_dir`, or change its permissions",
            )

    def begin(self, call: Mapping[str, Any], model: Any) -> None:
        """Begins a run, or finds the one that was begun by the same call.

        A run that goes on begins from the weights that were stored, not from those that
        `model` has now.

        Args:
            call: Names and numbers that say what was asked for.
            model: A built Keras model.

        Raises:
            RunError: The folder holds a run of another call.
        """
        path = self.folder / CALL
        if path.exists():
            known = read_json(path)
            different = [key for key in {*known, *call} if known.get(key) != call.get(key)]
            if different:
                names = ", ".join(sorted(different))
                raise RunError(
                    f"The folder holds a run of another call: {names} differ.",
                    required="; ".join(f"{k}={known.get(k)!r}" for k in sorted(different)),
                    received="; ".join(f"{k}={call.get(k)!r}" for k in sorted(different)),
                    advice=f"repeat the same call, or choose another `run_dir` than {self.folder}",
                )
            state, _ = snapshot.read(self.folder / INITIAL)
            for index, variable in enumerate(model.variables):
                variable.assign(state[f"model/{index}"])
            return
        state = {f"model/{i}": host(v) for i, v in enumerate(model.variables)}
        snapshot.write(self.folder / INITIAL, state, {})
        # Last, so that a run counts as begun only once its weights are safe.
        write_json(path, dict(call))

    def findings(self) -> list[Finding]:
        """The findings stored so far."""
        path = self.folder / FINDINGS
        if not path.exists():
            return []
        return [Finding.from_dict(row) for row in read_json(path)["findings"]]

    def save_findings(self, findings: Sequence[Finding], meta: Mapping[str, Any]) -> None:
        """Stores the findings, with values (costs, time spent) that belong to them."""
        rows = [finding.to_dict() for finding in findings]
        write_json(self.folder / FINDINGS, {"findings": rows, **meta})

    def findings_meta(self) -> dict[str, Any]:
        """What was stored beside the findings; empty when nothing was."""
        path = self.folder / FINDINGS
        return dict(read_json(path)) if path.exists() else {}

    def begun(self) -> bool:
        """Whether training has begun."""
        return (self.folder / STATE).exists()

    def state(self) -> tuple[snapshot.State, dict[str, Any]] | None:
        """The latest state of training, or `None` when training has not begun."""
        path = self.folder / STATE
        return snapshot.read(path) if path.exists() else None

    def save_state(self, state: snapshot.State, meta: Mapping[str, Any]) -> None:
        """Stores the state of training."""
        snapshot.write(self.folder / STATE, state, meta)
