"""Importance sampling by the upper bound of gradients' norms."""

from __future__ import annotations

from etude.sampling.strategies._base import Presampled


class UpperBound(Presampled):
    """Draws in proportion to the bound of each gradient's norm, weighted by 1 / (B p).

    Katharopoulos & Fleuret 2018, algorithm 1.
    """

    name = "upper_bound"
    score = "bound"
    unbiased = True
    gated = True
