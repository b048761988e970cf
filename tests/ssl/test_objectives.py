"""Every objective against plain loops, and the laws that all of them keep."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from etude.ssl.objectives import DINO, OBJECTIVES, BarlowTwins, MoCo, Objective, SimCLR, VICReg
from etude.ssl.objectives.barlow_twins import correlation, standardized

COUNT, WIDTH = 6, 5
NAMES = list(OBJECTIVES)


def rows(seed: int, count: int = COUNT, width: int = WIDTH) -> Any:
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def made(name: str) -> tuple[Objective, Any]:
    """An objective, and a state for embeddings as wide as ours."""
    objective = OBJECTIVES[name]()
    state = {key: value[..., :WIDTH] for key, value in objective.state().items()}
    if "queue" in state:
        queue = state["queue"] / np.linalg.norm(state["queue"], axis=1, keepdims=True)
        state["queue"] = queue[:16].astype(np.float32)
    return objective, state


def cosine(a: Any, b: Any) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def test_simclr_is_a_classification_among_all_other_views() -> None:
    one, other = rows(0), rows(1)
    found = SimCLR(0.3).losses(one, other, {})
    views = np.concatenate([one, other])
    for image in range(COUNT):
        others = [np.exp(cosine(views[image], v) / 0.3) for i, v in enumerate(views) if i != image]
        right = np.exp(cosine(one[image], other[image]) / 0.3)
        assert float(found[image]) == pytest.approx(-math.log(right / sum(others)), rel=1e-5)


def test_simclr_of_equal_embeddings_is_the_logarithm_of_their_number() -> None:
    same = np.ones((COUNT, WIDTH), np.float32)
    np.testing.assert_allclose(SimCLR().losses(same, same, {}), math.log(2 * COUNT - 1), rtol=1e-6)


@pytest.mark.parametrize(("name", "of"), [("simsiam", lambda c: -c), ("byol", lambda c: 2 - 2 * c)])
def test_cosines(name: str, of: Any) -> None:
    one, other = rows(0), rows(1)
    found = OBJECTIVES[name]().losses(one, other, {})
    expected = [of(cosine(a, b)) for a, b in zip(one, other, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(OBJECTIVES[name]().losses(one, 3 * one, {}), of(1.0), atol=1e-6)


def test_moco_is_a_classification_among_a_queue() -> None:
    one, other = rows(0), rows(1)
    queue = rows(2, 9)
    queue /= np.linalg.norm(queue, axis=1, keepdims=True)
    found = MoCo(0.2).losses(one, other, {"queue": queue})
    for image in range(COUNT):
        wrong = [np.exp(cosine(one[image], key) / 0.2) for key in queue]
        right = np.exp(cosine(one[image], other[image]) / 0.2)
        expected = -math.log(right / (right + sum(wrong)))
        assert float(found[image]) == pytest.approx(expected, rel=1e-5)


def test_a_queue_takes_the_latest_and_gives_up_the_oldest() -> None:
    objective = MoCo(queue=8)
    state = {"queue": objective.state()["queue"][:, :WIDTH]}
    first = objective.updated(state, rows(0))
    second = objective.updated(first, rows(1))
    keys = [r / np.linalg.norm(r, axis=1, keepdims=True) for r in (rows(1), rows(0))]
    np.testing.assert_allclose(second["queue"], np.concatenate(keys)[:8], rtol=1e-5)
    large = objective.updated(first, rows(3, 20))
    assert tuple(large["queue"].shape) == (8, WIDTH)


def test_barlow_twins_by_loops() -> None:
    one, other = rows(0), 0.5 * rows(0) + rows(1)
    found = np.asarray(correlation(one, other))
    for i in range(WIDTH):
        for j in range(WIDTH):
            expected = np.corrcoef(one[:, i], other[:, j])[0, 1]
            assert found[i, j] == pytest.approx(expected, abs=1e-4)
    loss = sum((1 - found[i, i]) ** 2 for i in range(WIDTH))
    loss += 5e-3 * sum(found[i, j] ** 2 for i in range(WIDTH) for j in range(WIDTH) if i != j)
    assert float(BarlowTwins().loss(one, other, {})) == pytest.approx(loss, rel=1e-5)


def test_of_a_constant_column_gradients_are_finite() -> None:
    constant = tf.constant(np.ones((COUNT, WIDTH), np.float32))
    for name in NAMES:
        objective, state = made(name)
        with tf.GradientTape() as tape:
            tape.watch(constant)
            loss = objective.loss(constant, tf.stop_gradient(constant), state)
        assert np.isfinite(np.asarray(tape.gradient(loss, constant))).all(), name
    assert np.asarray(standardized(constant)).max() == 0.0


def test_vicreg_is_the_sum_of_three_terms() -> None:
    one, other = 0.4 * rows(0), 1.5 * rows(1)
    loss = VICReg()
    both = (loss.loss(one, other, {}) + loss.loss(other, one, {})) / 2.0
    expected = 25.0 * np.mean((one - other) ** 2)
    for view in (one, other):
        deviations = np.sqrt(view.var(axis=0, ddof=1) + 1e-4)
        expected += 25.0 * np.mean(np.maximum(0.0, 1.0 - deviations))
        covariance = np.cov(view.T)
        beside = sum(covariance[i, j] ** 2 for i in range(WIDTH) for j in range(WIDTH) if i != j)
        expected += beside / WIDTH
    assert float(both) == pytest.approx(expected, rel=1e-5)


def test_dino_is_a_cross_entropy_of_centred_targets() -> None:
    one, other, centre = rows(0), rows(1), rows(2)[0]
    found = DINO().losses(one, other, {"centre": centre})
    for image in range(COUNT):
        wanted = np.exp((other[image] - centre) / 0.04 - ((other[image] - centre) / 0.04).max())
        wanted /= wanted.sum()
        said = one[image] / 0.1 - np.log(np.exp(one[image] / 0.1).sum())
        assert float(found[image]) == pytest.approx(-(wanted * said).sum(), rel=1e-4)


def test_the_centre_of_dino_moves_to_the_mean() -> None:
    state: Any = {"centre": np.zeros(WIDTH, np.float32)}
    for _ in range(3):
        state = DINO().updated(state, rows(0))
    np.testing.assert_allclose(state["centre"], (1 - 0.9**3) * rows(0).mean(axis=0), rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_views_that_say_the_same_are_better(name: str) -> None:
    objective, state = made(name)
    one, other = rows(0, 32), rows(1, 32)
    same = objective.losses(one, one, state)
    assert tuple(same.shape) == (32,)
    assert float(ops.mean(same)) < float(ops.mean(objective.losses(one, other, state)))
    assert float(objective.loss(one, one, state)) < float(objective.loss(one, other, state))


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_gives_losses_in_float32(name: str) -> None:
    objective, state = made(name)
    one, other = rows(0), rows(1)
    for kind in ("float16", "bfloat16"):
        found = objective.loss(ops.cast(one, kind), ops.cast(other, kind), state)
        assert found.dtype == "float32"
        exact = float(objective.loss(one, other, state))
        assert float(found) == pytest.approx(exact, rel=0.05, abs=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_a_graph_gives_what_plain_calls_give(name: str) -> None:
    objective, state = made(name)
    state = {key: tf.constant(value) for key, value in state.items()}
    one, other = tf.constant(rows(0)), tf.constant(rows(1))
    traced = tf.function(objective.loss)(one, other, state)
    np.testing.assert_allclose(traced, objective.loss(one, other, state), rtol=1e-5)
