"""A folder with one folder of images per class.

python examples/folder.py [--quick]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

import etude


def draw(folder: Path, images: int) -> None:
    """Writes pictures of discs and squares, as `folder/disc/0.png` and so on."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:32, :32]
    for name in ("disc", "square"):
        (folder / name).mkdir(parents=True)
        for i in range(images):
            (row, column), radius = rng.integers(10, 22, 2), rng.integers(4, 9)
            distance = np.stack([abs(rows - row), abs(columns - column)])
            inside = np.hypot(*distance) <= radius if name == "disc" else distance.max(0) <= radius
            picture = rng.integers(0, 100, (32, 32, 3)) + 120 * inside[..., None]
            png = tf.io.encode_png(picture.astype(np.uint8))
            (folder / name / f"{i}.png").write_bytes(png.numpy())


def main(quick: bool) -> None:
    """Draws a folder of pictures and trains on it."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "shapes"
        draw(folder, images=40 if quick else 400)
        model = etude.models.small_cnn((32, 32, 3), classes=2, seed=0)
        report = etude.fit(model, folder, epochs=1 if quick else 10)
        report.summary()


if __name__ == "__main__":
    main("--quick" in sys.argv)
