"""Paired differences: what counts as better, and how often chance does."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from etude_metalearners import pairs


def test_mean_and_error_are_those_of_a_paired_t_test() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=20), rng.normal(size=20)
    found = pairs.difference(one, other)
    expected = stats.ttest_rel(one, other)
    assert found.mean / found.error == pytest.approx(expected.statistic)


def test_what_is_common_to_both_does_not_count() -> None:
    """Batches differ by 10, trials by 0.1: told apart only because they are paired."""
    rng = np.random.default_rng(0)
    hard = 10.0 * rng.normal(size=64)
    one, other = hard - 0.1 + 0.01 * rng.normal(size=64), hard
    assert pairs.difference(one, other).better
    assert not pairs.difference(other, one).better
    assert not pairs.difference(one, rng.permutation(other)).better


def test_chance_is_hardly_ever_better() -> None:
    """Of 2,000 pairs without a difference, t with 63 degrees of freedom lets 0.34 % pass."""
    rng = np.random.default_rng(1)
    hits = sum(
        pairs.difference(rng.normal(size=64), rng.normal(size=64)).better for _ in range(2000)
    )
    assert hits <= 16  # 6.7 expected, sd 2.6


def test_a_trial_that_diverged_is_worse_than_any() -> None:
    good, bad = np.ones(4), np.array([1.0, np.nan, 1.0, 1.0])
    assert not pairs.difference(bad, good).better
    assert pairs.difference(good, bad).better
    assert not pairs.difference(bad, bad).better


def test_a_single_batch_tells_nothing() -> None:
    found = pairs.difference(np.zeros(1), np.ones(1))
    assert found.error == math.inf and not found.better
