"""What all sources share that are read batch by batch: counting, and holding what fits."""

from __future__ import annotations

import abc
import hashlib
import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from etude.data._base import Arrays, Source, Spec
from etude.data.arrays import arrays_of, parts_of, sample_bytes
from etude.data.convert import check_weights
from etude.errors import DataError

if TYPE_CHECKING:
    import tensorflow as tf

_READ_BATCH = 64
_BUFFER_BYTES = 256 * 2**20
_BUFFER_SAMPLES = 10_000
_COMPARED = 64

COUNTED_AT_MOST = 2_000_000
"""Samples of a stream of unknown length that are read to count it; it may have no end."""


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
        memory_budget: Bytes that the shuffle buffer may take a share of.
        counts_at_most: Samples after which a stream that does not end is refused; `None` for
            one that is known to end.
        varies: Whether every pass brings other samples (random augmentation): such a stream is
            never held in memory.
    """

    endless: bool = False
    memory_budget: int = 4 * 2**30
    counts_at_most: int | None = None
    varies: bool = False
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
            DataError: For an endless stream, or one that does not end within `counts_at_most`.
        """
        if self._size is None:
            if self.endless:
                raise endless_error(self.name, "counted")
            self._size = sum(len(batch) for batch in self._ending())
        return self._size

    def _ending(self) -> Iterator[Arrays]:
        """One pass in NumPy, which is broken off where it seems to have no end."""
        read = 0
        for batch in self.batches(_READ_BATCH):
            read += len(batch)
            if self.counts_at_most is not None and read > self.counts_at_most:
                raise no_end(self.name, self.counts_at_most)
            yield batch

    def counted(self, size: int) -> None:
        """Takes note of the number of samples, which a full pass over them showed."""
        self._size = size

    def arrays(self, limit: int) -> Arrays | None:
        """All samples in memory, or `None` when they take more than `limit` bytes."""
        if self._held is not None:
            return self._held if self._held.nbytes <= limit else None
        if self.endless or self.varies or limit <= self._exceeds:
            return None
        each = sample_bytes(self.spec)
        if self._size is not None and each is not None and self._size * each > limit:
            self._exceeds = limit
            return None
        held = gather_batches(self._ending(), limit)
        if held is None:
            self._exceeds = limit
            return None
        if held.weights is not None:
            check_weights(held.weights, self.name)
        self._held, self._size = held, len(held)
        return held

    def vary(self) -> None:
        """Takes note that every pass brings other samples: lets go of what is held of one."""
        self.varies, self._held = True, None


def sample_keys(arrays: Arrays) -> Iterator[bytes]:
    """A digest of each sample, of all its parts."""
    for sample in zip(*parts_of(arrays), strict=True):
        content = b"".join(_content(part) for part in sample)
        yield hashlib.blake2b(content, digest_size=16).digest()


def _content(part: Any) -> bytes:
    if isinstance(part, str | bytes):
        return part if isinstance(part, bytes) else part.encode()
    return np.ascontiguousarray(part).tobytes()


def first_samples(source: Source) -> list[bytes]:
    """Digests of the first samples of a pass, up to 64."""
    keys: list[bytes] = []
    for batch in source.in_order(_READ_BATCH):
        keys += sample_keys(arrays_of(batch, source.spec))
        if len(keys) >= _COMPARED:
            break
    return keys[:_COMPARED]


def two_passes(source: Source) -> list[list[bytes]]:
    """Digests of the first samples, up to 64, of two passes, one after the other.

    Both are read by one iterator, as in training: under a seed for the whole process random
    operations begin anew with every iterator, and two of them would agree.
    """
    import tensorflow as tf

    def beginning(number: Any) -> tf.data.Dataset:
        return source.in_order(_COMPARED).take(1).map(lambda *batch: (number, *batch))

    keys: list[list[bytes]] = [[], []]
    for number, *batch in tf.data.Dataset.range(2).flat_map(beginning):
        keys[int(number)] += sample_keys(arrays_of(batch, source.spec))
    return keys


def passes_differ(source: Source, limit: int) -> str:
    """In what a second pass over a stream differs from the first, by its first 64 samples.

    A stream that fits in memory is held by one pass: samples of another pass that occur nowhere
    in it are new. Of others two short passes are compared, where a change of order and one of
    contents look alike.

    Args:
        source: The stream, or an adapted one.
        limit: Bytes within which it is held.

    Returns:
        `""` (in nothing), `"order"`, `"contents"`, or `"either"` where that cannot be told.
    """
    held = source.arrays(limit)
    first, again = two_passes(source)
    if held is None:
        return "" if again in (first, []) else "either"
    if again == list(itertools.islice(sample_keys(held), len(again))):
        return ""  # also for a stream that can be read only once
    return "order" if set(again) <= set(sample_keys(held)) else "contents"


def endless_error(name: str, verb: str) -> DataError:
    """The error for an endless stream where a finite set is needed."""
    return DataError(
        f"The stream {name} is endless and cannot be {verb}.",
        required="A finite set.",
        received="A tf.data.Dataset or PyDataset without an end.",
        advice="Take a number of samples with dataset.take(n), or leave out .repeat()"
        + (", or pass separate data for validation." if verb == "split" else "."),
    )


def no_end(name: str, read: int) -> DataError:
    """The error for a stream of unknown length that went on and on."""
    return DataError(
        f"The stream {name} does not say how many samples it has, and may have no end.",
        required=f"A known number of samples, or an end within {read:,}.",
        received=f"More than {read:,} samples from a tf.data.Dataset of unknown cardinality.",
        advice="State the number of its elements by dataset.apply("
        "tf.data.experimental.assert_cardinality(n)), or take some with dataset.take(n). An "
        "endless generator is fine for training when .repeat() marks it as endless and "
        "validation data are passed.",
    )
