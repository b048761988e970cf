"""Momentum moved inside a compiled step, against plain loops."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from etude.errors import RecipeError
from etude.optim import _registry, momentum
from etude.recipe import Optimization


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_follows_the_moving_momentum(nesterov: bool) -> None:
    weight = keras.Variable(np.array([2.0, -1.0], np.float32))
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9, nesterov=nesterov)
    optimizer.build([weight])
    betas = [0.95, 0.5, 0.8, 0.85]

    @tf.function
    def step(beta: tf.Tensor) -> None:
        gradient = 2.0 * weight.value
        with momentum.moving(optimizer, beta):
            optimizer.apply_gradients([(gradient, weight)])

    w, v = np.array([2.0, -1.0]), np.zeros(2)
    for beta in betas:
        step(tf.constant(beta))
        g = 2.0 * w
        v = beta * v - 0.1 * g
        w = w + (beta * v - 0.1 * g if nesterov else v)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(weight), w, rtol=1e-5)
    assert step.experimental_get_tracing_count() == 1
    assert optimizer.momentum == 0.9  # and still in the saved configuration
    assert optimizer.get_config()["momentum"] == 0.9


def test_adam_with_a_moving_beta_1() -> None:
    weight = keras.Variable(np.array([1.5], np.float32))
    optimizer = keras.optimizers.Adam(0.1)
    optimizer.build([weight])
    betas = [0.95, 0.85, 0.9]

    @tf.function
    def step(beta: tf.Tensor) -> None:
        with momentum.moving(optimizer, beta):
            optimizer.apply_gradients([(2.0 * weight.value, weight)])

    w, m, v = 1.5, 0.0, 0.0
    for t, beta in enumerate(betas, start=1):
        step(tf.constant(beta))
        g = 2.0 * w
        m, v = beta * m + (1 - beta) * g, 0.999 * v + 0.001 * g * g
        rate = 0.1 * np.sqrt(1 - 0.999**t) / (1 - beta**t)
        w -= rate * m / (np.sqrt(v) + 1e-7)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(weight), [w], rtol=1e-4)


def stepping(made: Any, weight: Any, moved: dict[str, Any]) -> Any:
    """A traced step on a bowl, with some of the optimizer's numbers as tensors."""

    @tf.function
    def step() -> None:
        with momentum.moving(made, **moved):
            made.apply_gradients([(2.0 * weight.value, weight)])

    return step


@pytest.mark.parametrize("name", sorted(_registry.OPTIMIZERS))
def test_every_optimizer_can_be_steered(name: str) -> None:
    """Oracle: the optimizer made with these numbers."""
    results = []
    for steered in (False, True):
        numbers = {"momentum": 0.7, "weight_decay": 0.1}
        if steered:
            numbers = {"momentum": 0.9, "weight_decay": 0.3}
        made = _registry.build(Optimization(name, learning_rate=0.1, **numbers))
        assert momentum.movable(made, cycled=False, steered=True) == {
            "momentum": True,
            "weight_decay": True,
        }
        weight = keras.Variable(np.full((2, 2), 1.5, np.float32))
        made.build([weight])
        moved = {"value": tf.constant(0.7), "weight_decay": tf.constant(0.1)} if steered else {}

        step = stepping(made, weight, moved)
        for _ in range(4):
            step()
        results.append(keras.ops.convert_to_numpy(weight))
    np.testing.assert_allclose(results[1], results[0], rtol=2e-5)


def test_a_class_that_is_not_known_keeps_its_numbers() -> None:
    class Own(keras.optimizers.SGD):  # type: ignore[misc, unused-ignore]
        pass

    made = Own(0.1, momentum=0.9, weight_decay=0.1)
    assert not any(momentum.movable(made, cycled=False, steered=True).values())


def test_an_optimizer_without_momentum_is_refused() -> None:
    with pytest.raises(RecipeError, match="has none"):
        momentum.check_movable(keras.optimizers.SGD(0.1))
    momentum.check_movable(keras.optimizers.Adam())
