"""What all sources share that are read batch by batch: counting, and holding what fits."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from etude.data._base import Arrays, Source, Spec
from etude.data.arrays import parts_of, sample_bytes
from etude.data.convert import check_weights
from etude.errors import DataError

if TYPE_CHECKING:
    import tensorflow as tf

_READ_BATCH = 64
_BUFFER_BYTES = 256 * 2**20
_BUFFER_SAMPLES = 10_000


def gather_batches(batches: Iterable[Arrays], limit: int) -> Arrays | None:
    """All batches as one, or `None` as soon as they take more than `limit` bytes.

    The peak is about twice the result: the batches, and their concatenation.
    """
    held: list[Arrays] = []
    total = 0
    for batch in batches:
        total += batch.nbytes
        if total > limit:
            return None
        held.append(batch)
    columns = [np.concatenate(column) for column in zip(*map(parts_of, held), strict=True)]
    first = held[0]
    return Arrays(
        columns[0],
        columns[1] if first.labels is not None else None,
        columns[-1] if first.weights is not None else None,
    )


def buffer_samples(spec: Spec, memory_budget: int) -> int:
    """How many samples a shuffle buffer may hold: an eighth of the memory, at most 256 MiB."""
    share = min(_BUFFER_BYTES, memory_budget // 8)
    return max(1, min(_BUFFER_SAMPLES, share // (sample_bytes(spec) or 1)))


def buffer_words(buffer: int, size: int | None) -> str:
    """How well a shuffle buffer mixes, in words."""
    if size is not None and buffer >= size:
        return f"perfect: the buffer holds all {size} samples in every pass"
    share = "" if size is None else f" ({100 * buffer / size:.0f} % of the set)"
    return (
        f"within a buffer of {buffer} samples{share}, filled anew in every pass; "
        "samples far apart in the stream do not meet"
    )


class StreamSource(Source):
    """A source that is read batch by batch.

    Attributes:
        endless: Whether the stream never ends; such a source has no size.
        class_names: Names of the classes, in label order, where known.
        notes: What is worth saying of where the samples came from.
    """

    endless: bool = False
    class_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    def __init__(self, spec: Spec, *, name: str, size: int | None) -> None:
        self.name = name
        self._spec = spec
        self._size = size
        self._held: Arrays | None = None
        self._exceeds = -1  # the set is known to take more bytes than this

    @property
    def size(self) -> int | None:
        """The number of samples; `None` when unknown or endless."""
        return self._size

    @property
    def spec(self) -> Spec:
        """Shape and dtype of a sample."""
        return self._spec

    @abc.abstractmethod
    def batches(self, batch_size: int) -> Iterator[Arrays]:
        """One pass in NumPy, in natural order.

        Raises:
            DataError: If a batch cannot be read or does not meet the spec.
        """

    @abc.abstractmethod
    def samples(self) -> tf.data.Dataset:
        """One pass over single samples `(image, ...)`, in natural order."""

    def count(self) -> int:
        """The number of samples; reads the stream once when it is not known.

        Raises:
            DataError: For an endless stream.
        """
        if self._size is None:
            if self.endless:
                raise endless_error(self.name, "counted")
            self._size = sum(len(batch) for batch in self.batches(_READ_BATCH))
        return self._size

    def counted(self, size: int) -> None:
        """Takes note of the number of samples, which a full pass over them showed."""
        self._size = size

    def arrays(self, limit: int) -> Arrays | None:
        """All samples in memory, or `None` when they take more than `limit` bytes."""
        if self._held is not None:
            return self._held if self._held.nbytes <= limit else None
        if self.endless or limit <= self._exceeds:
            return None
        each = sample_bytes(self.spec)
        if self._size is not None and each is not None and self._size * each > limit:
            self._exceeds = limit
            return None
        held = gather_batches(self.batches(_READ_BATCH), limit)
        if held is None:
            self._exceeds = limit
            return None
        if held.weights is not None:
            check_weights(held.weights, self.name)
        self._held, self._size = held, len(held)
        return held


def endless_error(name: str, verb: str) -> DataError:
    """The error for an endless stream where a finite set is needed."""
    return DataError(
        f"The stream {name} is endless and cannot be {verb}.",
        required="A finite set.",
        received="A tf.data.Dataset or PyDataset without an end.",
        advice="Take a number of samples with dataset.take(n), leave out .repeat(), "
        "or pass separate data for validation.",
    )
