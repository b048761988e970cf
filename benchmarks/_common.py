"""What all benchmarks share: an idle machine, statistics, and one line of JSON at the end."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Above this load by others at its start a timed run is put off.
IDLE = 0.3

# Two-sided 97.5 % points of Student's t for 1 to 30 degrees of freedom.
_T = (
    12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


def parser(description: str | None) -> argparse.ArgumentParser:
    """A command line with `--quick`."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--quick", action="store_true", help="a small run that shows it works")
    return made


def others_load(seconds: float = 2.0) -> float:
    """Cores that other processes keep busy, measured while this one sleeps.

    The load average would count what this process itself did a minute ago.
    """
    before = _busy_seconds()
    time.sleep(seconds)
    return (_busy_seconds() - before) / seconds


def _busy_seconds() -> float:
    """Core-seconds that were not idle since the machine started."""
    fields = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:]
    ticks = [int(field) for field in fields]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def wait_until_idle(seconds: float = 300.0) -> float:
    """Waits until others keep less than `IDLE` cores busy; returns the load it found."""
    end = time.monotonic() + seconds
    while (load := others_load()) > IDLE and time.monotonic() < end:
        time.sleep(2.0)
    return load


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half-width of its 95 % interval (Student's t)."""
    array = np.asarray(values, dtype=np.float64)
    if len(array) < 2:
        return float(array.mean()), float("nan")
    t = _T[min(len(array) - 1, len(_T)) - 1]
    return float(array.mean()), float(t * array.std(ddof=1) / np.sqrt(len(array)))


def commit() -> str:
    """The commit that is measured, with `+` where the tree has changed since."""
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        dirty = subprocess.run(
            ["git", "status", "--porcelain"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+" if dirty.strip() else "")


def finish(name: str, **figures: Any) -> None:
    """Prints the closing line of JSON."""
    line = {
        "benchmark": name,
        **figures,
        "command": " ".join(["python", *sys.argv]),
        "commit": commit(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }
    print(json.dumps(line, default=str), flush=True)
