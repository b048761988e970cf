"""Scores against automatic differentiation of Keras' own losses, and of a last layer's bias."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from etude.sampling import scores

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0.0, 2.0, (6, 4)).astype(np.float32)
NUMBERS = np.array([0, 1, 2, 3, 1, 0])
ROWS = np.eye(4, dtype=np.float32)[NUMBERS]
MULTI = (RNG.random((6, 4)) > 0.5).astype(np.float32)


def at_logits(loss: Any, labels: Any, logits: Any, activation: Any) -> Any:
    """The gradient of each sample's loss at the pre-activation, one sample at a time."""
    found = []
    for label, z in zip(labels, logits, strict=True):
        with tf.GradientTape() as tape:
            z = tf.constant(z[None])
            tape.watch(z)
            value = loss(label[None], activation(z))
        found.append(tape.gradient(value, z)[0])
    return np.stack(found)


@pytest.mark.parametrize("logits", [True, False])
@pytest.mark.parametrize(
    ("family", "kind", "labels", "activation"),
    [
        ("sparse", keras.losses.SparseCategoricalCrossentropy, NUMBERS, ops.softmax),
        ("categorical", keras.losses.CategoricalCrossentropy, ROWS, ops.softmax),
        ("categorical", keras.losses.CategoricalCrossentropy, 0.8 * ROWS + 0.05, ops.softmax),
        ("binary", keras.losses.BinaryCrossentropy, MULTI, ops.sigmoid),
    ],
)
def test_residuals_are_the_gradient_at_the_pre_activation(
    family: Any, kind: Any, labels: Any, activation: Any, logits: bool
) -> None:
    through = (lambda z: z) if logits else activation
    by_tape = at_logits(kind(from_logits=logits), labels, LOGITS, through)
    found = scores.crossentropy_residual(
        ops.convert_to_tensor(labels), through(LOGITS), family, logits=logits
    )
    np.testing.assert_allclose(found, by_tape, atol=1e-5)
    norms = np.asarray(scores.norms(found))
    np.testing.assert_allclose(norms, np.linalg.norm(by_tape, axis=-1), atol=1e-5)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "tanh", "relu", "linear"])
def test_any_loss_is_differentiated_through_the_activation(activation: str) -> None:
    function = getattr(keras.activations, activation)
    targets = RNG.random((6, 4)).astype(np.float32)

    def each(outputs: Any) -> Any:
        return ops.mean(ops.square(outputs - targets) ** 2, axis=-1)

    def differentiate(of: Any, at: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(at)
            value = of(at)
        return tape.gradient(value, at)

    outputs = ops.convert_to_tensor(function(LOGITS))
    found = scores.any_residual(outputs, each, differentiate, activation)
    with tf.GradientTape() as tape:
        z = tf.constant(LOGITS)
        tape.watch(z)
        value = tf.reduce_sum(each(function(z)))
    np.testing.assert_allclose(found, tape.gradient(value, z), atol=1e-5)


def test_squared_errors_have_their_closed_form() -> None:
    targets = RNG.random((6, 4)).astype(np.float32)
    by_tape = at_logits(keras.losses.MeanSquaredError(), targets, LOGITS, lambda z: z)
    found = scores.squared_error_residual(targets, ops.convert_to_tensor(LOGITS))
    np.testing.assert_allclose(found, by_tape, atol=1e-5)


def test_the_bound_is_the_norm_of_the_last_bias_gradient() -> None:
    """Of a dense layer that norm is the residual's; of its kernel times that of what goes in."""
    keras.utils.set_random_seed(0)
    dense = keras.layers.Dense(4)
    x = RNG.normal(size=(6, 7)).astype(np.float32)
    outputs = dense(x)
    found = scores.norms(
        scores.crossentropy_residual(ops.convert_to_tensor(NUMBERS), outputs, "sparse", logits=True)
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for i in range(6):
        with tf.GradientTape() as tape:
            value = loss(NUMBERS[i : i + 1], dense(x[i : i + 1]))
        kernel, bias = tape.gradient(value, [w.value for w in dense.trainable_weights])
        assert float(found[i]) == pytest.approx(np.linalg.norm(bias), rel=1e-4)
        by_kernel = np.linalg.norm(kernel) / np.linalg.norm(x[i])
        assert float(found[i]) == pytest.approx(by_kernel, rel=1e-4)


@pytest.mark.parametrize("shape", [(2,), (2, 3, 3)])
def test_dense_outputs_are_one_vector(shape: tuple[int, ...]) -> None:
    """Masks, some pixels of which count more or nothing, against the tape."""
    logits = RNG.normal(size=(2, 3, 3, 4)).astype(np.float32)
    labels = RNG.integers(0, 4, (2, 3, 3))
    weight = RNG.choice([0.0, 1.0, 2.5], size=shape).astype(np.float32)
    residual = scores.crossentropy_residual(
        ops.convert_to_tensor(labels), ops.convert_to_tensor(logits), "sparse", logits=True
    )
    found = np.asarray(scores.norms(residual, ops.convert_to_tensor(weight)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")
    for i in range(2):
        with tf.GradientTape() as tape:
            z = tf.constant(logits[i : i + 1])
            tape.watch(z)
            value = tf.reduce_mean(weight[i] * loss(labels[i : i + 1], z))
        assert found[i] == pytest.approx(float(tf.norm(tape.gradient(value, z))), abs=1e-5)
    means = np.asarray(scores.means(loss(labels, logits), ops.convert_to_tensor(weight)))
    whole = np.asarray(loss(labels, logits))
    by_hand = [np.mean(weight[i] * whole[i]) for i in range(2)]
    np.testing.assert_allclose(means, by_hand, rtol=1e-5)


def test_single_outputs_without_an_axis() -> None:
    z = RNG.normal(size=6).astype(np.float32)
    y = (NUMBERS > 1).astype(np.float32)
    found = scores.crossentropy_residual(
        ops.convert_to_tensor(y), ops.convert_to_tensor(z), "binary", logits=True
    )
    by_hand = 1 / (1 + np.exp(-z)) - y
    np.testing.assert_allclose(found, by_hand, atol=1e-6)
    np.testing.assert_allclose(scores.norms(found), np.abs(by_hand), atol=1e-6)
