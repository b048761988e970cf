"""Every strategy of the registry: unbiased or named so, finite, and as its paper says."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from scipy import optimize

from etude.errors import RecipeError
from etude.sampling import drawing
from etude.sampling.drawing import Draws
from etude.sampling.strategies import (
    PRESAMPLED,
    REMEMBERING,
    STRATEGIES,
    Numbers,
    Presampled,
    bandit,
)

RNG = np.random.default_rng(0)
SIZE, BATCH = 48, 16
# Gradients of two coordinates, whose norms are the scores.
GRADIENTS = RNG.normal(size=(SIZE, 2)) * RNG.lognormal(0.0, 1.0, (SIZE, 1)) + 0.3
SCORES = np.linalg.norm(GRADIENTS, axis=1).astype(np.float32)


def tensor(values: Any, dtype: str = "float32") -> Any:
    return ops.convert_to_tensor(np.asarray(values, dtype))


def numbers(name: str, **others: float) -> Numbers:
    own = {
        "exponent": STRATEGIES[name].exponent,
        "uniform": getattr(STRATEGIES[name], "uniform", 0.0),
        "forward": 1 / 3,
        "fixed": 0.0,
    }
    return Numbers(**{key: tensor(value) for key, value in (own | others).items()})


def chances_of(name: str, strategy: Any) -> Any:
    """Probabilities, after visits where it remembers them."""
    told = numbers(name)
    if isinstance(strategy, Presampled):
        return strategy.probabilities(tensor(SCORES), told)
    tables = {k: tensor(v) for k, v in strategy.start(SIZE, np.arange(SIZE) % 3).items()}
    # Bandits move a little at a time, and what was never seen is the first to be drawn.
    for _ in range({"bandit": 300, "forgetting": 60}.get(name, 6)):
        drawn = RNG.permutation(SIZE)[:BATCH]
        chances = strategy.probabilities(tables, told, tensor(0.3))
        tables = strategy.updated(
            tables, tensor(drawn, "int32"), tensor(SCORES[drawn]), chances, told
        )
    return strategy.probabilities(tables, told, tensor(0.3))


def deviations(name: str, draws: Draws | None = None, *, weighted: bool) -> np.ndarray:
    """Standard errors by which the mean of 20,000 draws is off the mean of all gradients."""
    strategy = STRATEGIES[name]() if draws is None else PRESAMPLED[name](draws)
    told, chances = numbers(name), chances_of(name, strategy)
    presampled = isinstance(strategy, Presampled)

    @tf.function  # for speed alone
    def draw(uniform: Any) -> Any:
        if isinstance(strategy, Presampled):
            drawn = strategy.drawn(chances, strategy.count(chances, BATCH, told), uniform)
            return drawn, strategy.weights(chances, drawn, told)
        drawn = drawing.with_replacement(chances, uniform)
        return drawn, strategy.weights(chances, drawn, told, tensor(0.3))

    each = []
    times = 20_000 // BATCH
    for k in range(times):
        uniform = np.random.default_rng([1, k]).random(SIZE if presampled else BATCH)
        drawn, weights = draw(tensor(uniform))
        factor = np.asarray(weights)[:, None] if weighted else 1.0
        each.append((factor * GRADIENTS[np.asarray(drawn)]).mean(axis=0))
    found = np.stack(each)
    error = found.std(axis=0, ddof=1) / math.sqrt(times)
    return np.asarray((found.mean(axis=0) - GRADIENTS.mean(axis=0)) / error)


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_mean_of_weighted_gradients_is_that_of_all_where_it_is_said_so(name: str) -> None:
    found = np.abs(deviations(name, weighted=True))
    if STRATEGIES[name].unbiased:
        assert found.max() < 3.5
        without = np.abs(deviations(name, weighted=False))
        # A bandit of classes learns nothing of classes that are alike.
        assert without.max() > 10 or name == "class_bandit"
    else:
        assert found.max() > 10


@pytest.mark.parametrize("name", [name for name, kind in PRESAMPLED.items() if kind.able])
def test_independent_draws_are_unbiased_where_it_is_said_so(name: str) -> None:
    found = np.abs(deviations(name, "independent", weighted=True))
    assert (found.max() < 3.5) == PRESAMPLED[name].unbiased
    # Of one number for all draws or one for each, the mean is as near in as many steps or nearer.
    assert PRESAMPLED[name]().draws == "systematic"


@pytest.mark.parametrize("name", STRATEGIES)
def test_chances_sum_to_one(name: str) -> None:
    chances = np.asarray(chances_of(name, STRATEGIES[name]()))
    assert chances.shape == (SIZE,)
    assert chances.dtype == np.float32
    assert chances.sum() == pytest.approx(1.0, abs=1e-5)
    assert (chances > 0).all()


@pytest.mark.parametrize("name", PRESAMPLED)
def test_whom_it_draws_is_among_those_that_were_read(name: str) -> None:
    strategy = PRESAMPLED[name]()
    told, chances = numbers(name), chances_of(name, strategy)
    count = int(strategy.count(chances, BATCH, told))
    assert 1 <= count <= BATCH
    drawn = np.asarray(strategy.drawn(chances, count, tensor(RNG.random(SIZE))))
    assert drawn.shape == (count,)
    assert drawn.dtype == np.int32
    assert drawn.min() >= 0 and drawn.max() < SIZE
    if not strategy.gated:
        assert len(set(drawn.tolist())) == count  # none twice


@pytest.mark.parametrize("name", STRATEGIES)
def test_samples_that_are_all_alike_have_even_chances(name: str) -> None:
    strategy = STRATEGIES[name]()
    told, alike = numbers(name), np.full(SIZE, 0.7, np.float32)
    if isinstance(strategy, Presampled):
        chances = strategy.probabilities(tensor(alike), told)
    else:
        tables = {k: tensor(v) for k, v in strategy.start(SIZE, np.arange(SIZE) % 3).items()}
        everyone = tensor(np.arange(SIZE), "int32")
        chances = strategy.probabilities(tables, told, tensor(0.5))
        tables = strategy.updated(tables, everyone, tensor(alike), chances, told)
        chances = strategy.probabilities(tables, told, tensor(0.5))
    if name not in ("selective_backprop", "online_batch"):  # which rank equals by place
        np.testing.assert_allclose(chances, 1 / SIZE, rtol=1e-4)


def test_a_constant_variance_takes_as_few_as_tau_allows() -> None:
    told = numbers("constant_variance")
    for scores, independent, systematic in (
        (np.ones(SIZE), BATCH, BATCH),
        # τ² = 48 · 12 / 12² = 4, and the draw of 48 leaves 2/3 or √(8/9): 16 / (4 · 2/3) or 4.2.
        (np.r_[np.ones(12), np.zeros(36)], 6, 5),
        (np.eye(1, SIZE)[0], BATCH // 8, BATCH // 8),
    ):
        for draws, expected in (("independent", independent), ("systematic", systematic)):
            strategy = PRESAMPLED["constant_variance"](draws)
            chances = strategy.probabilities(tensor(scores), told)
            assert int(strategy.count(chances, BATCH, told)) == expected


def test_a_constant_time_takes_as_few_as_scores_cost() -> None:
    strategy = PRESAMPLED["constant_time"]()
    chances = tensor(np.full(24, 1 / 24))  # k = 1.5
    for forward, expected in ((1 / 3, 8), (0.1, 14), (5.0, 2)):
        told = numbers("constant_time", forward=forward)
        assert int(strategy.count(chances, BATCH, told)) == expected
    # Where a quarter of a step is not for its samples, four thirds of what scoring takes.
    told = numbers("constant_time", forward=0.1, fixed=0.25)
    assert int(strategy.count(chances, BATCH, told)) == 13  # 16 · (1 - .2)


def test_a_best_count_takes_the_fewer_the_less_alike_samples_are() -> None:
    told = numbers("best_count", forward=0.2)
    for scores, draws, expected in (
        (np.ones(SIZE), "systematic", BATCH),
        # τ⁴ = 16: 16 · (.6 · 9 / 16)^⅓ = 11.1; τ² = 4 and independent: 16 · √(.6 · 3 / 4) = 10.7.
        (np.r_[np.ones(12), np.zeros(36)], "systematic", 12),
        (np.r_[np.ones(12), np.zeros(36)], "independent", 11),
        (np.eye(1, SIZE)[0], "systematic", 3),  # τ⁴ = 48²: 16 · (5.4 / 2304)^⅓ = 2.1
    ):
        strategy = PRESAMPLED["best_count"](draws)
        chances = strategy.probabilities(tensor(scores), told)
        assert int(strategy.count(chances, BATCH, told)) == expected
    told = numbers("best_count", forward=0.2, fixed=0.99)  # then fewer cost as much
    strategy = PRESAMPLED["best_count"]()
    chances = strategy.probabilities(tensor(np.r_[np.ones(12), np.zeros(36)]), told)
    assert int(strategy.count(chances, BATCH, told)) == BATCH


@pytest.mark.parametrize("exponent", [1.0, 0.5, 0.0, -1.0])
def test_flattened_weights_are_one_on_average(exponent: float) -> None:
    strategy, told = PRESAMPLED["biased"](), numbers("biased", exponent=exponent)
    chances = strategy.probabilities(tensor(SCORES), told)
    weights = strategy.weights(chances, tensor(np.arange(SIZE), "int32"), told)
    p = SCORES / SCORES.sum()
    assert float(ops.sum(chances * weights)) == pytest.approx(1.0, rel=1e-4)
    by_hand = (1 / (SIZE * p)) ** exponent
    np.testing.assert_allclose(weights, by_hand / np.sum(p * by_hand), rtol=1e-3)


def test_losses_below_zero_are_drawn_too() -> None:
    """As of cosine similarity: in proportion to the difference to the lowest, and a tenth even."""
    strategy, told = PRESAMPLED["loss"](), numbers("loss")
    losses = np.array([-1.0, -0.5, 0.0, 0.5], np.float32)
    chances = np.asarray(strategy.probabilities(tensor(losses), told))
    by_hand = 0.9 * np.array([0.0, 0.5, 1.0, 1.5]) / 3.0 + 0.1 / 4
    np.testing.assert_allclose(chances, by_hand, rtol=1e-5)
    above = np.asarray(strategy.probabilities(tensor(losses + 1.5), told))
    np.testing.assert_allclose(above, (losses + 1.5) / (losses + 1.5).sum(), rtol=1e-5)


@pytest.mark.parametrize("name", [name for name, kind in PRESAMPLED.items() if kind.gated])
def test_by_default_there_is_a_tau_that_opens_the_gate(name: str) -> None:
    strategy = PRESAMPLED[name]()
    assert 1.0 < strategy.break_even(strategy.presample, 1 / 3) < 3.0


def test_a_greedy_batch_is_the_hardest() -> None:
    strategy, told = PRESAMPLED["greedy"](), numbers("greedy")
    chances = strategy.probabilities(tensor(SCORES), told)
    drawn = np.asarray(strategy.drawn(chances, 5, tensor(RNG.random(SIZE))))
    assert drawn.tolist() == np.argsort(-SCORES)[:5].tolist()


@pytest.mark.parametrize("beta", [0.0, 1.0, 3.0])
def test_fast_selection_goes_by_ranks(beta: float) -> None:
    strategy, told = PRESAMPLED["fast_selection"](), numbers("fast_selection", exponent=beta)
    chances = np.asarray(strategy.probabilities(tensor(SCORES), told))
    ranks = (np.argsort(np.argsort(SCORES)) + 1) / SIZE
    np.testing.assert_allclose(chances, ranks**beta / np.sum(ranks**beta), rtol=1e-4)


def test_selective_backprop_is_composers() -> None:
    strategy, told = PRESAMPLED["selective_backprop"](), numbers("selective_backprop", exponent=3.0)
    chances = np.asarray(strategy.probabilities(tensor(SCORES), told))
    ranks = (np.argsort(np.argsort(SCORES)) + 0.5) / SIZE
    np.testing.assert_allclose(chances, ranks**3 / np.sum(ranks**3), rtol=1e-4)


def test_online_batches_prefer_by_the_pressure_that_is_left() -> None:
    strategy, told = REMEMBERING["online_batch"](), numbers("online_batch")
    tables = {"losses": tensor(SCORES)}
    for share, pressure in ((0.0, 100.0), (0.5, 10.0), (1.0, 1.0)):
        chances = np.asarray(strategy.probabilities(tables, told, tensor(share)))
        hardest, easiest = chances[SCORES.argmax()], chances[SCORES.argmin()]
        assert hardest / easiest == pytest.approx(pressure ** ((SIZE - 1) / SIZE), rel=1e-3)
    unseen = {"losses": tensor(strategy.start(SIZE, None)["losses"])}
    after = strategy.updated(
        unseen, tensor([3], "int32"), tensor([9.0]), tensor(np.ones(SIZE)), told
    )
    chances = np.asarray(strategy.probabilities(after, told, tensor(0.0)))
    assert chances.argmin() == 3


def test_priorities_are_powers_and_their_correction_grows() -> None:
    strategy, told = REMEMBERING["prioritized"](), numbers("prioritized", exponent=0.5)
    losses = np.r_[-1.0, SCORES[1:]]  # the first was not seen
    chances = np.asarray(strategy.probabilities({"losses": tensor(losses)}, told, tensor(0.0)))
    priority = np.r_[SCORES[1:].max(), SCORES[1:]]
    priority = (priority + 1e-3 * priority.mean()) ** 0.5
    np.testing.assert_allclose(chances, priority / priority.sum(), rtol=1e-4)
    drawn = tensor([5, 6, 7], "int32")
    for share, beta in ((0.0, 0.5), (1.0, 1.0)):
        weights = strategy.weights(tensor(chances), drawn, told, tensor(share))
        by_hand = (1 / (SIZE * chances[5:8])) ** beta
        np.testing.assert_allclose(weights, by_hand / by_hand.max(), rtol=1e-4)


def test_means_of_losses_are_corrected_for_their_start() -> None:
    strategy, told = REMEMBERING["loss_momentum"](), numbers("loss_momentum", uniform=0.0)
    tables = {k: tensor(v) for k, v in strategy.start(3, None).items()}
    visits: list[list[float]] = [[2.0, 4.0, 1.0], [3.0], []]
    for sample, losses in enumerate(visits):
        for loss in losses:
            drawn = tensor([sample], "int32")
            tables = strategy.updated(tables, drawn, tensor([loss]), tensor(np.ones(3)), told)
    chances = np.asarray(strategy.probabilities(tables, told, tensor(0.0)))
    mean = 0.0
    for loss in visits[0]:
        mean = 0.9 * mean + 0.1 * loss
    means = np.array([mean / (1 - 0.9**3), 3.0])
    whole = np.r_[means, means.mean()]
    np.testing.assert_allclose(chances, whole / whole.sum(), rtol=1e-4)


def test_forgetting_goes_by_what_a_score_must_have_become() -> None:
    """A plain loop over visits, two samples a step; the last one is never seen."""
    strategy, told = REMEMBERING["forgetting"](), numbers("forgetting", uniform=0.0)
    tables = {k: tensor(v) for k, v in strategy.start(5, None).items()}
    rng = np.random.default_rng(4)
    latest: dict[int, tuple[int, float]] = {}
    speeds: dict[int, float] = {}
    for step in range(1, 13):
        drawn = rng.choice(4, 2, replace=False)
        scores = rng.uniform(size=2)
        told_scores = tensor(scores)
        tables = strategy.updated(
            tables, tensor(drawn, "int32"), told_scores, tensor(np.ones(5)), told
        )
        for sample, score in zip(drawn.tolist(), scores.tolist(), strict=True):
            if sample in latest:
                at, before = latest[sample]
                change = (score - before) / (step - at)
                old = speeds.get(sample)
                speeds[sample] = change if old is None else 0.5 * old + 0.5 * change
            latest[sample] = (step, score)
    expected = [max(0.0, latest[i][1] + speeds.get(i, 0.0) * (12 - latest[i][0])) for i in range(4)]
    order = np.r_[expected, np.inf]
    ranks = np.array([(order <= value).sum() for value in order]) / 5
    assert len({*expected}) == 4
    chances = np.asarray(strategy.probabilities(tables, told, tensor(0.5)))
    np.testing.assert_allclose(chances, ranks / ranks.sum(), rtol=1e-4)
    # Forgotten at once: a sample that was at 0 and is rising outruns one that stays high.
    rising = {
        "scores": tensor([0.9, 0.2]),
        "speeds": tensor([0.0, 0.1]),
        "seen": tensor([10.0, 10.0]),
        "now": tensor([20.0]),
    }
    assert np.argmax(strategy.probabilities(rising, told, tensor(0.5))) == 1


def test_a_projection_is_the_nearest_distribution() -> None:
    """Against a root in one unknown: max(p_min, c w) that sums to 1."""
    rng = np.random.default_rng(3)
    for spread in (0.1, 2.0, 6.0):
        weights = rng.lognormal(0.0, spread, 30)
        least = 0.2 / 30

        def rest(c: float, weights: Any = weights, least: float = least) -> float:
            return float(np.maximum(least, c * weights).sum() - 1.0)

        c = optimize.brentq(rest, 1e-12, 1e6)
        found = np.asarray(bandit.projected(tensor(weights), least))
        np.testing.assert_allclose(found, np.maximum(least, c * weights), rtol=1e-3)


def test_a_bandits_step_is_the_papers_in_its_units() -> None:
    """-α l count / (K p), where l = -g² / p² + L² / p_min² and α = rate p_min² / (N L²)."""
    n, rate = 10, 0.7
    p = np.array([0.1, 0.3, 0.02])
    g = np.array([1.0, 2.0, 0.5])
    largest, least = 2.5, bandit.LEAST / n
    loss = -(g**2) / p**2 + largest**2 / least**2
    alpha = rate * least**2 / (n * largest**2)
    by_paper = alpha * loss / (len(p) * p)
    found = bandit.moves(tensor(p), tensor(g), tensor(largest), n, tensor(rate))
    np.testing.assert_allclose(found, by_paper, rtol=1e-4)


def test_bandits_come_to_prefer_what_brings_variance() -> None:
    strategy, told = REMEMBERING["bandit"](), numbers("bandit")
    tables = {k: tensor(v) for k, v in strategy.start(SIZE, None).items()}
    rng = np.random.default_rng(0)
    for _ in range(400):
        chances = strategy.probabilities(tables, told, tensor(0.0))
        drawn = drawing.with_replacement(chances, tensor(rng.random(BATCH)))
        scores = tensor(SCORES[np.asarray(drawn)])
        tables = strategy.updated(tables, drawn, scores, chances, told)
    chances = np.asarray(strategy.probabilities(tables, told, tensor(0.0)))
    assert chances.min() >= bandit.LEAST / SIZE * 0.999

    def variance(p: np.ndarray) -> float:
        return float(np.sum(SCORES**2 / p) / SIZE**2)

    assert variance(chances) < variance(np.full(SIZE, 1 / SIZE))


def test_a_bandit_of_classes_needs_classes() -> None:
    with pytest.raises(RecipeError, match="one class each"):
        REMEMBERING["class_bandit"]().start(5, None)
    start = REMEMBERING["class_bandit"]().start(5, np.array([7, 7, 7, 9, 9]))
    np.testing.assert_allclose(start["chances"], [0.6, 0.4])


def test_no_two_strategies_have_one_name() -> None:
    assert len(STRATEGIES) == len(PRESAMPLED) + len(REMEMBERING) == 16
    assert all(name == kind.name for name, kind in STRATEGIES.items())
