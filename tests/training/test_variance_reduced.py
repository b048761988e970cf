"""Variance reduction in the step: full gradients at the anchor, and what it cannot do."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from etude.data._base import Arrays
from etude.data.resident import Resident
from etude.errors import RecipeError
from etude.optim.variance_reduction import REDUCTIONS
from etude.recipe import Recipe
from etude.training import snapshot, variance_reduced
from etude.training.isolation import isolated
from etude.training.trainer import Trainer

from ..machine import first_fast
from . import helpers

X, Y = helpers.images(90)
RATE = 0.05


def model() -> Any:
    keras.utils.set_random_seed(0)
    stack = [layers.Input(X.shape[1:]), layers.Rescaling(1 / 255), layers.Flatten()]
    return keras.Sequential(
        [*stack, layers.Dense(6, "tanh", kernel_regularizer="l2"), layers.Dense(4)]
    )


def trainer(name: str, seed: int = 0, **numbers: Any) -> Trainer:
    stated = Recipe().give(sampling={"strategy": name, **numbers})
    found = Trainer(model(), stated, seed=seed)
    found.compile(keras.optimizers.SGD(RATE), helpers.loss())
    return found


def gradient(made: Any, ids: Any) -> Any:
    """Of the mean loss of samples, by a tape."""
    with tf.GradientTape() as tape:
        loss = helpers.loss()(Y[ids], made(X[ids].astype("float32"))) + sum(made.losses)
    return [g.numpy() for g in tape.gradient(loss, [w.value for w in made.trainable_weights])]


def data() -> Resident:
    return Resident(Arrays(X, Y))


def test_the_first_step_is_by_the_gradient_of_the_whole_set() -> None:
    """90 samples in batches of 16, the last of which is smaller."""
    found = trainer("svrg")
    before = helpers.weights(found.model)
    whole = gradient(found.model, np.arange(90))
    found.fit(data(), batch_size=16, steps_per_epoch=1, epochs=1, verbose=0)
    for old, new, mean in zip(before, helpers.weights(found.model), whole, strict=True):
        np.testing.assert_allclose(new, old - RATE * mean, atol=1e-6)
    reducer = found.reducer
    assert reducer is not None
    assert int(reducer.left) == 5  # six steps see 90 samples


def test_what_is_dropped_is_dropped_at_the_anchor_too() -> None:
    """At the anchor itself nothing is left of a correction, whatever the batch drops."""
    keras.utils.set_random_seed(0)
    stack = [layers.Input(X.shape[1:]), layers.Rescaling(1 / 255), layers.Flatten()]
    made = keras.Sequential([*stack, layers.Dropout(0.5, seed=1), layers.Dense(4)])
    found = Trainer(made, Recipe().give(sampling={"strategy": "svrg"}), seed=0)
    found.compile(keras.optimizers.SGD(RATE), helpers.loss())
    before = [np.asarray(w) for w in made.trainable_weights]
    found.fit(data(), batch_size=16, steps_per_epoch=1, epochs=1, verbose=0)
    assert found.reducer is not None
    means = [np.asarray(mean) for mean in found.reducer.mean]
    after = [np.asarray(w) for w in made.trainable_weights]
    for old, new, mean in zip(before, after, means, strict=True):
        np.testing.assert_allclose(new, old - RATE * mean, atol=1e-7)
    assert len(variance_reduced.random_states(made)) == 1


def test_the_second_step_is_corrected_by_the_anchor() -> None:
    found = trainer("svrg")
    resident = data()
    anchor, twin = model(), model()
    batches = list(resident.shuffled(16, seed=found.seed).take(2))
    ids = next(iter(batches[1].values())).numpy()
    mean = gradient(anchor, np.arange(90))
    first = [w - RATE * m for w, m in zip(helpers.weights(anchor), mean, strict=True)]
    twin.set_weights(first)
    by_hand = [
        w - RATE * (g - a + m)
        for w, g, a, m in zip(first, gradient(twin, ids), gradient(anchor, ids), mean, strict=True)
    ]
    found.fit(resident, batch_size=16, steps_per_epoch=2, epochs=1, verbose=0)
    for new, expected in zip(helpers.weights(found.model), by_hand, strict=True):
        np.testing.assert_allclose(new, expected, atol=1e-6)


@pytest.mark.parametrize("name", first_fast(*REDUCTIONS))
def test_a_method_trains_with_the_same_bits_and_keeps_its_state(name: str) -> None:
    runs = []
    for _ in range(2):
        found = trainer(name, seed=3)
        losses = found.fit(data(), batch_size=16, epochs=6, verbose=0).history["loss"]
        assert losses[-1] < losses[0]
        runs.append(helpers.weights(found.model))
    assert helpers.difference(*runs) == 0.0
    state = snapshot.capture(found)
    with isolated(found):
        found.fit(data(), batch_size=16, epochs=2, verbose=0)
        moved = snapshot.capture(found, ["reducer"])
    assert any(not np.array_equal(moved[key], state[key]) for key in moved)
    for key, value in snapshot.capture(found).items():
        np.testing.assert_array_equal(value, state[key])


def test_random_parts_are_as_large_as_is_said() -> None:
    found = trainer("scsg", presample=2.0)
    found.fit(data(), batch_size=16, steps_per_epoch=1, epochs=1, verbose=0)
    reducer = found.reducer
    assert reducer is not None
    assert int(reducer.times) == 1
    # The mean gradient is that of 32 samples, not of all.
    whole = gradient(model(), np.arange(90))
    off = [np.abs(np.asarray(m) - w).max() for m, w in zip(reducer.mean, whole, strict=True)]
    assert max(off) > 1e-4


def test_what_cannot_be_done_is_refused() -> None:
    batches = tf.data.Dataset.from_tensor_slices((X.astype("float32"), Y)).batch(16)
    with pytest.raises(RecipeError, match="large parts of the set"):
        trainer("svrg").fit(batches, verbose=0)
    augmented = Recipe().give(
        sampling={"strategy": "svrg"}, augmentation={"policy": "standard_cifar"}
    )
    with pytest.raises(RecipeError, match="draws anew"):
        Trainer(model(), augmented, value_range=(0, 255))
