"""Flat directions: how hyper-parameters move together while training stays about the same.

Page, *How to train your ResNet*, part 5: what a run ends with hardly changes along lr / N, along
lr / (1 - ρ), and along lr · wd. So a rate that was found at one batch size or momentum is carried
to another. Adaptive optimizers, whose step does not grow with the gradient, scale with √N instead
(Malladi et al. 2022), and in Adam and its kin the average of gradients is weighted to 1, so that
momentum leaves their rate alone.
"""

from __future__ import annotations

import math


def rate_at_batch(rate: float, before: int, after: int, *, adaptive: bool) -> float:
    """The rate at another batch size: ∝ N for SGD, ∝ √N for adaptive optimizers."""
    ratio = after / before
    return rate * (math.sqrt(ratio) if adaptive else ratio)


def rate_at_momentum(rate: float, before: float, after: float, *, averages: bool) -> float:
    """The rate at another momentum: ∝ 1 - ρ, or unchanged where momentum weights to a sum of 1."""
    return rate if averages else rate * (1.0 - after) / (1.0 - before)


def decay_at_rate(weight_decay: float, before: float, after: float) -> float:
    """The decoupled weight decay that shrinks weights as much a step at another rate."""
    return weight_decay * before / after
