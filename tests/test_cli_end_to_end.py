"""The command line in processes of its own: it trains, compares, goes on, and is interrupted."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etude.data import fashion_mnist
from etude.report import Report

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two classes that a small network tells apart at once: trousers and bags."""
    (x, y), (x_test, y_test) = fashion_mnist.load()
    path = tmp_path_factory.mktemp("data") / "two.npz"
    train, test = np.isin(y, (1, 8)), np.isin(y_test, (1, 8))
    np.savez(
        path,
        x_train=x[train][:600],
        y_train=(y[train][:600] == 8).astype(np.int64),
        x_test=x_test[test][:200],
        y_test=(y_test[test][:200] == 8).astype(np.int64),
    )
    return str(path)


def command(verb: str, *flags: str) -> list[str]:
    return [sys.executable, "-m", "etude", verb, *flags]


def run(verb: str, *flags: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command(verb, *flags), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def last_json(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_fit_with_baseline(data: str) -> None:
    done = run(
        "fit", f"--data={data}", "--model=small_cnn", "--epochs=8", "--batch_size=16",
        "--baseline", "--json",
    )  # fmt: skip
    result = last_json(done)
    assert result["finished"]
    assert 7.5 < result["budget"]["epochs_done"] < 8.5
    # Trousers and bags: chance is 0.5.
    assert result["outcome"]["val_accuracy"] > 0.9 and result["outcome"]["test_accuracy"] > 0.9
    plain = result["baseline"]
    assert plain["seconds"] >= result["budget"]["seconds"]
    assert plain["epochs"] > 0
    assert set(plain["outcome"]) == set(result["outcome"])
    for words in ("Étude and plain Keras, one after the other", "touched once, at the end"):
        assert words in done.stdout
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stdout


def test_plan_and_tune(data: str, tmp_path: Path) -> None:
    plan = last_json(run("plan", f"--data={data}", "--model=small_cnn", "--epochs=3", "--json"))
    assert plan["steps"] / plan["epochs"] == pytest.approx(510 / 16, rel=0.05)
    assert plan["seconds"]["training"] > 0
    flags = (f"--data={data}", "--model=small_cnn", "--epochs=3", f"--run_dir={tmp_path}/t")
    run("tune", *flags)
    assert (tmp_path / "t" / "recipe.yaml").exists()


def test_an_interrupted_run_keeps_the_best_and_ends_with_130(data: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    flags = (f"--data={data}", "--model=small_cnn", "--epochs=500", f"--run_dir={folder}")
    process = subprocess.Popen(
        command("fit", *flags, "--verbose=2"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("training:") and " of " in line:
            break
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors[-3000:]
    assert "Not finished" in output
    report = Report.load(folder)
    assert not report.finished
    assert 0 < report.budget["epochs_done"] < 500
    assert (folder / "model.keras").exists()
