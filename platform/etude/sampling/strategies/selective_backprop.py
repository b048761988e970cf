"""Selective back-propagation: a baseline of online selection."""

from __future__ import annotations

from typing import Any

from keras import ops

from etude.sampling.strategies._base import Numbers, Selecting, powers


class SelectiveBackprop(Selecting):
    """Draws by the rank of the loss, from the middle of the run to nine tenths of it.

    Jiang et al. 2019 as Composer has it: `((rank + 1/2) / B)^(1/keep - 1)`. That power is the
    exponent; at k = 1/keep = 2 it is 1.
    """

    name = "selective_backprop"
    warm_up = 0.5
    cool_down = 0.1

    def probabilities(self, scores: Any, numbers: Numbers) -> Any:
        """`((rank + 1/2) / B)^exponent`, over the sum; equal losses differ by their places."""
        count = ops.cast(ops.size(scores), "float32")
        order = ops.argsort(ops.argsort(ops.cast(scores, "float32")))
        return powers((ops.cast(order, "float32") + 0.5) / count, numbers)
