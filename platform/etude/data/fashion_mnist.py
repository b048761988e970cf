"""A part of Fashion-MNIST that comes with the package: no download, no set-up."""

from __future__ import annotations

from importlib import resources
from typing import Any

import numpy as np

CLASSES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
"""The classes' names, by label."""

_Pair = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


def load() -> tuple[_Pair, _Pair]:
    """10,000 training and 5,000 test images of Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017).

    Each part has the same number of images of every class, in mixed order; the images are
    those of the published training and test parts, pixel for pixel. They are too few to be
    compared with published figures: use the full set for that. MIT licence, © Zalando SE.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: images uint8 `(10000, 28, 28, 1)` and
        `(5000, 28, 28, 1)` in 0..255, labels int64 `(10000,)` and `(5000,)` in 0..9.

    Example:
        >>> (x_train, y_train), (x_test, y_test) = load()
        >>> x_train.shape, CLASSES[y_train[0]]
        ((10000, 28, 28, 1), 'coat')
    """
    file = resources.files("etude.data") / "fashion-mnist" / "fashion_mnist.npz"
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        train, test = (
            (arrays[f"x_{part}"][..., np.newaxis], arrays[f"y_{part}"].astype(np.int64))
            for part in ("train", "test")
        )
    return train, test
