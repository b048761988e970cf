"""Samples that are NumPy arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from etude.data import shuffle
from etude.data._base import Arrays, Source, Spec
from etude.data.convert import Array

if TYPE_CHECKING:
    import tensorflow as tf


def image_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type that images of a type are read in: float64 as float32, bool as uint8."""
    if dtype.kind == "f" and dtype.itemsize > 4:
        return np.dtype(np.float32)
    return np.dtype(np.uint8) if dtype.kind == "b" else dtype.newbyteorder("=")


def label_type(dtype: np.dtype[Any]) -> str:
    """The name a `Spec` gives to a label dtype; every kind of text is `"str"`."""
    return "str" if dtype.kind in "OUS" else dtype.name


def spec_of(arrays: Arrays) -> Spec:
    """The spec of samples held in memory."""
    labels = arrays.labels
    return Spec(
        image_shape=tuple(arrays.images.shape[1:]),
        image_dtype=arrays.images.dtype.name,
        label_shape=None if labels is None else tuple(labels.shape[1:]),
        label_dtype=None if labels is None else label_type(labels.dtype),
        weighted=arrays.weights is not None,
    )


def sample_bytes(spec: Spec) -> int | None:
    """Bytes of one sample in memory; `None` when its size is not known."""
    total = 4 if spec.weighted else 0
    for shape, dtype in (
        (spec.image_shape, spec.image_dtype),
        (spec.label_shape, spec.label_dtype),
    ):
        if shape is None or dtype is None:
            continue
        if any(extent is None for extent in shape):
            return None
        width = 16 if dtype == "str" else np.dtype(dtype).itemsize
        total += width * int(np.prod([extent or 0 for extent in shape], dtype=np.int64))
    return max(total, 1)


def batch_signature(spec: Spec) -> tuple[list[Any], list[tuple[int | None, ...]]]:
    """TensorFlow dtypes, and shapes with a free batch axis, of a batch."""
    import tensorflow as tf

    dtypes = [tf.as_dtype(spec.image_dtype)]
    shapes: list[tuple[int | None, ...]] = [(None, *spec.image_shape)]
    if spec.label_shape is not None:
        dtypes.append(tf.string if spec.label_dtype == "str" else tf.as_dtype(spec.label_dtype))
        shapes.append((None, *spec.label_shape))
    if spec.weighted:
        dtypes.append(tf.float32)
        shapes.append((None,))
    return dtypes, shapes


def parts_of(arrays: Arrays) -> tuple[Array, ...]:
    """The arrays that are there: images, then labels, then weights."""
    parts = (arrays.images, arrays.labels, arrays.weights)
    return tuple(part for part in parts if part is not None)


def arrays_of(parts: Sequence[Any], spec: Spec) -> Arrays:
    """A batch, as its parts in order, back as `Arrays`."""
    values = [np.asarray(part) for part in parts]
    labels = values[1] if spec.labelled else None
    return Arrays(values[0], labels, values[-1] if spec.weighted else None)


def gathered(
    ids: tf.data.Dataset,
    spec: Spec,
    take: Callable[[Array], tuple[Array, ...]],
) -> tf.data.Dataset:
    """The samples of a stream of id batches, fetched by a NumPy function.

    Args:
        ids: Dataset of int64 ids `(batch,)`.
        spec: What a sample is.
        take: From ids to the parts of a batch.
    """
    import tensorflow as tf

    dtypes, shapes = batch_signature(spec)

    def fetch(numbers: Any) -> tuple[Any, ...]:
        # The samples stay in NumPy: no copy of the whole set, and memory-mapped files stay on disk.
        values = tf.numpy_function(take, [numbers], dtypes, stateful=False)
        for value, shape in zip(values, shapes, strict=True):
            value.set_shape((None, *shape[1:]))
        return tuple(values)

    return ids.map(fetch, num_parallel_calls=2, deterministic=True).prefetch(2)


class ArraySource(Source):
    """A source over arrays in memory (or memory-mapped).

    Args:
        arrays: Checked samples. Images of a type that models do not take (float64, bool) are
            converted as they are read.
        name: What messages call the source.
        class_names: Names of the classes, in label order, where known.
        notes: What is worth saying of where the samples came from.
        indices: `(samples,)`: which of `arrays`, in which order; `None` for all of them. A part
            of a set is held in this way, so that what lies on disk stays there.
    """

    endless = False

    def __init__(
        self,
        arrays: Arrays,
        *,
        name: str = "train",
        class_names: tuple[str, ...] | None = None,
        notes: tuple[str, ...] = (),
        indices: Array | None = None,
    ) -> None:
        self.name = name
        self.shuffle = "perfect: every epoch is its own permutation of all samples"
        self.class_names = class_names
        self.notes = notes
        # Replaced as one, since readers in threads take it as it is.
        self._view: tuple[Arrays, Array | None] = (arrays, indices)
        dtype = image_type(arrays.images.dtype)
        self._spec = dataclasses.replace(spec_of(arrays), image_dtype=dtype.name)

    @property
    def size(self) -> int:
        """The number of samples."""
        arrays, indices = self._view
        return len(arrays) if indices is None else len(indices)

    @property
    def spec(self) -> Spec:
        """Shape and dtype of a sample."""
        return self._spec

    def count(self) -> int:
        """The number of samples."""
        return self.size

    def arrays(self, limit: int) -> Arrays | None:
        """All samples in memory, or `None` when they take more than `limit` bytes."""
        arrays, indices = self._view
        if indices is None and arrays.images.dtype == image_type(arrays.images.dtype):
            return arrays if arrays.nbytes <= limit else None
        rows = [part.nbytes // max(1, len(part)) for part in parts_of(arrays)[1:]]
        pixels = int(np.prod(arrays.images.shape[1:], dtype=np.int64))
        rows.append(pixels * np.dtype(self.spec.image_dtype).itemsize)
        if self.size * sum(rows) > limit:
            return None
        held = self._read(np.arange(self.size))
        self._view = (held, None)  # the whole is let go of
        return held

    @property
    def labels(self) -> Array | None:
        """All labels `(samples, ...)`; of a part that is not held, a copy."""
        arrays, indices = self._view
        if indices is None or arrays.labels is None:
            return arrays.labels
        return arrays.labels[indices]

    def label_blocks(self, block_bytes: int) -> Iterator[Array]:
        """As `Source.label_blocks`; of a part, one block at a time is copied."""
        arrays, indices = self._view
        if indices is None or arrays.labels is None:
            yield from super().label_blocks(block_bytes)
            return
        step = max(1, block_bytes // max(1, arrays.labels[:1].nbytes))
        for first in range(0, len(indices), step):
            yield arrays.labels[indices[first : first + step]]

    def renumbered(self, table: Array, names: tuple[str, ...]) -> Source:
        """As `Source.renumbered`."""
        arrays, indices = self._view
        if arrays.labels is None or arrays.labels.ndim != 1 or arrays.labels.dtype.kind not in "iu":
            return super().renumbered(table, names)
        old = arrays.labels
        known = (old >= 0) & (old < len(table))  # what is no class stays, to be reported as such
        labels = np.where(known, table[np.where(known, old, 0)], old).astype(old.dtype)
        return ArraySource(
            dataclasses.replace(arrays, labels=labels),
            name=self.name,
            class_names=names,
            notes=self.notes,
            indices=indices,
        )

    def subset(self, indices: Array, *, name: str) -> ArraySource:
        """A source of the samples at `indices`, in that order; nothing is copied."""
        arrays, known = self._view
        return ArraySource(
            arrays,
            name=name,
            class_names=self.class_names,
            notes=self.notes,
            indices=indices if known is None else known[indices],
        )

    def _read(self, ids: Array) -> Arrays:
        arrays, indices = self._view
        taken = arrays.take(ids if indices is None else indices[ids])
        images = taken.images.astype(self.spec.image_dtype, copy=False)
        return dataclasses.replace(taken, images=images)

    def _take(self, ids: Array) -> tuple[Array, ...]:
        return parts_of(self._read(ids))

    def in_order(self, batch_size: int) -> tf.data.Dataset:
        """One pass in natural order; the last batch may be smaller."""
        ids = shuffle.ids_in_order(self.size, batch_size)
        return gathered(ids, self.spec, self._take)

    def shuffled(self, batch_size: int, *, seed: int, start: int = 0) -> tf.data.Dataset:
        """Endless full batches, a function of `seed`, beginning with step `start`."""
        ids = shuffle.id_stream(self.size, batch_size, seed, start)
        return gathered(ids, self.spec, self._take)


def in_memory(source: Source, limit: int) -> Source:
    """The source as an `ArraySource` where it takes at most `limit` bytes, else itself."""
    if isinstance(source, ArraySource):
        return source
    arrays = source.arrays(limit)
    if arrays is None:
        return source
    return ArraySource(
        arrays,
        name=source.name,
        class_names=getattr(source, "class_names", None),
        notes=getattr(source, "notes", ()),
    )
