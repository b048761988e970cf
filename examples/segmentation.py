"""Masks as labels: a U-Net that finds discs.

python examples/segmentation.py [--quick]
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

import etude


def discs(images: int, seed: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Grey pictures `(images, 32, 32, 1)` uint8, and masks `(images, 32, 32)`: 1 in the disc."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:32, :32]
    centre, radius = rng.integers(8, 24, (2, images, 1, 1)), rng.integers(4, 9, (images, 1, 1))
    masks = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2
    pictures = rng.integers(0, 140, masks.shape) + 90 * masks
    return pictures[..., np.newaxis].astype(np.uint8), masks.astype(np.uint8)


def main(quick: bool) -> None:
    """Trains on some drawings, chooses by others."""
    images = 64 if quick else 1000
    model = etude.models.unet((32, 32, 1), classes=2, width=4 if quick else 8, depth=2, seed=0)
    report = etude.fit(
        model,
        discs(images, seed=0),
        discs(images // 4, seed=1),
        task="semantic_segmentation",
        epochs=1 if quick else 5,
    )
    report.summary()


if __name__ == "__main__":
    main("--quick" in sys.argv)
