"""The packaged part of Fashion-MNIST is what the published files hold."""

from __future__ import annotations

import gzip
import hashlib
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etude.data import fashion_mnist

ORIGINALS = Path(__file__).parents[2] / "shared/data/fashion-mnist"
FOLDER = resources.files("etude.data") / "fashion-mnist"
SHA256 = {
    "x_train": "8cba9425c48bb61fe76913122c74a2679ce872941c6317b3de3729455f612334",
    "y_train": "7e9ac68c9680d7869d3539e592be40ee2690b6910a473777ed550f567aa5e17e",
    "x_test": "91aec2a0d723276af7ee95bfe411dd8da6966f6860b1ab7a80b801892a4d6bd4",
    "y_test": "6da5d808a382f25ea23aa86fb63295a0689f4650cee73145de34dde6a7b15488",
}


def test_contents() -> None:
    (x_train, y_train), (x_test, y_test) = fashion_mnist.load()
    assert x_train.shape == (10000, 28, 28, 1) and x_train.dtype == np.uint8
    assert x_test.shape == (5000, 28, 28, 1) and x_test.dtype == np.uint8
    assert y_train.dtype == y_test.dtype == np.int64
    assert np.bincount(y_train).tolist() == [1000] * 10
    assert np.bincount(y_test).tolist() == [500] * 10
    assert len(fashion_mnist.CLASSES) == 10
    arrays = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
    sums = {name: hashlib.sha256(a.tobytes()).hexdigest() for name, a in arrays.items()}
    assert sums == SHA256


def test_classes_are_mixed() -> None:
    """Each tenth holds every class in about its share: no run of one class."""
    (_, y), _ = fashion_mnist.load()
    for part in np.split(y, 10):
        # Hypergeometric: mean 100, sd 9; ten classes in ten parts stay within 4.5 sd.
        assert np.abs(np.bincount(part, minlength=10) - 100).max() < 41


def test_it_is_small_and_its_licence_is_beside_it() -> None:
    assert sum(len(file.read_bytes()) for file in FOLDER.iterdir()) < 9_000_000
    notice = (FOLDER / "LICENSE").read_text()
    assert "MIT License" in notice and "Zalando SE" in notice


@pytest.mark.skipif(not ORIGINALS.exists(), reason="needs the published files in ../shared")
@pytest.mark.parametrize(("part", "stem"), [("train", "train"), ("test", "t10k")])
def test_pixels_are_those_published(part: str, stem: str) -> None:
    with (FOLDER / "fashion_mnist.npz").open("rb") as stream, np.load(stream) as arrays:
        index = arrays[f"index_{part}"].astype(int)
        images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]

    def read(name: str, offset: int) -> np.ndarray[Any, Any]:
        content = gzip.decompress((ORIGINALS / f"{stem}-{name}-ubyte.gz").read_bytes())
        return np.frombuffer(content, np.uint8, offset=offset)

    assert len(np.unique(index)) == len(index)
    np.testing.assert_array_equal(images, read("images-idx3", 16).reshape(-1, 28, 28)[index])
    np.testing.assert_array_equal(labels, read("labels-idx1", 8)[index])
