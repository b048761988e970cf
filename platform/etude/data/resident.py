"""Data that live beside the model: batches of ids travel, samples are gathered in the step."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from etude.data._base import Arrays
from etude.data.shuffle import id_stream, ids_in_order, permutation, seed_number, untuned

_PREFIX = "etude_resident_"
BESIDE = 1_000_003
"""What the seed of the order of samples beside a batch is further on."""
_counter = itertools.count()
_residents: weakref.WeakValueDictionary[str, Resident] = weakref.WeakValueDictionary()


class Resident:
    """All samples of a set as tensors, in memory beside the model.

    It can be given to `etude.Trainer`'s `fit`, `evaluate` and `predict` in the place of a
    data set. A batch is then a vector of ids, which are the samples' identity, and the
    shuffle is perfect: a permutation from seed and epoch.

    Args:
        arrays: The samples.

    Example:
        >>> data = Resident(Arrays(images, labels))  # doctest: +SKIP
        >>> trainer.fit(data, batch_size=128, epochs=3)  # doctest: +SKIP
    """

    def __init__(self, arrays: Arrays) -> None:
        self.size = len(arrays)
        self.images = tf.convert_to_tensor(arrays.images)
        self.labels = None if arrays.labels is None else tf.convert_to_tensor(arrays.labels)
        self.weights = None
        if arrays.weights is not None:
            self.weights = tf.convert_to_tensor(np.asarray(arrays.weights, np.float32))
        self.key = f"{_PREFIX}{next(_counter)}"
        _residents[self.key] = self

    def __len__(self) -> int:
        return self.size

    def shuffled(
        self, batch_size: int, *, seed: int, start: int = 0, beside: int = 0
    ) -> tf.data.Dataset:
        """Endless full batches of ids, beginning with step `start`.

        Args:
            batch_size: Ids in a batch.
            seed: Of their order.
            start: The first step.
            beside: Ids of a second stream of its own order, that come with each batch.
        """
        key = self.key

        def stream(size: int, seed: int) -> tf.data.Dataset:
            return id_stream(self.size, size, seed=seed, start=start).map(lambda i: {key: i})

        if not beside:
            return stream(batch_size, seed)
        return with_beside(stream(batch_size, seed), stream(beside, seed_number(seed + BESIDE)))

    def part(
        self, samples: int, batch_size: int, *, seed: int, order: int, beside: int = 0
    ) -> tf.data.Dataset:
        """As `shuffled`, of a random part alone: `seed` says which, `order` how it is shuffled."""
        key = self.key
        samples = min(samples, self.size)
        chosen = tf.constant(permutation(self.size, seed, 0)[:samples])

        def stream(size: int, seed: int) -> tf.data.Dataset:
            positions = id_stream(samples, size, seed=seed)
            return positions.map(lambda i: {key: tf.gather(chosen, i)})

        own = seed + 1 + order
        if not beside:
            return stream(batch_size, own)
        return with_beside(stream(batch_size, own), stream(beside, seed_number(own + BESIDE)))

    def beyond(
        self, part: int, samples: int, batch_size: int, *, seed: int
    ) -> Iterator[tuple[Any, ...]]:
        """Batches `(x, y[, weight])` of samples that `part` leaves out, in order.

        Args:
            part: How many samples the part has.
            samples: How many are wanted.
            batch_size: Samples in a batch; the last may be smaller.
            seed: As of `part`.
        """
        chosen = permutation(self.size, seed, 0)[part : part + samples]
        for start in range(0, len(chosen), batch_size):
            found = self.gather(tf.constant(chosen[start : start + batch_size]))
            yield tuple(one for one in found if one is not None)

    def in_order(self, batch_size: int) -> tf.data.Dataset:
        """One pass of ids in natural order; the last batch may be smaller."""
        key = self.key
        return ids_in_order(self.size, batch_size).map(lambda i: {key: i})

    def gather(self, ids: Any) -> tuple[Any, Any, Any]:
        """Images, labels and weights of a batch of ids; `None` for what there is not."""
        labels = None if self.labels is None else ops.take(self.labels, ids, axis=0)
        weights = None if self.weights is None else ops.take(self.weights, ids, axis=0)
        return as_input(ops.take(self.images, ids, axis=0)), labels, weights


def sample_spec(spec: Any) -> Any:
    """The element spec of the samples that a batch of ids, or its spec, stands for.

    Any other is given back as it is.
    """
    key = next(iter(spec)) if isinstance(spec, Mapping) and len(spec) == 1 else None
    if not isinstance(key, str) or key not in _residents:
        return spec
    resident = _residents[key]
    images = as_input(resident.images[:1])
    parts = [part for part in (images, resident.labels, resident.weights) if part is not None]
    return tuple(tf.TensorSpec((None, *part.shape[1:]), part.dtype) for part in parts)


def as_input(images: Any) -> Any:
    """Integer images as floats of the same value, as a Functional model takes them."""
    if keras.backend.is_float_dtype(keras.backend.standardize_dtype(images.dtype)):
        return images
    return ops.cast(images, keras.config.floatx())


def with_beside(batches: tf.data.Dataset, beside: tf.data.Dataset) -> tf.data.Dataset:
    """Batches, each with samples beside it as `parted` takes them apart."""
    return untuned(tf.data.Dataset.zip({"batch": batches, "beside": beside}))


def batch_size(data: tf.data.Dataset) -> int:
    """Samples in a batch, by the first where no spec says it."""
    leading = tf.nest.flatten(own_part(data.element_spec))[0].shape
    if leading.rank and leading[0] is not None:
        return int(leading[0])
    return int(tf.shape(tf.nest.flatten(own_part(next(iter(data))))[0])[0])


def with_unlabeled(batches: tf.data.Dataset, images: tf.data.Dataset) -> tf.data.Dataset:
    """Batches, which may have samples beside them, each with images without labels as well."""

    def joined(batch: Any, images: Any) -> Any:
        own = batch if _accompanied(batch) else {"batch": batch}
        return {**own, "unlabeled": images}

    both = tf.data.Dataset.zip((batches, images)).map(joined)
    length = batches.cardinality()
    if length != tf.data.UNKNOWN_CARDINALITY:
        # Of images that stream nobody knows how many there are, but that they never end.
        both = both.apply(tf.data.experimental.assert_cardinality(length))
    return untuned(both)


def in_rows(
    data: tf.data.Dataset, columns: int, whole: str = "beside", rows: str = "rows"
) -> tf.data.Dataset:
    """Batches with samples beside them, `columns` beside each of their own: `(batch, columns, …)`.

    A distribution strategy splits all parts of a batch by their first axis, into as many rows.

    Args:
        data: The batches.
        columns: How many there are beside each sample.
        whole: The name under which they are beside it.
        rows: That under which they come in rows.
    """

    def cut(element: Any) -> Any:
        count = tf.shape(tf.nest.flatten(element["batch"])[0])[0]

        def of(part: Any) -> Any:
            shape = tf.concat([[-1, columns], tf.shape(part)[1:]], axis=0)
            found = tf.reshape(part, shape)[:count]  # a pass may end with a smaller batch
            found.set_shape([None, columns, *part.shape[1:]])
            return found

        others = {name: part for name, part in element.items() if name != whole}
        return {**others, rows: tf.nest.map_structure(of, element[whole])}

    return untuned(data.map(cut))


def own_part(data: Any) -> Any:
    """A batch, or its spec, without what is read beside it."""
    return data["batch"] if _accompanied(data) else data


def parted(data: Any) -> tuple[Any, Any]:
    """A batch, and what is read beside it to draw samples from; `None` where nothing is."""
    return own_part(data), _beside(data, "beside", "rows")


def unlabeled_part(data: Any) -> Any:
    """Images without labels that are read beside a batch; `None` where none are."""
    found = _beside(data, "unlabeled", "unlabeled_rows")
    return None if found is None else gather(found)[1]


def _accompanied(data: Any) -> bool:
    """Whether a batch, or its spec, has others beside it."""
    others = {"beside", "rows", "unlabeled", "unlabeled_rows"}
    return isinstance(data, Mapping) and "batch" in data and set(data) - {"batch"} <= others


def _beside(data: Any, whole: str, rows: str) -> Any:
    """What is beside a batch under one name, or in rows under the other."""
    if not _accompanied(data) or not {whole, rows} & set(data):
        return None
    if whole in data:
        return data[whole]

    def flat(part: Any) -> Any:
        return ops.reshape(part, (-1, *part.shape[2:]))

    return tf.nest.map_structure(flat, data[rows])


def gather(data: Any) -> tuple[Any, Any, Any, Any]:
    """A batch as `(ids, x, y, sample_weight)`, whether it holds ids or samples."""
    if isinstance(data, Mapping) and len(data) == 1:
        (key, ids), *_ = data.items()
        if isinstance(key, str) and key in _residents:
            return ids, *_residents[key].gather(ids)
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    return None, x, y, sample_weight
