"""Arrays as `fit` takes them, held as samples with an identity."""

from __future__ import annotations

import dataclasses
import zlib
from typing import Any

import numpy as np

from etude.data._base import Arrays
from etude.data.resident import Resident
from etude.errors import DataError


@dataclasses.dataclass(frozen=True)
class Held:
    """Arrays that are held.

    Attributes:
        of: What they were made of, the objects themselves.
        sums: Checksums of what was in these, which may be changed in place.
        data: The samples to train on.
        validation: Samples that were split off, `(x, y[, weight])`.
    """

    of: tuple[Any, ...]
    sums: tuple[int, ...]
    data: Resident
    validation: tuple[Any, ...] | None


def held(x: Any, y: Any, options: dict[str, Any], before: Held | None) -> Held:
    """Arrays with what `keras.Model.fit` would do to them done.

    Args:
        x: `(samples, ...)`.
        y: `(samples, ...)`.
        options: Of `fit`. `sample_weight`, `class_weight`, `validation_split` and `shuffle` are
            taken out; a split becomes `validation_data`, the last samples, as in Keras.
        before: What an earlier call held: of the same objects with the same content it is that, so
            that the step needs no other trace.

    Raises:
        DataError: They do not go together, or are not to be shuffled.
    """
    weights = options.pop("sample_weight", None)
    classes = options.pop("class_weight", None)
    split = options.pop("validation_split", 0.0) or 0.0
    if options.get("validation_data") is not None:  # which goes before a split, as in Keras
        split = 0.0
    if not options.pop("shuffle", True):
        raise DataError(
            "Samples that are chosen are not in order.",
            required="`shuffle=True`, as it is by default",
            received="shuffle=False",
            advice="leave it out, or sample uniformly",
        )
    of = (x, y, weights, classes, split)
    arrays = _arrays(x, y, weights)
    sums = _sums(arrays, classes)
    same = before is not None and all(a is b for a, b in zip(of, before.of, strict=True))
    if before is None or not same or before.sums != sums:
        before = _made(of, sums, arrays, classes, split)
    if before.validation is not None:
        options["validation_data"] = before.validation
    return before


def _arrays(x: Any, y: Any, weights: Any) -> Arrays:
    if isinstance(x, dict | list | tuple):
        raise DataError(
            "Samples are chosen of one array of images.",
            required="x as an array",
            received=f"a {type(x).__name__}",
            advice="pass one array, or sample uniformly",
        )
    images, labels = np.asarray(x), np.asarray(y)
    sizes = {len(part) for part in (images, labels, weights) if part is not None}
    if len(sizes) != 1:
        raise DataError(
            "Images, labels and weights are not of one number.",
            required="as many of each",
            received=f"x of shape {images.shape}, y of shape {labels.shape}"
            + ("" if weights is None else f", sample_weight of shape {np.shape(weights)}"),
            advice="mend the arrays",
        )
    return Arrays(images, labels, None if weights is None else np.asarray(weights, np.float32))


def _sums(arrays: Arrays, classes: Any) -> tuple[int, ...]:
    parts = (arrays.images, arrays.labels, arrays.weights)
    found = [0 if part is None else zlib.crc32(np.ascontiguousarray(part).data) for part in parts]
    return (*found, zlib.crc32(repr(sorted((classes or {}).items())).encode()))


def _made(
    of: tuple[Any, ...], sums: tuple[int, ...], arrays: Arrays, classes: Any, split: float
) -> Held:
    validation = None
    if split:
        first = int(len(arrays) * (1.0 - split))
        rest = arrays.take(np.arange(first, len(arrays)))
        parts = (rest.images, rest.labels, rest.weights)
        validation = tuple(part for part in parts if part is not None)
        arrays = arrays.take(np.arange(first))
    if classes:  # which count in training alone
        weights = _by_class(arrays.labels, classes)
        if arrays.weights is not None:
            weights = weights * arrays.weights
        arrays = dataclasses.replace(arrays, weights=weights)
    return Held(of, sums, Resident(arrays), validation)


def _by_class(labels: Any, weights: dict[int, float]) -> Any:
    """The weight of each sample's class, 1 for one that is not named, `(samples,)` float32."""
    if labels.ndim > 2:
        raise DataError(
            "Class weights are of images, and these labels are of pixels.",
            required="labels (samples,), (samples, 1) or one-hot (samples, classes)",
            received=f"labels of shape {labels.shape}",
            advice="leave `class_weight` out, or weigh pixels by `sample_weight`",
        )
    numbers = labels.reshape(len(labels), -1)
    numbers = numbers.argmax(axis=1) if numbers.shape[1] > 1 else numbers[:, 0].astype(np.int64)
    table = np.ones(int(numbers.max()) + 1, np.float32)
    for number, weight in weights.items():
        if 0 <= number < len(table):
            table[number] = weight
    return table[numbers]
