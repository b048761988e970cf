"""Makes the Fashion-MNIST part that comes with Étude, from the published files.

The draw, by NumPy's `default_rng(20170825)`, training part first: a permutation of the
part, of which the first 1,000 (test: 500) of every class are kept, and a permutation of
those, without which the classes that fill up last would crowd at the end. Pixels are
unchanged; the places in the published files are stored with them.

    python tools/pack_fashion_mnist.py FOLDER_WITH_THE_IDX_FILES
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path
from typing import Any

import numpy as np

SEED = 20170825
PER_CLASS = {"train": 1000, "test": 500}
PREFIX = {"train": "train", "test": "t10k"}
TARGET = Path(__file__).parents[1] / "platform/etude/data/fashion-mnist/fashion_mnist.npz"

Array = np.ndarray[Any, Any]


def read(folder: Path, part: str) -> tuple[Array, Array]:
    """Images `(samples, 28, 28)` and labels `(samples,)` of a published part, uint8."""
    stem = PREFIX[part]
    images = gzip.decompress((folder / f"{stem}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((folder / f"{stem}-labels-idx1-ubyte.gz").read_bytes())
    return (
        np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28),
        np.frombuffer(labels, np.uint8, offset=8),
    )


def draw(labels: Array, per_class: int, rng: np.random.Generator) -> Array:
    """Places of the first `per_class` samples of each class of a permutation, well mixed."""
    order = rng.permutation(len(labels))
    kept = [order[labels[order] == label][:per_class] for label in np.unique(labels)]
    return rng.permutation(np.concatenate(kept))


def main() -> None:
    """Writes the packed file."""
    folder = Path(sys.argv[1])
    rng = np.random.default_rng(SEED)
    arrays: dict[str, Array] = {}
    for part, per_class in PER_CLASS.items():
        images, labels = read(folder, part)
        index = draw(labels, per_class, rng)
        arrays[f"x_{part}"] = images[index]
        arrays[f"y_{part}"] = labels[index]
        arrays[f"index_{part}"] = index.astype(np.uint16)
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(TARGET, **arrays)  # type: ignore[arg-type]  # its stub takes one keyword as a bool
    print(f"{TARGET}: {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
