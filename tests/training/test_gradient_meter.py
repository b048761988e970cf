"""Norms recorded in the step, against a plain tape on the same batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from etude._fit import starting_recipe
from etude.budget import Budget
from etude.recipe import Recipe
from etude.training import memory
from etude.training.gradient_meter import CAPACITY, WINDOW, GradientMeter
from etude.training.studio import Studio

from . import helpers

BATCH, WINDOWS = 8, 4


def plain(seed: int = 0) -> keras.Model:
    """Without dropout and normalization, so that a gradient depends on nothing but the batch."""
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input((8, 8, 1)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(4, 3, kernel_regularizer="l2"),
            layers.Flatten(),
            layers.Dense(helpers.CLASSES),
        ]
    )


def open_studio(model: keras.Model | None = None, **compute: Any) -> Studio:
    problem = helpers.problem(model or plain())
    stated = Recipe().give(compute={"batch_size": 16, **compute})
    return Studio(problem, starting_recipe(problem, stated), budget=Budget(None), seed=3)


def by_tape(studio: Studio, model: keras.Model) -> Iterator[list[np.ndarray[Any, Any]]]:
    """Gradients of the same batches, L2 penalty included."""
    resident = studio.train.resident
    assert resident is not None
    for row in studio.train.shuffled(BATCH, seed=studio.seed):
        x, y, _ = resident.gather(next(iter(row.values())))
        with tf.GradientTape() as tape:
            loss = helpers.loss()(y, model(x, training=True)) + sum(model.losses)
        values = tape.gradient(loss, [v.value for v in model.trainable_variables])
        yield [np.asarray(value, np.float64) for value in values]


def test_norms_are_those_of_a_plain_tape_at_weights_that_stand_still() -> None:
    model = plain()
    studio = open_studio(model)
    oracle = by_tape(studio, model)
    small, large = studio.gradient_norms(0, WINDOWS, BATCH)
    assert len(small) == len(large) == WINDOWS
    for window in range(WINDOWS):
        parts = [next(oracle) for _ in range(WINDOW)]
        norms = [sum(float((g**2).sum()) for g in part) for part in parts]
        means = [np.mean(values, axis=0) for values in zip(*parts, strict=True)]
        assert small[window] == pytest.approx(np.mean(norms), rel=1e-4)
        assert large[window] == pytest.approx(sum(float((m**2).sum()) for m in means), rel=1e-4)
        assert large[window] < small[window]


def test_it_is_warm_where_it_looks_and_as_before_afterwards() -> None:
    model = helpers.sequential()
    studio = open_studio(model)
    before = helpers.weights(model)
    cold = studio.gradient_norms(0, 2, BATCH)
    warm = studio.gradient_norms(10, 2, BATCH)
    assert not np.allclose(cold[0], warm[0], rtol=1e-2)
    np.testing.assert_array_equal(warm[0], studio.gradient_norms(10, 2, BATCH)[0])
    assert helpers.difference(before, helpers.weights(model)) == 0.0


def test_a_loss_scale_is_taken_out() -> None:
    found = []
    for scale in (None, 128.0):
        model = plain()
        model.compile(keras.optimizers.SGD(0.1, loss_scale_factor=scale), helpers.loss())
        found.append(open_studio(model).gradient_norms(2, 2, BATCH)[0])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-3)


def by_hand(gradients: list[list[float]]) -> tuple[list[float], list[float]]:
    windows = [gradients[i : i + WINDOW] for i in range(0, len(gradients), WINDOW)]
    full = [np.asarray(window) for window in windows if len(window) == WINDOW]
    return (
        [float((window**2).sum(1).mean()) for window in full],
        [float((window.mean(0) ** 2).sum()) for window in full],
    )


def test_windows_are_those_of_a_plain_loop() -> None:
    """More than are kept, with one that is not full, and one with an infinite gradient."""
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=((CAPACITY + 3) * WINDOW + 5, 3)).astype("float32")
    meter = GradientMeter([keras.Variable(np.zeros(2)), keras.Variable(np.zeros(1))])
    record = tf.function(lambda g: meter.record([g[:2], g[2:]], 1.0))
    for gradient in gradients:
        record(tf.constant(gradient))
    assert meter.done == CAPACITY + 3
    small, large = by_hand(gradients.tolist())
    found = meter.norms()
    np.testing.assert_allclose(found[0], small[4:], rtol=1e-5)
    np.testing.assert_allclose(found[1], large[4:], rtol=1e-5)
    assert len(meter.norms(CAPACITY)[0]) == 3
    meter.begin()  # the five steps of the window that is not full count for nothing
    for gradient in gradients[:WINDOW]:
        record(tf.constant(gradient))
    np.testing.assert_allclose(meter.norms(CAPACITY + 3)[1], large[:1], rtol=1e-5)
    record(tf.constant([np.inf, 0.0, 0.0]))
    for gradient in gradients[: WINDOW - 1]:
        record(tf.constant(gradient))
    assert meter.done == CAPACITY + 5
    assert len(meter.norms(CAPACITY + 4)[0]) == 0
    for gradient in gradients[:WINDOW]:  # and it is over with that window
        record(tf.constant(gradient))
    np.testing.assert_allclose(meter.norms(CAPACITY + 5)[1], large[:1], rtol=1e-5)


def test_a_variable_without_a_gradient_counts_nothing() -> None:
    meter = GradientMeter([keras.Variable(np.zeros(2)), keras.Variable(np.zeros(1))])
    for _ in range(WINDOW):
        meter.record([tf.constant([3.0, 4.0]), None], 1.0)
    np.testing.assert_allclose(meter.norms(), [[25.0], [25.0]])


def test_memory_is_told_and_doubling_asks_for_twice_as_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    most, limit = memory.peak(), memory.limit()
    assert most is not None and limit is not None
    assert 2**26 < memory.held() < limit and most < limit
    monkeypatch.setattr(memory, "limit", lambda: 1000)
    monkeypatch.setattr(memory, "peak", lambda: 600)
    # 300 were held before: the work took 300, twice as much takes 300 more.
    assert not memory.fits(300, 2.0)  # 900 > 800
    assert memory.fits(400, 2.0)  # 800
    assert not memory.fits(400, 4.0)
    monkeypatch.setattr(memory, "peak", lambda: None)
    assert not memory.fits(0, 2.0)
