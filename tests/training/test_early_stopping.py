"""Prechelt's criteria on sequences that can be worked out by hand."""

from __future__ import annotations

import pytest

from etude.training import early_stopping as stopping


def test_generalization_loss() -> None:
    assert stopping.generalization_loss([0.5, 0.4, 0.44]) == pytest.approx(10.0)
    assert stopping.generalization_loss([0.5, 0.4, 0.3]) == 0.0
    assert stopping.generalization_loss([0.0, 0.1]) == float("inf")
    assert stopping.generalization_loss([0.1, 0.0]) == 0.0
    assert not stopping.stops_gl([0.4, 0.42], [1, 1], 5.0)
    assert stopping.stops_gl([0.4, 0.421], [1, 1], 5.0)


def test_training_progress() -> None:
    # mean 3, minimum 1: 1000 * (3 / 1 - 1)
    assert stopping.training_progress([9.0, 5, 4, 3, 2, 1]) == pytest.approx(2000.0)
    assert stopping.training_progress([2.0] * 5) == 0.0


def test_pq_asks_at_the_end_of_a_strip_only() -> None:
    errors = [1.0, 0.5, 0.6, 0.6, 0.6]
    losses = [1.0, 1.0, 1.0, 1.0, 0.95]
    # GL = 20, P = 1000 * (0.99 / 0.95 - 1) = 42.1, PQ = 0.475
    assert stopping.stops_pq(errors, losses, 0.47)
    assert not stopping.stops_pq(errors, losses, 0.48)
    assert not stopping.stops_pq(errors[:4], losses[:4], 0.0)


def test_up_wants_rises_over_successive_strips() -> None:
    ends = [0.5, 0.6, 0.7]
    errors = [value for end in ends for value in [0.1, 0.1, 0.1, 0.1, end]]
    losses = [1.0] * len(errors)
    assert stopping.stops_up(errors, losses, 2)
    assert not stopping.stops_up(errors, losses, 3)
    errors[9] = 0.4  # the second strip's end fell
    assert not stopping.stops_up(errors, losses, 2)
