"""Chances, τ and what it is worth: closed forms, the paper's equations, and simulation."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
from scipy import optimize

from etude.sampling import probabilities
from etude.sampling.drawing import Draws
from etude.sampling.strategies.best_count import BestCount
from etude.sampling.strategies.constant_variance import ConstantVariance
from etude.sampling.strategies.upper_bound import UpperBound


def tensor(values: object) -> object:
    return keras.ops.convert_to_tensor(np.asarray(values, np.float32))


def test_chances_are_in_proportion() -> None:
    np.testing.assert_allclose(probabilities.proportional(tensor([1, 3, 0])), [0.25, 0.75, 0])
    huge = probabilities.proportional(tensor([3e38, 3e38, 1.0]))
    np.testing.assert_allclose(huge, [0.5, 0.5, 0.0], atol=1e-6)


@pytest.mark.parametrize("scores", [[0, 0, 0, 0], [1, np.nan, 1, 2], [1, np.inf, 1, 2]])
def test_scores_that_say_nothing_give_even_chances(scores: list[float]) -> None:
    found = probabilities.proportional(tensor(scores))
    np.testing.assert_allclose(found, 0.25)
    assert float(probabilities.tau(found)) == pytest.approx(1.0)


def test_a_share_is_spread_evenly() -> None:
    found = np.asarray(probabilities.mixed(tensor([1.0, 0, 0, 0]), 0.2))
    np.testing.assert_allclose(found, [0.85, 0.05, 0.05, 0.05], rtol=1e-6)
    weights = np.asarray(probabilities.weights(tensor(found), keras.ops.cast([1, 0], "int32")))
    np.testing.assert_allclose(weights, [1 / (4 * 0.05), 1 / (4 * 0.85)], rtol=1e-6)
    assert weights.max() <= 1 / 0.2 + 1e-5


def test_tau_is_that_of_the_papers_equation() -> None:
    """Equation 26, in float64."""
    rng = np.random.default_rng(0)
    for spread in (0.01, 1.0, 4.0):
        g = rng.lognormal(0.0, spread, 200)
        g /= g.sum()
        away = np.sum((g - 1 / len(g)) ** 2)
        by_paper = 1.0 / math.sqrt(1.0 - away / np.sum(g**2))
        assert float(probabilities.tau(tensor(g))) == pytest.approx(by_paper, rel=1e-4)
        scores = 3.0 * g
        moments = (np.mean(scores), np.mean(scores**2))
        found = float(probabilities.tau_of_moments(*map(tensor, moments)))
        assert found == pytest.approx(by_paper, rel=1e-4)
    assert float(probabilities.tau_of_moments(tensor(0.0), tensor(0.0))) == 0.0
    alone = np.eye(1, 50)[0]
    assert float(probabilities.tau(tensor(alone))) == pytest.approx(math.sqrt(50))


@pytest.mark.parametrize(
    ("presample", "least"), [(2, 3.16), (3, 2.45), (4, 2.37), (5, 2.39), (6, 2.45)]
)
def test_break_even_where_a_backward_pass_costs_two(presample: float, least: float) -> None:
    """Independent draws as in the paper; and what draws at even distances ask for."""

    def gain(tau: float, draws: Draws) -> float:
        cost = probabilities.cost(presample, 1 / 3)
        return probabilities.equivalent_batch(tau, presample, draws) / cost

    found = UpperBound("independent").break_even(presample, 1 / 3)
    assert found == pytest.approx(least, abs=0.005)
    assert found == pytest.approx((1 / (1 + presample / 3) - 1 / presample) ** -0.5)
    assert gain(found, "independent") == pytest.approx(1.0)
    assert gain(found + 0.1, "independent") > 1.0
    # The paper's own threshold loses.
    threshold = probabilities.paper_threshold(presample)
    assert (gain(threshold, "independent") < 1.0) == (threshold < found)
    even = UpperBound().break_even(presample, 1 / 3)
    assert even == pytest.approx(((1 + presample / 3) ** -2 - presample**-2) ** -0.25)
    assert even < 0.8 * found
    assert gain(even, "systematic") == pytest.approx(1.0)


def test_scores_that_cost_nothing_pay_from_the_first() -> None:
    for draws in probabilities.POWERS:
        assert UpperBound(draws).break_even(1e6, 1e-9) == pytest.approx(1.0, abs=1e-3)
        assert UpperBound(draws).break_even(1e6, 1e-9) >= 1.0


def test_where_scoring_costs_too_much_no_tau_pays() -> None:
    for draws in probabilities.POWERS:
        assert UpperBound(draws).break_even(2.0, 0.5) == math.inf
        assert UpperBound(draws).break_even(1.5, 1.0) == math.inf
        assert BestCount(draws).break_even(2.0, 1.0) == math.inf
    # An eighth is drawn at least, and from a τ on that is more than asked for: M 1.125.
    least = math.sqrt(8.0) * (1.125**-2 - 2.0**-2) ** -0.25
    assert ConstantVariance().break_even(2.0, 0.5) == pytest.approx(least)


@pytest.mark.parametrize("draws", ["independent", "systematic"])
@pytest.mark.parametrize(
    ("tau", "presample", "forward", "fixed"),
    [(1.5, 3.0, 0.2, 0.0), (3.0, 3.0, 0.2, 0.0), (6.0, 4.0, 0.3, 0.5), (2.0, 2.0, 0.3, 0.3)],
)
def test_the_best_count_is_that_of_a_search(
    draws: Draws, tau: float, presample: float, forward: float, fixed: float
) -> None:
    def loss(share: float) -> float:
        cost = probabilities.cost(presample, forward, share, fixed)
        return cost / probabilities.equivalent_batch(tau, presample, draws, share)

    best = optimize.minimize_scalar(
        loss, bounds=(1e-3, 30.0), method="bounded", options={"xatol": 1e-6}
    )
    found = probabilities.best_share(tau, presample, forward, fixed, draws)
    assert found == pytest.approx(best.x, rel=1e-3)
    # It is never worth less than a whole batch, and never opens later.
    worth, cost = BestCount(draws).worth(tau, presample, forward, fixed)
    whole, whole_cost = UpperBound(draws).worth(tau, presample, forward, fixed)
    assert worth / cost >= whole / whole_cost - 1e-12
    least = BestCount(draws).break_even(presample, forward, fixed)
    assert least <= UpperBound(draws).break_even(presample, forward, fixed) + 1e-9
    worth, cost = BestCount(draws).worth(least, presample, forward, fixed)
    assert worth / cost == pytest.approx(1.0)
    for noise in (10.0, 1.0):
        # The less a batch drowns in noise, the later it pays to have less of it.
        before, least = least, UpperBound(draws).break_even(presample, forward, fixed, noise)
        assert least >= before
        if np.isfinite(least):
            worth, cost = UpperBound(draws).worth(least, presample, forward, fixed, noise)
            assert worth / cost == pytest.approx(1.0)


def test_of_less_noise_only_the_noise_is_taken_away() -> None:
    """Steps needed to a loss are in proportion to 1 + n / M."""
    for equivalent in (1.0, 2.5, 6.0):
        assert probabilities.progress(equivalent) == pytest.approx(equivalent)
        assert probabilities.progress(equivalent, 1e-9) == pytest.approx(1.0)
        alone, larger = 1.0 + 3.0, 1.0 + 3.0 / equivalent
        assert probabilities.progress(equivalent, 3.0) == pytest.approx(alone / larger)
    # A smaller batch is not what choosing samples is to be praised for.
    for noise in (1e12, 3.0, 1e-9):
        assert probabilities.progress(0.5, noise) == pytest.approx(0.5)


def test_a_run_is_as_fast_as_its_steps_on_harmonic_average() -> None:
    assert probabilities.over_a_run([1.0, 2.0, 4.0]) == pytest.approx(3.0 / 1.75)


def picks(draws: str, p: np.ndarray, b: int, rng: np.random.Generator) -> np.ndarray:
    """Which are drawn, by NumPy: independently, or by marks at even distances."""
    if draws == "independent":
        return np.asarray(rng.choice(len(p), b, p=p))
    marks = (np.arange(b) + rng.random()) / b
    return np.asarray(np.searchsorted(np.cumsum(p), marks).clip(max=len(p) - 1))


@pytest.mark.parametrize("draws", ["independent", "systematic"])
@pytest.mark.parametrize("rare", [0.07, 0.4])
def test_the_equivalent_batch_is_that_of_a_simulation(draws: Draws, rare: float) -> None:
    """Gradients of one number with mean near 0, and of known norms."""
    rng = np.random.default_rng(0)
    b, k, times = 64, 3, 4_000
    norms = rng.choice([0.1, 4.0], size=100_000, p=[1.0 - rare, rare])
    values = norms * rng.choice([-1.0, 1.0], size=len(norms))
    tau = math.sqrt(np.mean(norms**2)) / np.mean(norms)
    uniform, drawn = [], []
    for _ in range(times):
        large = rng.integers(0, len(values), k * b)
        p = norms[large] / norms[large].sum()
        picked = large[picks(draws, p, b, rng)]
        weights = norms[large].mean() / norms[picked]
        drawn.append(np.mean(weights * values[picked]))
        uniform.append(np.mean(values[large[:b]]))
    found = np.var(uniform) / np.var(drawn)
    predicted = probabilities.equivalent_batch(tau, k, draws)
    assert found == pytest.approx(predicted, rel=0.15 if draws == "independent" else 0.25)
    if draws == "independent":
        # Which forgets that B were drawn first.
        assert found != pytest.approx(tau**2, rel=0.2)
    else:  # where nobody need be drawn twice, it is that
        assert (found == pytest.approx(tau**2, rel=0.08)) == (rare == 0.4)


@pytest.mark.parametrize("draws", ["independent", "systematic"])
def test_fewer_draws_of_the_variance_of_a_whole_batch(draws: Draws) -> None:
    rng = np.random.default_rng(2)
    b, k, times = 64, 2.5, 8_000
    norms = rng.choice([0.1, 4.0], size=100_000, p=[0.7, 0.3])
    values = norms * rng.choice([-1.0, 1.0], size=len(norms))
    tau = math.sqrt(np.mean(norms**2)) / np.mean(norms)
    n = round(b / (tau**2 * probabilities.variance_left(k, draws)))
    assert n < 0.8 * b
    uniform, drawn = [], []
    for _ in range(times):
        large = rng.integers(0, len(values), int(k * b))
        p = norms[large] / norms[large].sum()
        picked = large[picks(draws, p, n, rng)]
        drawn.append(np.mean(norms[large].mean() / norms[picked] * values[picked]))
        uniform.append(np.mean(values[large[:b]]))
    # The form for systematic draws asks for more draws than are needed here.
    ratio = np.var(drawn) / np.var(uniform)
    assert ratio == pytest.approx(1.0, abs=0.06 if draws == "independent" else 0.15)


def test_percentile_ranks_count_those_at_most_as_large() -> None:
    found = probabilities.percentile_ranks(tensor([3.0, 1.0, 2.0, 2.0]))
    np.testing.assert_allclose(found, [1.0, 0.25, 0.75, 0.75])


def test_a_paretos_best_samples_hold_what_its_curve_says() -> None:
    assert probabilities.pareto_share(0.2, math.log(5) / math.log(4)) == pytest.approx(0.8)
    rng = np.random.default_rng(0)
    utility = np.sort(rng.pareto(2.5, 400_000) + 1.0)[::-1]
    share = utility[: len(utility) // 4].sum() / utility.sum()
    assert probabilities.pareto_share(0.25, 2.5) == pytest.approx(share, rel=0.01)
    assert probabilities.pareto_speed_up(1.0, 2.5, 0.0) == pytest.approx(1.0)
