"""Momentum moved inside a compiled step, against plain loops."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from etude.errors import RecipeError
from etude.optim import momentum


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


def test_an_optimizer_without_momentum_is_refused() -> None:
    with pytest.raises(RecipeError, match="has none"):
        momentum.check_movable(keras.optimizers.SGD(0.1))
    momentum.check_movable(keras.optimizers.Adam())
