"""Gradients of single batches at weights that stay as they are: their norms and their cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops

from etude.data.feed import Feed
from etude.training import memory
from etude.training.backends import tensorflow as backend


class GradientProbe:
    """Looks at a Trainer's gradients; one trace serves every batch size.

    The gradients are those of training: by the recipe's stages, with batch normalization by the
    batch's own statistics and with dropout, before clipping. What a forward pass changes
    (moving statistics, seeds) it changes here too, so a probe belongs within `isolated`.

    Args:
        trainer: A compiled Trainer.
        feed: The training data.
        clock: Returns seconds.
        batch: Samples in a small batch.
        seed: Seed of the order of samples.
    """

    def __init__(
        self, trainer: Any, feed: Feed, clock: Callable[[], float], *, batch: int, seed: int
    ) -> None:
        self._clock = clock
        self._batch = batch
        # Opened once: a stream fills its shuffle buffer anew for every iterator.
        self._batches = iter(feed.shuffled(batch, seed=seed))
        self._example = next(self._batches)

        def squared_norm(data: Any) -> tuple[Any, list[Any]]:
            gradients = trainer.gradients(data)
            return sum(ops.sum(ops.square(g)) for g in gradients), gradients

        self._gradient = backend.compiled(
            squared_norm, self._example, jit=bool(trainer.jit_compile)
        )

    def norms(self, parts: int, rounds: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Squared norms of small gradients and of the large ones that they make up.

        Args:
            parts: Small batches in a large one.
            rounds: How many large ones.

        Returns:
            The mean squared norm of the small gradients and the squared norm of their mean,
            each `(rounds,)` float64, accumulated in float32.
        """
        small, large = np.zeros(rounds), np.zeros(rounds)
        for index in range(rounds):
            total: list[Any] = []
            for _ in range(parts):
                norm, gradients = self._gradient(next(self._batches))
                small[index] += float(norm) / parts
                total = [a + b for a, b in zip(total, gradients, strict=True)] or gradients
            large[index] = sum(float(ops.sum(ops.square(g / parts))) for g in total)
        return small, large

    def seconds(
        self, sizes: Sequence[int], repeats: int = 2, limit: float = np.inf
    ) -> dict[int, float]:
        """Seconds of a gradient at batch sizes, of those that ran and cannot have failed.

        Args:
            sizes: In rising order.
            repeats: How often each is timed, after once untimed; the least counts.
            limit: No size is begun once so many seconds have passed.

        Returns:
            From size to seconds. The first size too large for the device's memory, or that
            might be for the host's, ends the measurement.
        """
        found: dict[int, float] = {}
        start, before, last = self._clock(), memory.held(), 0
        for size in sizes:
            if last and not memory.fits(before, size / last):
                break
            if found and self._clock() - start > limit:
                break
            try:
                # What is in a batch does not change what it costs.
                data = backend.resized(self._example, size)
                found[size] = min(self._timed(data) for _ in range(repeats + 1))
            except backend.OUT_OF_MEMORY:
                break
            last = size
        return found

    def _timed(self, data: Any) -> float:
        start = self._clock()
        float(self._gradient(data)[0])  # waits for the device
        return self._clock() - start
