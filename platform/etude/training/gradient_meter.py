"""Norms of gradients, of single steps and of windows of steps, recorded as training goes.

The squared norm of the mean of several gradients, beside the mean of their squared norms, tells
the gradient from its noise (McCandlish et al. 2018, appendix A.1) at no other cost than a sum.
Where the weights stand still the gradients of a window are those of the parts of one large batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from etude.training.values import host

WINDOW = 8
"""Steps in a window."""

CAPACITY = 128
"""Windows that are kept, the latest, with the one that is not full yet."""


class GradientMeter:
    """Squared norms, on the device.

    Args:
        variables: What is trained; there is a sum as large as each.
    """

    def __init__(self, variables: Sequence[Any]) -> None:
        self.sums = [
            keras.Variable(np.zeros(v.shape, np.float32), trainable=False, name=f"sum_{i}")
            for i, v in enumerate(variables)
        ]
        self.count = _scalar(0, "count")  # steps in the window so far
        self.windows = _scalar(0, "windows")
        self.small = _row("small")  # sum over a window of its steps' squared norms
        self.large = _row("large")  # squared norm of the sum of its gradients

    def record(self, gradients: Sequence[Any], scale: Any) -> None:
        """Takes a step's gradients in.

        Args:
            gradients: Tensors, times `scale`; or `None` where there is none.
            scale: The factor of a loss-scaling optimizer, a float32 scalar.
        """
        first = ops.equal(self.count.value, 0)
        index = ops.reshape(ops.cast(self.windows.value % CAPACITY, "int32"), (1, 1))
        small, large = ops.zeros((), "float32"), ops.zeros((), "float32")
        for total, gradient in zip(self.sums, gradients, strict=True):
            if gradient is None:
                continue
            value = ops.cast(gradient, "float32") / scale
            # Chosen, not multiplied by 0: what is not finite would stay for ever.
            summed = ops.where(first, value, total.value + value)
            total.assign(summed)
            small += ops.sum(ops.square(value))
            large += ops.sum(ops.square(summed))
        before = ops.where(first, 0.0, ops.take(self.small.value, index[0, 0]))
        for row, entry in ((self.small, before + small), (self.large, large)):
            row.assign(ops.scatter_update(row.value, index, ops.reshape(entry, (1,))))
        full = ops.equal(self.count.value, WINDOW - 1)
        self.count.assign(ops.where(full, 0, self.count.value + 1))
        self.windows.assign_add(ops.cast(full, "int64"))

    def begin(self) -> None:
        """Begins a window: what is in one that is not full yet counts for nothing."""
        self.count.assign(0)

    @property
    def done(self) -> int:
        """Windows that were filled so far."""
        return int(host(self.windows))

    def norms(self, first: int = 0) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """What the windows from `first` on say, of those that are kept.

        Returns:
            The mean squared norm of a window's gradients and the squared norm of their mean, each
            `(windows,)` float64; windows with a norm that is not finite are left out.
        """
        # The oldest gives its place to the window that is not full yet.
        kept = np.arange(max(first, self.done - CAPACITY + 1), self.done) % CAPACITY
        small = host(self.small)[kept].astype(np.float64) / WINDOW
        large = host(self.large)[kept].astype(np.float64) / WINDOW**2
        finite = np.isfinite(small) & np.isfinite(large)
        return small[finite], large[finite]

    @property
    def variables(self) -> list[Any]:
        """What a state keeps: all but the sums, which would make it larger by the weights."""
        return [self.windows, self.small, self.large]


def _scalar(value: int, name: str) -> Any:
    return keras.Variable(value, dtype="int64", trainable=False, name=name)


def _row(name: str) -> Any:
    return keras.Variable(np.zeros(CAPACITY, np.float32), trainable=False, name=name)
