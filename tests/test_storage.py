"""Files are whole or not there, whatever happens while they are written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from etude import storage
from etude.errors import RunError


def test_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file.bin"
    storage.write_atomic(path, b"first")
    assert path.read_bytes() == b"first"
    storage.write_atomic(path, b"second, longer")
    assert path.read_bytes() == b"second, longer"
    assert os.listdir(path.parent) == ["file.bin"]


def test_a_failing_writer_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    storage.write_atomic(path, b"old")

    def fail(temporary: Path) -> None:
        assert temporary.suffix == ".keras"  # Keras chooses the format by it
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        storage.write_atomic_by(path, fail)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["model.keras"]


def test_content_and_name_reach_the_disk_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def spy_fsync(handle: int) -> None:
        calls.append("folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "file")
        fsync(handle)

    def spy_replace(source: Path, target: Path) -> None:
        calls.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(os, "replace", spy_replace)
    storage.write_atomic(tmp_path / "file", b"x")
    assert calls == ["file", "replace", "folder"]


_KILLED = """
import sys, time
from pathlib import Path
from etude import storage

def slow(temporary):
    temporary.write_bytes(b"half")
    print("written half", flush=True)
    time.sleep(60)

storage.write_atomic_by(Path(sys.argv[1]), slow)
"""


def test_a_kill_leaves_the_old_file_and_the_next_write_the_folder_clean(tmp_path: Path) -> None:
    path = tmp_path / "file"
    storage.write_atomic(path, b"old")
    process = subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "written half\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert path.read_bytes() == b"old"
    assert len(os.listdir(tmp_path)) == 2
    storage.write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


def test_json_of_every_kind(tmp_path: Path) -> None:
    value = {
        "none": None,
        "bool": True,
        "float32": np.float32(0.5),
        "int64": np.int64(7),
        "nan": float("nan"),
        "infinities": (float("inf"), -np.inf),
        "array": np.array([[1.0, np.nan]]),
        "path": Path("a/b"),
        3: "Étude",
    }
    path = tmp_path / "value.json"
    storage.write_json(path, value)
    text = path.read_text(encoding="utf-8")

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    assert json.loads(text, parse_constant=refuse) == {
        "none": None,
        "bool": True,
        "float32": 0.5,
        "int64": 7,
        "nan": None,
        "infinities": [None, None],
        "array": [[1.0, None]],
        "path": "a/b",
        "3": "Étude",
    }
    assert "Étude" in text
    assert storage.read_json(path) == json.loads(text)


def test_floats_come_back_to_the_bit(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal(1000).tolist()
    storage.write_json(tmp_path / "v.json", values)
    assert storage.read_json(tmp_path / "v.json") == values


def test_what_json_has_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="object has no counterpart"):
        storage.write_json(tmp_path / "v.json", {"a": object()})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("content", [None, "{half"])
def test_reading_what_is_not_there_or_not_json(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "report.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(RunError, match=r"report\.json is not"):
        storage.read_json(path)


def test_a_folder_that_is_a_file_or_holds_other_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(RunError, match="cannot be read"):
        storage.read_json(tmp_path / "file" / "report.json")
    (tmp_path / "report.json").mkdir()
    with pytest.raises(RunError, match="cannot be read"):
        storage.read_json(tmp_path / "report.json")
    (tmp_path / "latin.json").write_bytes("Étude".encode("latin-1"))
    with pytest.raises(RunError, match="is not JSON"):
        storage.read_json(tmp_path / "latin.json")
