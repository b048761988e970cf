"""Data for the tests of this folder."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture(scope="session")
def shared():
    if not SHARED.is_dir():
        pytest.skip(f"the data pack is not at {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def digits(shared):
    archive = np.load(shared / "digits8x8" / "digits.npz")
    return archive["x"], archive["y"]


@pytest.fixture
def numbered():
    """53 images whose every pixel is the sample's number, and the numbers as labels."""
    y = np.arange(53)
    x = np.broadcast_to(y[:, None, None, None], (53, 4, 5, 3)).astype(np.uint8)
    return x, y
