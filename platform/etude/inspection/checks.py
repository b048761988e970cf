"""Checks of data before anything runs: each error names the set, and the sample if one is bad."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from etude.data._base import Arrays, Source, Spec
from etude.errors import DataError
from etude.tasks import Task
from etude.tasks._labels import check_numeric, shape_text

if TYPE_CHECKING:
    from etude.data import Scan

Array = np.ndarray[Any, Any]

LOOKED_AT = 20_000
_BLOCK_BYTES = 64 * 2**20
_IMBALANCE = 3.0
_OTHER_RANGE = 8.0
# By what factor standard deviations differ where ranges do and the cause is not one odd pixel.
_OTHER_SPREAD = 4.0
_SIGNED_SPREAD = 1.5
_OTHER_MEAN = 0.5  # in the smaller of the two standard deviations
_SHOWN = 12
# Tasks in which a sample can show several classes at once.
_SEVERAL = ("multi_label", "semantic_segmentation")


@dataclasses.dataclass(frozen=True)
class LabelFacts:
    """What a pass over labels showed.

    Attributes:
        seen: Samples looked at.
        complete: Whether these are all.
        counts: `(classes,)` occurrences (pixels, for masks), or `None` without classes.
        empty: Samples that have nothing to learn from.
        first_empty: The first of them.
    """

    seen: int
    complete: bool
    counts: Array | None
    empty: int = 0
    first_empty: int | None = None


def whole(source: Source, arrays: Arrays | None) -> Array | None:
    """All labels, where they are known without reading images (arrays on disk, folders)."""
    return arrays.labels if arrays is not None else source.labels


def known_blocks(source: Source, arrays: Arrays | None) -> Iterator[Array]:
    """All labels in blocks, where they are known without reading images; else none."""
    if arrays is None:
        yield from source.label_blocks(_BLOCK_BYTES)
    elif arrays.labels is not None:
        step = max(1, _BLOCK_BYTES // max(1, arrays.labels[:1].nbytes))
        for first in range(0, len(arrays), step):
            yield arrays.labels[first : first + step]


def blocks(source: Source, arrays: Arrays | None, limit: int) -> Iterator[tuple[int, Array]]:
    """Labels of a source in blocks, with the index of each block's first sample.

    Args:
        source: A labelled source.
        arrays: Its samples, when they are in memory.
        limit: Samples given of one whose labels are not known without reading images; of others
            all are given.
    """
    first = 0
    for labels in known_blocks(source, arrays):
        yield first, labels
        first += len(labels)
    if first:
        return
    for batch in source.in_order(64):
        labels = np.asarray(batch[1])[: limit - first]
        yield first, labels
        first += len(labels)
        if first >= limit:
            return


def first_labels(source: Source, arrays: Arrays | None) -> Array:
    """The first labels, up to 20,000 or 64 MiB, by which the task is chosen.

    Raises:
        DataError: There are none, or they are no numbers.
    """
    parts: list[Array] = []
    size = 0
    for _, labels in blocks(source, arrays, LOOKED_AT):
        parts.append(labels)
        size += labels.nbytes
        if size >= _BLOCK_BYTES:
            break
    if not parts or not sum(map(len, parts)):
        raise empty(source.name)
    found = np.concatenate(parts)[:LOOKED_AT]
    # What is not finite the task knows better: depth maps may have such places.
    if found.ndim < 3 or found.dtype.kind != "f":
        check_numeric(found, 0, source.name)
    return found


def empty(name: str) -> DataError:
    """The error of a set without samples."""
    return DataError(
        f"The {name} data are empty.",
        required="at least one sample",
        received="none",
        advice="look at how they were read or filtered",
    )


def check_labels(source: Source, arrays: Arrays | None, task: Task) -> LabelFacts:
    """Checks all labels (of a stream, the first 20,000), and counts classes.

    Raises:
        DataError: Naming the first bad sample.
    """
    counts: Array | None = None
    seen = empty_ = 0
    first_empty: int | None = None
    for first, labels in blocks(source, arrays, LOOKED_AT):
        task.check_labels(labels, first, source.name)
        seen = first + len(labels)
        without = np.flatnonzero(task.empty(labels))
        empty_ += len(without)
        if first_empty is None and len(without):
            first_empty = first + int(without[0])
        if task.classes() is not None:
            block = task.counts(labels)
            counts = block if counts is None else counts + block
    if seen == 0:
        raise empty(source.name)
    complete = arrays is not None or (source.size is not None and seen >= source.size)
    return LabelFacts(seen, complete, counts, empty_, first_empty)


def check_empty(facts: LabelFacts, name: str) -> list[str]:
    """Says how many samples have nothing to learn from.

    Raises:
        DataError: None of those looked at has anything.
    """
    if not facts.empty:
        return []
    if facts.empty == facts.seen:
        raise DataError(
            f"No label of the {name} data says anything.",
            required="maps with some pixels that count: for depth, finite numbers above 0",
            received=f"{facts.seen} samples of {name} without one",
            advice="look at how the maps were read; 0, negative numbers, NaN and `ignore_label` "
            "count for nothing",
        )
    return [
        f"{facts.empty} of the {facts.seen} samples of {name} that were looked at have no pixel "
        f"that counts (the first is sample {facts.first_empty}): they have no part in loss and "
        f"metrics."
    ]


def known_counts(source: Source, arrays: Arrays | None, task: Task) -> Array | None:
    """Occurrences of each class, `(classes,)`; `None` where labels are not known."""
    total: Array | None = None
    for labels in known_blocks(source, arrays):
        counts = task.counts(labels)
        total = counts if total is None else total + counts
    return total


def check_pixels(scan: Scan, name: str) -> None:
    """Raises a `DataError` for images with NaN or infinite values, or without any contrast."""
    for index, what in ((scan.first_nan, "NaN"), (scan.first_inf, "an infinite value")):
        if index is not None:
            raise DataError(
                f"An image of the {name} data is not finite.",
                required="finite pixel values",
                received=f"{what} in sample {index} of {name}",
                advice="mend or drop that sample, and look at how it was read or scaled",
            )
    if scan.constant == scan.samples:
        raise DataError(
            f"Every image of the {name} data has one value throughout.",
            required="images with something to see",
            received=f"{scan.samples} images of one value each, {scan.min:g} to {scan.max:g}",
            advice="look at how the images were read, scaled or reshaped",
        )


def overlap(train: Arrays, other: Arrays) -> int:
    """How many images of another set are, to the bit, also in train."""
    if train.images.dtype != other.images.dtype:
        return 0

    def keys(images: Array) -> list[bytes]:
        return [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images]

    known = set(keys(train.images))
    return sum(key in known for key in keys(other.images))


def check_spec(spec: Spec, name: str, *, labelled: bool) -> None:
    """Raises a `DataError` unless samples are images of one size, with labels where needed."""
    shape = spec.image_shape
    if len(shape) != 3 or shape[2] is None:
        raise DataError(
            f"The {name} data are not images.",
            required="images (samples, height, width, channels)",
            received=f"samples of shape {shape_text(shape)}",
            advice="reshape or decode them first",
        )
    if shape[0] is None or shape[1] is None:
        raise DataError(
            f"The {name} images differ in size.",
            required="images of one height and width",
            received=f"images of shape {shape_text(shape)}",
            advice="pass resize=(height, width)",
        )
    if labelled and spec.label_shape is None:
        raise DataError(
            f"The {name} data have no labels.",
            required="images and labels: (x, y)",
            received="images alone",
            advice="pass (x, y); images without labels go into `unlabeled`",
        )


def check_same(train: Spec, other: Spec, name: str) -> None:
    """Raises a `DataError` unless another set has the samples that `train` has."""
    pairs = [("images", train.image_shape, other.image_shape)]
    if other.labelled:
        assert train.label_shape is not None and other.label_shape is not None
        pairs.append(("labels", train.label_shape, other.label_shape))
    for what, first, second in pairs:
        if first != second:
            raise DataError(
                f"The {what} of train and {name} differ in shape.",
                required=f"{what} of shape {shape_text(first)}, as in train",
                received=f"{what} of shape {shape_text(second)} in {name}",
                advice="bring both through the same preparation",
            )


def deviation(scan: Scan) -> float:
    """The standard deviation of all values, of all channels together."""
    means, deviations = np.asarray(scan.mean), np.asarray(scan.std)
    return float(np.sqrt((deviations**2).mean() + means.var()))


def check_same_range(train: Scan, other: Scan, name: str) -> list[str]:
    """Checks that another set's pixels are of train's range.

    The least and the greatest value can be those of one odd pixel. So the sets differ only where
    their standard deviations do so as well, or, where one is signed, their means.

    Returns:
        Notes: a range that differs in the extremes alone.

    Raises:
        DataError: The ranges differ.
    """
    spans = max(train.max - train.min, 1e-12), max(other.max - other.min, 1e-12)
    reach = max(abs(train.min), abs(train.max)), max(abs(other.min), abs(other.max))
    spreads = max(deviation(train), 1e-12), max(deviation(other), 1e-12)
    wider = 0 if spans[0] >= spans[1] else 1
    spread = spreads[wider] / spreads[1 - wider]
    scaled = max(spans) / min(spans) >= _OTHER_RANGE and max(reach) / min(reach) >= _OTHER_RANGE
    signed = [scan.min < -0.25 * max(abs(scan.max), 1e-12) for scan in (train, other)]
    never = [scan.min >= 0 for scan in (train, other)]
    shifted = (signed[0] and never[1]) or (never[0] and signed[1])
    between = abs(float(np.mean(train.mean)) - float(np.mean(other.mean))) / min(spreads)
    if (scaled and spread >= _OTHER_SPREAD) or (
        shifted and (between >= _OTHER_MEAN or max(spreads) / min(spreads) >= _SIGNED_SPREAD)
    ):
        raise DataError(
            f"The images of train and {name} differ in range.",
            required=f"pixels of about {train.min:.4g}..{train.max:.4g}, as in train",
            received=f"pixels of {other.min:.4g}..{other.max:.4g} in {name}",
            advice="scale both the same way",
        )
    if scaled or shifted:
        return [
            f"Pixels of {name} are in {other.min:.4g}..{other.max:.4g}, those of train in "
            f"{train.min:.4g}..{train.max:.4g}, with means and spreads that agree: look for a "
            f"few odd pixels."
        ]
    return []


def _listed(classes: Array) -> str:
    shown = ", ".join(str(int(c)) for c in classes[:_SHOWN])
    return shown if len(classes) <= _SHOWN else f"{shown}, … ({len(classes)} in all)"


def _named(classes: Array, names: Sequence[str] | None) -> str:
    """Classes by name where they have names, by number where they have none."""
    if not names or len(classes) > _SHOWN:
        return f"class {_listed(classes)}"
    return ", ".join(names[int(c)] for c in classes)


def check_classes(train: LabelFacts, task: Task) -> list[str]:
    """Checks that there is something to tell apart, and says what is rare or missing.

    Raises:
        DataError: Only one class occurs, or none, and all labels were looked at.
    """
    counts = train.counts
    if counts is None:
        return []
    present = np.flatnonzero(counts)
    if len(present) < 2 and (task.name != "multi_label" or len(present) == 0):
        if not train.complete:
            found = f"only class {_listed(present)} occurs" if len(present) else "no class occurs"
            return [
                f"In the first {train.seen} samples of train {found}: if the stream is sorted by "
                f"class, shuffle it well beforehand (a buffer cannot)."
            ]
        raise DataError(
            "Only one class occurs in the training labels." if len(present) else
            "No class occurs in the training labels.",
            required="at least two classes to tell apart",
            received=f"class {_listed(present)} in all of {train.seen} samples" if len(present)
            else f"no class in {train.seen} samples",
            advice="check the labels, and that the data were not cut from one end of a sorted set",
        )  # fmt: skip
    notes = []
    absent = np.flatnonzero(counts == 0)
    if len(absent):
        notes.append(
            f"The model has {len(counts)} classes, of which {_listed(absent)} never occur in "
            f"{'train' if train.complete else f'the first {train.seen} samples of train'}."
        )
    ratio = float(counts.max()) / float(counts[present].min())
    if ratio >= _IMBALANCE:
        listed = ", ".join(f"{int(c)}: {int(counts[c])}" for c in present[:_SHOWN])
        more = "" if len(present) <= _SHOWN else f", … ({len(present)} in all)"
        notes.append(
            f"Classes are unbalanced, {ratio:.1f} to 1 ({listed}{more}): pass "
            f"class_weight='balanced', or recipe.give(sampling={{'class_weight': 'balanced'}}), "
            f"to count them alike."
        )
    return notes


def check_known(
    train: LabelFacts,
    other: LabelFacts,
    task: Task,
    name: str,
    names: Sequence[str] | None = None,
) -> list[str]:
    """Checks that another set holds no class that train lacks, and notes those that it lacks.

    A sample that has several classes, or a mask, has others to be judged by: then a class
    that train lacks is worth a note alone.

    Raises:
        DataError: It does, all of train was looked at, and samples have one class each.
    """
    if train.counts is None or other.counts is None:
        return []
    unknown = np.flatnonzero((train.counts == 0) & (other.counts > 0))
    if not len(unknown):
        absent = np.flatnonzero((train.counts > 0) & (other.counts == 0))
        if len(absent) and other.complete:
            return [
                f"{name} has no samples of {_named(absent, names)}: it does not tell how well the "
                f"model does there."
            ]
        return []
    if not train.complete:
        return [
            f"Classes {_listed(unknown)} of {name} do not occur in the first {train.seen} samples "
            f"of train."
        ]
    if task.name in _SEVERAL:
        return [
            f"Classes {_listed(unknown)} of {name} never occur in train: the model cannot learn "
            f"them, and is judged by them all the same."
        ]
    raise DataError(
        f"A class of the {name} data never occurs in train.",
        required=f"classes in {name} that the model can learn from train",
        received=f"class {_listed(unknown)} in {name} alone",
        advice="split the data so that each class is in both (stratified), or drop that class",
    )


def value_range(dtype: str, low: float, high: float) -> tuple[float, float]:
    """Lowest and highest value that a pixel can have, as far as images tell.

    0 to 255, 0 to 1 or -1 to 1 where they lie within one of these; else what was seen.

    Args:
        dtype: Of the images.
        low: The lowest value that was seen.
        high: The highest.
    """
    usual = [(0.0, 255.0)] if "int" in dtype else [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)]
    for ends in usual:
        if ends[0] <= low and high <= ends[1]:
            return ends
    return (low, high) if low < high else (low, low + 1.0)
