"""Importance sampling by the loss."""

from __future__ import annotations

from etude.sampling.strategies._base import Presampled


class Loss(Presampled):
    """Draws in proportion to the loss, weighted by 1 / (B p).

    The baseline of Katharopoulos & Fleuret 2018; their appendix E says where it reduces variance.
    """

    name = "loss"
    score = "loss"
    unbiased = True
    gated = True
