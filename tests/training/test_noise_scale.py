"""The noise scale against closed forms of a linear model, and the choice of the batch."""

from __future__ import annotations

import math

import numpy as np
import pytest

from etude.errors import EtudeError
from etude.training import noise_scale

BATCH, PARTS = 32, 8


def norms(
    noise: float, rounds: int, seed: int, dimensions: int = 50
) -> tuple[list[float], list[float]]:
    """Squared norms of gradients g = G + ε, with |G|² = 1 and tr(cov ε) = `noise`.

    A linear model y = w·x with squared error has such per-sample gradients.
    """
    rng = np.random.default_rng(seed)
    true = np.zeros(dimensions)
    true[0] = 1.0
    small, large = [], []
    for _ in range(rounds):
        spread = math.sqrt(noise / dimensions / BATCH)
        parts = true + spread * rng.standard_normal((PARTS, dimensions))
        small.append(float((parts**2).sum(1).mean()))
        large.append(float((parts.mean(0) ** 2).sum()))
    return small, large


def test_both_components_are_unbiased() -> None:
    small, large = norms(1000.0, 4000, seed=0)
    gradient, trace = noise_scale.components(small, large, BATCH, PARTS)
    for values, true in ((gradient, 1.0), (trace, 1000.0)):
        z = (values.mean() - true) / (values.std(ddof=1) / math.sqrt(len(values)))
        assert abs(z) < 4.0
    assert gradient.min() < 0 < gradient.max()  # single rounds say nothing


def test_a_hand_computed_round() -> None:
    """Two one-sample gradients (3, 0) and (1, 0): mean (2, 0), variance 2 in all."""
    gradient, trace = noise_scale.components([5.0], [4.0], 1, 2)
    assert gradient[0] == pytest.approx(3.0)  # the product of the two: 3 · 1
    assert trace[0] == pytest.approx(2.0)


def test_the_ratio_of_means_finds_the_noise_scale() -> None:
    found = noise_scale.estimate(*norms(1000.0, 2000, seed=1), BATCH, PARTS)
    assert found.value == pytest.approx(1000.0, rel=0.1)
    assert found.low < 1000.0 < found.high
    assert found.high / found.low < 1.3
    assert found.rounds == 2000


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    hits = 0
    for seed in range(400):
        found = noise_scale.estimate(*norms(300.0, 12, seed=seed), BATCH, PARTS)
        hits += found.low <= 300.0 <= found.high
    # 95 % of 400 with a standard deviation of 4.4.
    assert 360 <= hits <= 397


def test_a_gradient_that_drowns_has_no_value_and_no_upper_end() -> None:
    rng = np.random.default_rng(3)
    small = 1.0 + 0.01 * rng.standard_normal(10)
    large = small / PARTS * 0.99 + 0.01 * rng.standard_normal(10)
    found = noise_scale.estimate(small, large, BATCH, PARTS)
    assert found.gradient < 0
    assert found.value is None
    assert found.high == math.inf
    # A gradient of 2 standard errors would have a noise scale of about 32 / 0.007.
    assert 1000.0 < found.low < 40_000.0
    # Negative beyond doubt, which no true gradient is: nothing is known.
    odd = noise_scale.estimate(small, small / PARTS * 0.99, BATCH, PARTS)
    assert (odd.value, odd.low, odd.high) == (None, 0.0, math.inf)


def test_no_noise_is_a_noise_scale_of_nothing() -> None:
    found = noise_scale.estimate([4.0] * 5, [4.0] * 5, BATCH, PARTS)
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("noise", [50.0, 500.0, 5000.0])
def test_the_fastest_batch_is_the_closed_form(noise: float) -> None:
    """With t(N) = a + c·N the predicted time is least at N = √(a · noise / c)."""
    a, c = 0.05, 0.001
    batches = list(range(1, 3000))
    found = noise_scale.fastest(noise, batches, [a + c * n for n in batches])
    assert found == pytest.approx(math.sqrt(a * noise / c), abs=1.0)


def test_flat_times_want_the_largest_batch_and_proportional_ones_the_smallest() -> None:
    batches = [16, 32, 64, 128]
    assert noise_scale.fastest(100.0, batches, [0.1] * 4) == 128
    assert noise_scale.fastest(100.0, batches, [0.001 * n for n in batches]) == 16
    assert noise_scale.fastest(math.inf, batches, [0.1 + 0.001 * n for n in batches]) == 128


@pytest.mark.parametrize(
    ("small", "large", "parts"), [([1.0], [1.0, 2.0], 8), ([1.0] * 3, [1.0] * 3, 1)]
)
def test_norms_that_do_not_fit_are_refused(
    small: list[float], large: list[float], parts: int
) -> None:
    with pytest.raises(EtudeError, match="noise scale"):
        noise_scale.components(small, large, BATCH, parts)


def test_too_few_rounds_are_refused() -> None:
    with pytest.raises(EtudeError, match="Too few rounds"):
        noise_scale.estimate([1.0, 2.0], [1.0, 1.0], BATCH, PARTS)
