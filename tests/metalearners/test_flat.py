"""Flat directions, against runs that they should leave as they are."""

from __future__ import annotations

import numpy as np
import pytest

from etude_metalearners import flat


def descent(rate: float, momentum: float, decay: float, steps: int) -> float:
    """SGD with momentum and decoupled decay on a slope of 1, far from any minimum."""
    w, v = 1.0, 0.0
    for _ in range(steps):
        w *= 1.0 - rate * decay
        v = momentum * v - rate * 1.0
        w += v
    return w


@pytest.mark.parametrize("after", [0.0, 0.5, 0.95])
def test_sgd_goes_as_far_along_rate_over_one_minus_momentum(after: float) -> None:
    before = 0.9
    rate = flat.rate_at_momentum(1e-4, before, after, averages=False)
    decay = flat.decay_at_rate(0.5, 1e-4, rate)
    expected = descent(1e-4, before, 0.5, 4000)
    assert descent(rate, after, decay, 4000) == pytest.approx(expected, rel=0.02)
    if after != 0.0:
        return
    # And the check can fail: the rate as it was.
    assert descent(1e-4, after, 0.5, 4000) != pytest.approx(expected, rel=0.2)


def test_an_adaptive_rate_stays_at_another_momentum() -> None:
    assert flat.rate_at_momentum(0.01, 0.9, 0.5, averages=True) == 0.01


def test_sgd_covers_an_epoch_in_any_batch_size() -> None:
    """Rate ∝ N: as many samples move the weights as far; √N: the noise stays as large."""
    for batch in (16, 64, 256):
        rate = flat.rate_at_batch(0.1, 64, batch, adaptive=False)
        assert rate * (4096 / batch) == pytest.approx(0.1 * 64)
        rng = np.random.default_rng(0)
        adaptive = flat.rate_at_batch(0.1, 64, batch, adaptive=True)
        # Adam's steps have the length of the rate, with signs of pure noise.
        walks = adaptive * rng.choice([-1.0, 1.0], (4000, 4096 // batch)).sum(1)
        assert walks.std() == pytest.approx(0.1 * np.sqrt(64), rel=0.05)


def test_decay_shrinks_as_much_a_step() -> None:
    assert 0.2 * flat.decay_at_rate(0.05, 0.1, 0.2) == pytest.approx(0.1 * 0.05)
