"""Samples that come from a `keras.utils.PyDataset`: batches at random access."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from etude.data import shuffle
from etude.data._base import Arrays
from etude.data.arrays import batch_signature, parts_of, spec_of
from etude.data.convert import Array, as_images, as_labels, as_weights
from etude.data.fields import parts
from etude.data.streams import StreamSource, buffer_samples
from etude.errors import DataError

if TYPE_CHECKING:
    import tensorflow as tf


class PyDatasetSource(StreamSource):
    """A source over a `PyDataset`, whose batches are read in any order.

    The order of batches is permuted perfectly in every pass, and their samples go through a
    shuffle buffer. `on_epoch_end` is not called: what the data are must not depend on the epoch.

    Args:
        dataset: The `PyDataset`; each item `x`, `(x, y)`, `(x, y, w)` or a dict of these.
        name: What messages call the source.
        memory_budget: Bytes that the shuffle buffer may take a share of.
        labelled: Whether labels are wanted.

    Raises:
        DataError: If it has no batches, or the first batch is not one of images.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        name: str = "train",
        memory_budget: int = 4 * 2**30,
        labelled: bool = True,
    ) -> None:
        self._dataset = dataset
        self._labelled = labelled
        self._batches: int | None = dataset.num_batches
        self.endless = self._batches is None
        self.name = name
        if self._batches == 0:
            raise DataError(
                f"The dataset {name} is empty.",
                required="At least one batch.",
                received="A PyDataset of length 0.",
                advice="Look at its __len__.",
            )
        first = self._checked(0)
        super().__init__(spec_of(first), name=name, size=None)
        self.memory_budget = memory_budget
        self._buffer = buffer_samples(self.spec, memory_budget)
        self.shuffle = (
            f"batches in perfect order of chance, then within a buffer of {self._buffer} samples"
            if self._batches is not None
            else f"within a buffer of {self._buffer} samples of an endless PyDataset"
        )

    def _checked(self, index: int) -> Arrays:
        """Batch `index`, converted and checked."""
        name = f"batch {index} of {self.name}"
        values = parts(self._dataset[index], name=name, labelled=self._labelled)
        images = as_images(values[0], name)
        labels = as_labels(values[1], len(images), name) if len(values) > 1 else None
        weights: Array | None = None
        if len(values) > 2:
            weights = as_weights(values[2], len(images), name, all_of_them=False)
        return Arrays(images, labels, weights)

    def _batch(self, index: int) -> Arrays:
        """Batch `index`, which has to be like the first."""
        batch = self._checked(index)
        if spec_of(batch) != self.spec:
            raise DataError(
                f"Batch {index} of {self.name} is unlike batch 0.",
                required=f"{self.spec}.",
                received=f"{spec_of(batch)}.",
                advice="Return batches of one shape and dtype from __getitem__.",
            )
        return batch

    def batches(self, batch_size: int) -> Iterator[Arrays]:
        """One pass in NumPy, in natural order."""
        index = 0
        while self._batches is None or index < self._batches:
            yield self._batch(index)
            index += 1

    def _read(self, indices: tf.data.Dataset) -> tf.data.Dataset:
        """Whole batches `(?, ...)` at a stream of batch numbers."""
        import tensorflow as tf

        dtypes, shapes = batch_signature(self.spec)

        def read(index: Array) -> tuple[Array, ...]:
            return parts_of(self._batch(int(index)))

        def fetch(index: Any) -> tuple[Any, ...]:
            values = tf.numpy_function(read, [index], dtypes, stateful=False)
            for value, shape in zip(values, shapes, strict=True):
                value.set_shape(shape)
            return tuple(values)

        # As many readers as the dataset says it can bear; order is kept whatever their number.
        workers = max(1, int(self._dataset.workers))
        return shuffle.untuned(indices.map(fetch, num_parallel_calls=workers, deterministic=True))

    def _numbers(self) -> tf.data.Dataset:
        import tensorflow as tf

        if self._batches is None:
            return tf.data.Dataset.counter()
        return tf.data.Dataset.range(self._batches)

    def samples(self) -> tf.data.Dataset:
        """One pass over single samples `(image, ...)`, in natural order."""
        return self._read(self._numbers()).unbatch()

    def _one_pass(self, order: Any) -> tf.data.Dataset:
        """Single samples of the batches in one order, an int64 tensor `(batches,)`."""
        import tensorflow as tf

        return self._read(tf.data.Dataset.from_tensor_slices(order)).unbatch()

    def in_order(self, batch_size: int) -> tf.data.Dataset:
        """One pass in natural order; the last batch may be smaller."""
        batches = self._read(self._numbers())
        return batches.rebatch(batch_size).prefetch(2)

    def shuffled(self, batch_size: int, *, seed: int, start: int = 0) -> tf.data.Dataset:
        """Endless full batches, a function of `seed`, beginning with step `start`."""
        if self._batches is None:
            samples = shuffle.shuffled_passes(self.samples(), self._buffer, seed, endless=True)
        else:
            samples = shuffle.flat_passes(self._one_pass, self._batches, self._buffer, seed)
        return samples.skip(start * batch_size).batch(batch_size, drop_remainder=False).prefetch(2)
