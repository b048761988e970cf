"""What every source of data offers, whatever it was made from."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from etude.errors import DataError

if TYPE_CHECKING:
    import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Spec:
    """Shape and type of one sample, without the batch axis.

    Attributes:
        image_shape: `(height, width, channels)`; `None` where samples differ.
        image_dtype: NumPy name of the images' dtype, for example `"uint8"`.
        label_shape: Shape of one label, `()` for an integer; `None` when unlabelled.
        label_dtype: NumPy name of the labels' dtype; `None` when unlabelled.
        weighted: Whether every sample brings its own weight.
    """

    image_shape: tuple[int | None, ...]
    image_dtype: str
    label_shape: tuple[int | None, ...] | None = None
    label_dtype: str | None = None
    weighted: bool = False

    @property
    def labelled(self) -> bool:
        return self.label_shape is not None


@dataclasses.dataclass(frozen=True)
class Arrays:
    """All samples of a source, in memory.

    Attributes:
        images: `(samples, height, width, channels)`, in the source's own dtype and range.
        labels: `(samples, ...)`, exactly as the user gave them; `None` when unlabelled.
        weights: `(samples,)` float32, or `None`.
    """

    images: np.ndarray[Any, Any]
    labels: np.ndarray[Any, Any] | None = None
    weights: np.ndarray[Any, Any] | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def nbytes(self) -> int:
        parts = (self.images, self.labels, self.weights)
        return sum(part.nbytes for part in parts if part is not None)

    def take(self, indices: np.ndarray[Any, Any]) -> Arrays:
        """The samples at `indices`, in that order."""
        return Arrays(
            self.images[indices],
            None if self.labels is None else self.labels[indices],
            None if self.weights is None else self.weights[indices],
        )


class Source(abc.ABC):
    """A set of samples that can be read in order, read shuffled, or held in memory.

    Batches are tuples `(images,)`, `(images, labels)` or `(images, labels, weights)`.
    Labels are never re-coded: the loss is fitted to them, so that the user's own
    `model.evaluate(x, y)` goes on working with the labels they have.

    Attributes:
        name: What messages call it, for example `"train"`.
        shuffle: How well `shuffled` mixes, in words for the report.
        endless: Whether it never ends.
        class_names: Names of the classes, where the source knows them.
        notes: What is worth saying of it.
    """

    name: str
    shuffle: str
    endless: bool = False
    class_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    @property
    @abc.abstractmethod
    def size(self) -> int | None:
        """The number of samples; `None` when unknown or endless."""

    @abc.abstractmethod
    def count(self) -> int:
        """The number of samples, by reading them all once where it is not known.

        Raises:
            DataError: The source is endless.
        """

    def counted(self, size: int) -> None:  # noqa: B027 - most sources know their size
        """Takes note of the number of samples, which a full pass over them showed."""

    @property
    @abc.abstractmethod
    def spec(self) -> Spec:
        """Shape and dtype of a sample."""

    @property
    def labels(self) -> np.ndarray[Any, Any] | None:
        """All labels `(samples, ...)`, where they are known without reading any image."""
        return None

    def label_blocks(self, block_bytes: int) -> Iterator[np.ndarray[Any, Any]]:
        """All `labels` in blocks of about so many bytes; none where they are not known."""
        labels = self.labels
        if labels is not None:
            step = max(1, block_bytes // max(1, labels[:1].nbytes))
            for first in range(0, len(labels), step):
                yield labels[first : first + step]

    def renumbered(self, table: np.ndarray[Any, Any], names: tuple[str, ...]) -> Source:
        """The source with class `c` called `table[c]`, a number in `names`.

        Raises:
            DataError: The labels are no class numbers, or cannot be changed.
        """
        raise DataError(
            f"The classes of {self.name} are numbered in another way than those of train.",
            required=f"classes in the order {', '.join(names)}",
            received=f"the order {', '.join(self.class_names or ())}, and labels that cannot be "
            f"numbered anew",
            advice="number the classes of all sets alike",
        )

    @abc.abstractmethod
    def arrays(self, limit: int) -> Arrays | None:
        """All samples in memory, or `None` when they take more than `limit` bytes."""

    @abc.abstractmethod
    def in_order(self, batch_size: int) -> tf.data.Dataset:
        """One pass in natural order; the last batch may be smaller."""

    @abc.abstractmethod
    def shuffled(self, batch_size: int, *, seed: int, start: int = 0) -> tf.data.Dataset:
        """Endless full batches, a function of `seed` alone, beginning with step `start`."""
