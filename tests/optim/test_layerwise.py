"""LAMB and LARS in all that Keras and the Trainer do with an optimizer."""

from __future__ import annotations

import doctest
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import etude
from etude.errors import ModelError
from etude.optim import lamb, lars, momentum
from etude.optim.lamb import LAMB
from etude.optim.lars import LARS
from etude.recipe import Recipe
from etude.training.trainer import Trainer

from .. import replicas
from . import references
from .helpers import apply

BOTH = pytest.mark.parametrize("make", [LAMB, LARS])
PLAIN: dict[Any, Any] = {LAMB: references.lamb, LARS: references.lars}
RNG = np.random.default_rng(5)
X, Y = RNG.normal(size=(24, 6)).astype("float32"), RNG.integers(0, 3, 24)
START, GRADIENTS = RNG.normal(size=(4, 3)), RNG.normal(size=(8, 4, 3))


def variable(value: Any = START, dtype: str = "float32") -> Any:
    return keras.Variable(value, dtype=dtype)


def model() -> keras.Model:
    keras.utils.set_random_seed(2)
    inner = [keras.layers.Dense(8, "relu"), keras.layers.BatchNormalization()]
    return keras.Sequential([keras.Input((6,)), *inner, keras.layers.Dense(3)])


def fit(trained: Any, epochs: int = 1, **options: Any) -> list[Any]:
    trained.fit(X, Y, batch_size=8, epochs=epochs, shuffle=False, verbose=0, **options)
    return [np.array(ops.convert_to_numpy(v)) for v in trained.variables]


def loss() -> Any:
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.mark.parametrize("module", [lamb, lars])
def test_the_examples_run(module: Any) -> None:
    done = doctest.testmod(module)
    assert done.attempted > 0 and done.failed == 0


# -- Decay -------------------------------------------------------------------------------


@BOTH
def test_a_decay_set_later_counts_and_only_once(make: Any) -> None:
    """Keras reads the same attribute for a decay of its own, which must not come on top."""
    optimizer = make(0.5)
    optimizer.build([target := variable()])
    optimizer.weight_decay = 0.2
    want = PLAIN[make](START, GRADIENTS, rate=0.5, decay=0.2)[-1]
    np.testing.assert_allclose(apply(optimizer, target, GRADIENTS), want, rtol=2e-5, atol=1e-6)
    assert optimizer.get_config()["weight_decay"] == 0.2


@BOTH
def test_a_list_of_what_does_not_decay_is_refused(make: Any) -> None:
    with pytest.raises(ModelError, match="does not take a list"):
        make(weight_decay=0.1).exclude_from_weight_decay(var_names=["bias"])


# -- Configuration and files -------------------------------------------------------------


@BOTH
def test_the_configuration_makes_it_anew(make: Any) -> None:
    own: dict[str, Any] = {LAMB: {"epsilon": 1e-3, "beta_1": 0.7, "beta_2": 0.8},
                           LARS: {"trust_coefficient": 0.02, "momentum": 0.7}}[make]  # fmt: skip
    options = {"learning_rate": 0.25, "weight_decay": 0.5, "clipnorm": 1.0, "name": "mine", **own}
    config = make(**options).get_config()
    assert {name: config[name] for name in options} == options
    assert make.from_config(config).get_config() == config
    again = keras.optimizers.get(keras.optimizers.serialize(make(**options)))
    assert type(again) is make and again.get_config() == config  # not Keras' own Lamb


@BOTH
def test_a_saved_model_goes_on_with_the_same_bits(make: Any, tmp_path: Path) -> None:
    trained = model()
    trained.compile(make(0.1, weight_decay=0.01), loss())
    fit(trained)
    trained.save(tmp_path / "model.keras")
    loaded = etude.load_model(tmp_path / "model.keras")
    assert type(loaded.optimizer) is make
    assert loaded.optimizer.get_config() == trained.optimizer.get_config()
    before = fit(trained, epochs=0)
    pairs = list(zip(fit(trained), fit(loaded), strict=True))
    assert all((one == other).all() for one, other in pairs)
    assert any((one != other[0]).any() for one, other in zip(before, pairs, strict=True))


# -- Ways to run a step ------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("xla", [False, True])
def test_a_compiled_step_is_traced_once(make: Any, xla: bool) -> None:
    optimizer, target = make(0.1, weight_decay=0.2), variable()
    optimizer.build([target])

    @tf.function(jit_compile=xla)
    def step(gradient: Any) -> None:
        optimizer.apply([gradient], [target])

    for gradient in GRADIENTS:
        step(tf.constant(gradient, tf.float32))
    want = PLAIN[make](START, GRADIENTS, rate=0.1, decay=0.2)[-1]
    np.testing.assert_allclose(ops.convert_to_numpy(target), want, rtol=2e-5, atol=1e-6)
    assert step.experimental_get_tracing_count() == 1


@BOTH
def test_momentum_moves_within_the_compiled_step(make: Any) -> None:
    optimizer, target = make(0.1, weight_decay=0.2), variable()
    optimizer.build([target])
    momentum.check_movable(optimizer)
    name = "beta_1" if make is LAMB else "momentum"
    values = [0.95, 0.5, 0.8, 0.85, 0.6, 0.9, 0.7, 0.75]

    @tf.function
    def step(gradient: Any, value: Any) -> None:
        with momentum.moving(optimizer, value):
            optimizer.apply([gradient], [target])

    for gradient, value in zip(GRADIENTS, values, strict=True):
        step(tf.constant(gradient, tf.float32), tf.constant(value))
    want = PLAIN[make](START, GRADIENTS, rate=0.1, decay=0.2, **{name: values})[-1]
    np.testing.assert_allclose(ops.convert_to_numpy(target), want, rtol=5e-5, atol=1e-6)
    assert step.experimental_get_tracing_count() == 1
    assert getattr(optimizer, name) == 0.9


@BOTH
def test_the_trainer_moves_rate_and_momentum(make: Any) -> None:
    """Against a plain loop over a linear model without a bias, whose gradient is known."""
    keras.utils.set_random_seed(2)
    linear = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, use_bias=False)])
    start = ops.convert_to_numpy(linear.weights[0]).astype("float64")
    peak = 0.1 if make is LAMB else 50.0
    name = "beta_1" if make is LAMB else "momentum"
    settings = {
        "optimizer": make.__name__.lower(), "learning_rate": peak, "weight_decay": 0.05,
        "schedule": "f1_clr", "warmup_steps": 2, "cycle_momentum": True,
    }  # fmt: skip
    trainer = Trainer(linear, Recipe().give(optimization=settings))
    trainer.compile(loss=loss())
    fit(trainer, epochs=2)
    rates, values = [], []
    for t in np.arange(6) + 0.5:
        up, down = 1 - 0.5 * (np.cos(t / 2 * np.pi) + 1), 0.5 * (np.cos((t - 2) / 4 * np.pi) + 1)
        share = up if t < 2 else down
        rates.append(peak * share)
        values.append(0.95 - 0.1 * share)
    w, gradients = start, []
    for step in range(6):  # the path up to here gives the next gradient
        part = slice(8 * (step % 3), 8 * (step % 3) + 8)
        odds = np.exp(X[part].astype("float64") @ w)
        delta = odds / odds.sum(axis=1, keepdims=True) - np.eye(3)[Y[part]]
        gradients.append(X[part].T @ delta / 8)
        w = PLAIN[make](start, gradients, rate=rates, decay=0.05, **{name: values})[-1]
    np.testing.assert_allclose(ops.convert_to_numpy(linear.weights[0]), w, rtol=1e-3, atol=1e-5)
    assert np.abs(w - start).max() > 0.05
    assert getattr(trainer.optimizer, name) == 0.9


@BOTH
def test_variables_without_a_gradient_stay(make: Any) -> None:
    target, other = variable(), variable()
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        make(0.1, weight_decay=0.2).apply([ops.cast(GRADIENTS[0], "float32"), None],
                                          [target, other])  # fmt: skip
    want = PLAIN[make](START, GRADIENTS[:1], rate=0.1, decay=0.2)[-1]
    np.testing.assert_allclose(ops.convert_to_numpy(target), want, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(ops.convert_to_numpy(other), START.astype("float32"))


@BOTH
def test_rows_of_an_embedding_are_moved_as_one_matrix(make: Any) -> None:
    """TensorFlow gives such gradients as slices, of which one row may have several."""
    target, dense = variable(), np.zeros((4, 3))
    rows, values = np.array([2, 0, 2]), RNG.normal(size=(3, 3))
    np.add.at(dense, rows, values)
    slices = tf.IndexedSlices(tf.constant(values, tf.float32), tf.constant(rows), (4, 3))
    make(0.1, weight_decay=0.2).apply([slices], [target])
    want = PLAIN[make](START, [dense], rate=0.1, decay=0.2)[-1]
    np.testing.assert_allclose(ops.convert_to_numpy(target), want, rtol=1e-5, atol=1e-6)


@BOTH
def test_keras_averages_and_accumulates(make: Any) -> None:
    options = {"use_ema": True, "ema_momentum": 0.5}
    optimizer, target = make(0.1, **options), variable()
    path = PLAIN[make](START, GRADIENTS, rate=0.1)
    np.testing.assert_allclose(apply(optimizer, target, GRADIENTS), path[-1], rtol=2e-5, atol=1e-6)
    average = path[0]
    for w in path[1:]:
        average = 0.5 * average + 0.5 * w
    optimizer.finalize_variable_values([target])
    np.testing.assert_allclose(ops.convert_to_numpy(target), average, rtol=2e-5, atol=1e-6)
    target = variable()
    apply(make(0.1, gradient_accumulation_steps=2), target, GRADIENTS)
    means = GRADIENTS.reshape(4, 2, 4, 3).mean(axis=1)
    want = PLAIN[make](START, means, rate=0.1)[-1]
    np.testing.assert_allclose(ops.convert_to_numpy(target), want, rtol=2e-5, atol=1e-6)


# -- Precision ---------------------------------------------------------------------------


@BOTH
def test_norms_of_halves_do_not_overflow(make: Any) -> None:
    # A sum of squares of 10⁷ is beyond float16, whose greatest number is 65504.
    start, gradient = np.full((40, 25), 100.0), np.full((40, 25), 80.0)
    target = variable(start, "float16")
    found = apply(make(1e-2 if make is LAMB else 10.0), target, [gradient])
    want = PLAIN[make](start, [gradient], rate=1e-2 if make is LAMB else 10.0)[-1]
    np.testing.assert_allclose(found, want, rtol=1e-3)
    assert found.dtype == np.float16 and (want < 99.5).all()


@pytest.fixture
def halves() -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy(before)


def trained_by(optimizer: Any) -> tuple[Any, list[Any]]:
    trained = model()
    trained.compile(optimizer, loss())
    return trained, fit(trained, epochs=3)


@BOTH
def test_mixed_precision_is_close_to_single(make: Any, request: pytest.FixtureRequest) -> None:
    # Biases take LARS' rate as it is, and at rates that suit η = 0.001 float16 overflows.
    options = {"trust_coefficient": 0.1} if make is LARS else {}
    single = trained_by(make(0.05, weight_decay=0.01, **options))[1]
    request.getfixturevalue("halves")
    trained, mixed = trained_by(make(0.05, weight_decay=0.01, **options))
    assert isinstance(trained.optimizer, keras.optimizers.LossScaleOptimizer)
    assert int(trained.optimizer.iterations) == 9
    assert {v.dtype for v in trained.trainable_variables} == {"float32"}
    for one, other in zip(single, mixed, strict=True):
        np.testing.assert_allclose(one, other, atol=0.03)
    kernel = ops.convert_to_numpy(model().weights[0])
    assert np.abs(kernel - single[0]).max() > 0.1  # the check can fail


# -- Several replicas --------------------------------------------------------------------

PROGRAM = """
rng = np.random.default_rng(0)
x = rng.normal(size=(72, 6)).astype("float32")
y = rng.integers(0, 3, 72)

def train(name, epochs=2):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([
        keras.layers.Input((6,)), keras.layers.Dense(5), keras.layers.Dense(3)])
    trainer = Trainer(model, Recipe().give(optimization={
        "optimizer": name, "learning_rate": {"lamb": 0.05, "lars": 20.0}[name],
        "weight_decay": 0.05, "schedule": "one_cycle", "cycle_momentum": True}))
    trainer.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    trainer.fit(x, y, batch_size=16, epochs=epochs, shuffle=False, verbose=0)
    return model

for name in ("lamb", "lars"):
    one = train(name)
    strategy = mirrored()
    with strategy.scope():
        two = train(name)
    for v in [*two.weights, *two.optimizer.variables]:
        first, second = strategy.experimental_local_results(v.value)
        np.testing.assert_array_equal(first.numpy(), second.numpy())
    np.testing.assert_allclose(weights(one), weights(two), rtol=1e-3, atol=1e-4)
    assert np.abs(weights(train(name, epochs=1)) - weights(one)).max() > 1e-2
"""


@pytest.mark.slow
def test_mirrored_replicas_equal_one_process(tmp_path: Path) -> None:
    replicas.run(PROGRAM, tmp_path)
