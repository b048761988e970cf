"""Distances of features: closed forms, and what chance makes of equal ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from etude.ssl import gaps


def normal(count: int, mean: float, sd: float, seed: int = 0, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, sd, (count, channels))


def test_a_shift_is_as_far_as_it_goes() -> None:
    one = normal(2_000, 0.0, 2.0, channels=3)
    moved = one + np.array([0.0, 1.0, -4.0])
    expected = np.array([0.0, 1.0, 4.0]) / one.std(axis=0)
    np.testing.assert_allclose(gaps.wasserstein(one, moved), expected, atol=1e-12)
    constant = np.ones((5, 1))
    assert gaps.wasserstein(constant, constant)[0] == 0.0


def test_the_divergence_of_normals_is_the_closed_one() -> None:
    """ln(s₂ / s₁) + (s₁² + (m₁ - m₂)²) / 2 s₂² - ½, for many samples."""
    one, other = normal(200_000, 0.0, 1.0), normal(200_000, 0.3, 1.2, seed=1)
    for a, b, m, s, t in ((one, other, 0.3, 1.0, 1.2), (other, one, 0.3, 1.2, 1.0)):
        expected = np.log(t / s) + (s**2 + m**2) / (2 * t**2) - 0.5
        assert gaps.divergence(a, b)[0] == pytest.approx(expected, rel=0.05)


def test_p_is_that_of_the_test() -> None:
    one, other = normal(50, 0.0, 1.0, channels=2), normal(80, 0.3, 1.0, seed=1, channels=2)
    expected = [stats.ks_2samp(one[:, i], other[:, i]).pvalue for i in range(2)]
    np.testing.assert_array_equal(gaps.p_values(one, other), expected)


def test_few_samples_are_further_than_halves_of_the_many() -> None:
    """Of one distribution: the fewer there are the further, and a test finds a share of .05."""
    many = normal(4_000, 0.0, 1.0, channels=200)
    few, more = (normal(n, 0.0, 1.0, seed=n, channels=200) for n in (25, 2_000))
    found = gaps.gap(few, many)
    assert found.wasserstein > 3.0 * found.control > 0.0
    assert gaps.gap(more, many).wasserstein == pytest.approx(found.control, rel=0.3)
    # Two standard errors of a share of .05 of 200 channels, and it is a little conservative.
    assert 0.0 < found.different < 0.05 + 2 * np.sqrt(0.05 * 0.95 / 200)
    assert gaps.gap(few + 1.0, many).different > 0.9
    assert found.divergence > 0.0 and found.reverse > 0.0
