"""What a run trains on: resident data where they fit, a stream where they do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etude.data._base import Source
from etude.data.adapter import innermost
from etude.data.resident import BESIDE, Resident, with_beside
from etude.data.shuffle import seed_number, shuffled_passes
from etude.data.streams import StreamSource, buffer_samples

if TYPE_CHECKING:
    import tensorflow as tf


class Feed:
    """A source made ready for training.

    Args:
        source: Where the samples come from.
        limit: Bytes that may become resident; larger sources stream.

    Attributes:
        resident: The samples beside the model, or `None` for a stream.
    """

    def __init__(self, source: Source, limit: int) -> None:
        arrays = source.arrays(limit)
        self.source, self.limit = source, limit
        self.resident = None if arrays is None else Resident(arrays)

    @property
    def size(self) -> int | None:
        """Samples, counted by one pass where a stream does not know; `None` if endless."""
        if self.resident is not None:
            return len(self.resident)
        return None if self.source.endless else self.source.count()

    @property
    def varies(self) -> bool:
        """Whether every pass brings other samples, as of a stream with random augmentation."""
        inner = innermost(self.source)
        return isinstance(inner, StreamSource) and inner.varies

    @property
    def most_in_part(self) -> int:
        """How many samples a part may have: of a stream as many as a shuffle buffer may hold."""
        if self.resident is not None:
            return len(self.resident)
        return buffer_samples(self.source.spec, self.limit)

    def shuffled(
        self, batch_size: int, *, seed: int, start: int = 0, beside: int = 0
    ) -> tf.data.Dataset:
        """Endless full batches from step `start` on.

        Args:
            batch_size: Samples in a batch.
            seed: Of their order.
            start: The first step.
            beside: Samples of an order of their own, that come with each batch.
        """
        if self.resident is not None:
            return self.resident.shuffled(batch_size, seed=seed, start=start, beside=beside)
        batches = self.source.shuffled(batch_size, seed=seed, start=start)
        if not beside:
            return batches
        others = self.source.shuffled(beside, seed=seed_number(seed + BESIDE), start=start)
        return with_beside(batches, others)

    def part(
        self, samples: int, batch_size: int, *, seed: int, order: int, beside: int = 0
    ) -> tf.data.Dataset:
        """Endless full batches of a random part of the data.

        A stream keeps whole batches of its beginning, and only their order is another.

        Args:
            samples: How many, about, and no more than `most_in_part`.
            batch_size: Samples in a batch.
            seed: Says which they are.
            order: In which order they come.
            beside: Samples of an order of their own, that come with each batch.
        """
        if self.resident is not None:
            return self.resident.part(samples, batch_size, seed=seed, order=order, beside=beside)
        count = max(1, round(samples / batch_size))
        held = self.source.shuffled(batch_size, seed=seed).take(count).cache()
        batches = shuffled_passes(held, count, seed + 1 + order, endless=False)
        if not beside:
            return batches
        others = shuffled_passes(held, count, seed_number(seed + BESIDE + order), endless=False)
        return with_beside(batches, others.rebatch(beside))
