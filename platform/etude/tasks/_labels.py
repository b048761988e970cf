"""Checks and sums over blocks of labels that several tasks share. NumPy only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from etude.errors import DataError, ModelError

Array = np.ndarray[Any, Any]


def shape_text(shape: tuple[int | None, ...]) -> str:
    """A shape in words: `()` is "one number", `(10,)` stays `(10,)`."""
    return "() (one number)" if shape == () else str(shape).replace("None", "?")


def first_bad(bad: Array) -> tuple[int, Any] | None:
    """The first sample with a bad entry and that entry's index in it, or `None`.

    Args:
        bad: `(samples, ...)` bool.
    """
    if not bad.any():
        return None
    flat = bad.reshape(len(bad), -1)
    sample = int(flat.any(axis=1).argmax())
    place = np.unravel_index(int(flat[sample].argmax()), bad.shape[1:]) if bad.ndim > 1 else ()
    return sample, tuple(int(i) for i in place)


def place_text(place: tuple[int, ...]) -> str:
    """Where in a label a bad entry is, for a message; empty for labels of one number."""
    return f" at {place}" if len(place) > 0 and place != (0,) else ""


def require(bad: Array, labels: Array, first: int, where: str, required: str, advice: str) -> None:
    """Raises a `DataError` that names the first sample with a bad entry.

    Args:
        bad: `(samples, ...)` bool, of the labels' shape.
        labels: `(samples, ...)`.
        first: Index of the block's first sample.
        where: What the data are called.
        required: What labels have to be.
        advice: What to do.
    """
    hit = first_bad(bad)
    if hit is None:
        return
    sample, place = hit
    value = labels[(sample, *place)]
    raise DataError(
        f"A label of the {where} data is out of place.",
        required=required,
        received=f"{value!s} in sample {first + sample}{place_text(place)} of {where}",
        advice=advice,
    )


def check_numeric(labels: Array, first: int, where: str) -> None:
    """Raises a `DataError` unless all labels are finite numbers or bools."""
    if labels.dtype.kind not in "iufb":
        sample = labels.reshape(len(labels), -1)[0, 0] if labels.size else labels.dtype
        raise DataError(
            f"The labels of the {where} data are not numbers.",
            required="integers, bools or floats",
            received=f"dtype {labels.dtype}, sample {first} is {sample!r}",
            advice="number them: `classes, y = numpy.unique(labels, return_inverse=True)`",
        )
    if labels.dtype.kind == "f":
        require(
            ~np.isfinite(labels),
            labels,
            first,
            where,
            "finite labels",
            "drop or mend the samples with NaN or infinite labels",
        )


def check_whole(
    labels: Array, first: int, where: str, classes: int, advice: str, ignore: int | None = None
) -> None:
    """Raises a `DataError` unless all labels are whole and in `0..classes-1`, or `ignore`."""
    check_numeric(labels, first, where)
    keep = np.zeros(labels.shape, bool) if ignore is None else labels == ignore
    required = f"whole numbers 0..{classes - 1}"
    if ignore is not None:
        required += f", or {ignore} (ignored)"
    if labels.dtype.kind == "f":
        require((labels != np.floor(labels)) & ~keep, labels, first, where, required, advice)
    if labels.dtype.kind != "b":
        require(
            ((labels < 0) | (labels >= classes)) & ~keep, labels, first, where, required, advice
        )


def check_ignore(task: str, ignore: int | None) -> None:
    """Raises a `DataError` when labels are to be ignored by a task that has no pixels."""
    if ignore is not None:
        raise DataError(
            "`ignore_label` was given, but the labels are not masks.",
            required="masks (semantic segmentation), whose pixels can be left out",
            received=f"ignore_label={ignore} with task {task!r}",
            advice="drop `ignore_label`, and leave out such samples instead",
        )


def check_size(
    what: str,
    label: tuple[int | None, ...],
    image: tuple[int | None, ...],
    output: tuple[int | None, ...],
) -> None:
    """Raises a `DataError` unless maps have height and width of images and outputs.

    Args:
        what: What the maps are called.
        label: Shape of one.
        image: Shape of an image.
        output: Shape of an output.
    """
    for other, size in (("images", image[:2]), ("outputs", output[:2])):
        if any(a != b for a, b in zip(label[:2], size, strict=True) if a and b):
            raise DataError(
                f"The {what} and the {other} differ in size.",
                required=f"{what} of height and width {size}, as the {other}",
                received=f"{what} of shape {label}",
                advice=(
                    f"resize the {what} (nearest neighbour) or the images, so that they agree"
                    if other == "images"
                    else "let the model give its outputs at the size of its images"
                ),
            )


def no_room(task: str, needs: str, label: str, output: str) -> ModelError:
    """The error of a task whose labels and outputs do not go together."""
    return ModelError(
        f"Task {task!r} does not fit these labels and this output.",
        required=needs,
        received=f"labels of shape {label}, outputs of shape {output}",
        advice="change the model's last layer or the labels, or name another `task`",
    )


def histogram(labels: Array, classes: int) -> Array:
    """How often each of `0..classes-1` occurs, `(classes,)` int64; others are left out."""
    flat = np.asarray(labels).reshape(-1)
    flat = flat[(flat >= 0) & (flat < classes)].astype(np.int64)
    return np.bincount(flat, minlength=classes).astype(np.int64)


def balanced_weights(counts: Array) -> dict[int, float]:
    """Weights by which every class that occurs counts the same in sum.

    `n / (k count)` with n labels in k classes that occur: the mean weight over all labels
    is 1, as in scikit-learn's `compute_class_weight("balanced", …)`.

    Args:
        counts: `(classes,)` non-negative.

    Example:
        >>> import numpy as np
        >>> balanced_weights(np.array([30, 10]))
        {0: 0.6666666666666666, 1: 2.0}
    """
    present = np.flatnonzero(counts)
    total = float(np.sum(counts))
    return {int(c): total / (len(present) * float(counts[c])) for c in present}


def weight_table(weights: Mapping[int, float], classes: int) -> Array:
    """Class weights as `(classes,)` float32; classes not named weigh 1.

    Raises:
        DataError: A class that does not exist, or a weight that is negative or not finite.
    """
    table = np.ones(classes, np.float32)
    for key, value in weights.items():
        if not isinstance(key, int | np.integer) or not 0 <= key < classes:
            raise DataError(
                "`class_weight` names a class that does not exist.",
                required=f"classes 0..{classes - 1} as integers",
                received=repr(key),
                advice="use the class numbers of the labels as keys",
            )
        if not np.isfinite(value) or value < 0:
            raise DataError(
                f"The weight of class {key} is not valid.",
                required="a finite number, 0 or more",
                received=repr(value),
                advice="mend `class_weight`",
            )
        table[int(key)] = value
    return table


def rarest(present: Array) -> Array:
    """The rarest class among those each sample has, by which a split is stratified.

    Args:
        present: `(samples, classes)` bool.

    Returns:
        `(samples,)` int64; `classes` for samples that have none.
    """
    classes = present.shape[1]
    often = present.sum(axis=0)
    rank = np.where(present, often[None, :], np.iinfo(np.int64).max)
    return np.where(present.any(axis=1), rank.argmin(axis=1), classes).astype(np.int64)
