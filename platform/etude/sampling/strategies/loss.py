"""Importance sampling by the loss."""

from __future__ import annotations

from typing import Any

from keras import ops

from etude.sampling import probabilities
from etude.sampling.strategies._base import Numbers, Presampled

EVEN = 0.1
"""Share of the chances that is even where losses are below 0."""


class Loss(Presampled):
    """Draws in proportion to the loss, weighted by 1 / (B p).

    The baseline of Katharopoulos & Fleuret 2018; their appendix E says where it reduces variance. τ
    of losses says how uneven losses are, and not by how much drawing by them reduces the variance:
    the gate is that of the upper bound and promises less. Of losses that may be below 0 the
    differences to the lowest count, and a tenth of the chances is even: one that is 0 would never
    be drawn, though its gradient is not.
    """

    name = "loss"
    score = "loss"
    unbiased = True
    gated = True

    def probabilities(self, scores: Any, numbers: Numbers) -> Any:
        """As `Presampled.probabilities`, of losses of any sign."""
        least = ops.min(scores)
        below = least < 0.0
        share = ops.where(below, ops.maximum(numbers.uniform, EVEN), numbers.uniform)
        shifted = ops.where(below, scores - least, scores)
        return probabilities.mixed(probabilities.proportional(shifted), share)
