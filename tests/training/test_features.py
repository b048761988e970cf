"""What a recipe switches on in the step, each against a plain loop or a closed form."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

from etude.data._base import Arrays
from etude.data.resident import Resident
from etude.errors import ModelError, RecipeError
from etude.recipe import Recipe
from etude.training import averaging, gradients
from etude.training.trainer import Trainer

from . import helpers


def _linear(seed: int = 0) -> keras.Model:
    """A model without noise or normalization, so that plain loops can follow it."""
    keras.utils.set_random_seed(seed)
    return keras.Sequential([layers.Input((8, 8, 1)), layers.Flatten(), layers.Dense(4)])


def _data(count: int = 48) -> tuple[Any, Any]:
    x, y = helpers.images(count)
    return (x / 255.0).astype("float32"), y


def _softmax(z: Any) -> Any:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def _numpy_gradient(w: Any, b: Any, x: Any, targets: Any, weight: Any = None) -> tuple[Any, Any]:
    """Gradient of the mean softmax cross-entropy of a linear model."""
    flat = x.reshape(len(x), -1).astype("float64")
    delta = (_softmax(flat @ w + b) - targets) / len(x)
    if weight is not None:
        delta *= weight[:, None]
    return flat.T @ delta, delta.sum(axis=0)


def _weights(model: keras.Model) -> list[Any]:
    return [ops.convert_to_numpy(v).astype("float64") for v in model.trainable_variables]


def _fit(recipe: Recipe, model: keras.Model, x: Any, y: Any, **options: Any) -> Trainer:
    trainer = Trainer(model, recipe, **options)
    trainer.compile(loss=helpers.loss())
    trainer.fit(x, y, batch_size=16, shuffle=False, verbose=0)
    return trainer


SGD = Recipe().give(optimization={"optimizer": "sgd", "learning_rate": 0.5})


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("limit", [None, 0.05])
@pytest.mark.parametrize("balanced", [None, {0: 2.0, 1: 0.5, 2: 1.0, 3: 1.0}])
def test_smoothing_clipping_and_class_weights(
    smoothing: float, limit: float | None, balanced: Any
) -> None:
    x, y = _data()
    model = _linear()
    w, b = _weights(model)
    recipe = SGD.give(regularization={"label_smoothing": smoothing, "clip_norm": limit})
    task = helpers.problem(_linear()).task
    _fit(recipe, model, x, y, task=task, class_weights=balanced)
    for start in range(0, 48, 16):
        xs, ys = x[start : start + 16], y[start : start + 16]
        targets = np.eye(4)[ys] * (1 - smoothing) + smoothing / 4
        weight = None if balanced is None else np.array([balanced[int(k)] for k in ys])
        gw, gb = _numpy_gradient(w, b, xs, targets, weight)
        if limit is not None:
            norm = np.sqrt((gw**2).sum() + (gb**2).sum())
            gw, gb = gw * min(1, limit / norm), gb * min(1, limit / norm)
        w, b = w - 0.5 * gw, b - 0.5 * gb
    np.testing.assert_allclose(_weights(model)[0], w, atol=2e-6)
    np.testing.assert_allclose(_weights(model)[1], b, atol=2e-6)


def test_metrics_see_the_labels_and_not_their_smoothing() -> None:
    x, y = _data()
    task = helpers.problem(_linear()).task
    arms = []
    for smoothing in (0.0, 0.3):
        recipe = SGD.give(
            regularization={"label_smoothing": smoothing}, optimization={"learning_rate": 0.0}
        )
        trainer = Trainer(_linear(), recipe, task=task)
        trainer.compile(loss=helpers.loss(), metrics=["accuracy"])
        arms.append(trainer.fit(x, y, batch_size=16, verbose=0).history)
    assert arms[0]["accuracy"] == arms[1]["accuracy"]
    assert arms[0]["loss"] != arms[1]["loss"]


@pytest.mark.parametrize("count", [2, 3, 5, 16])
def test_accumulated_gradients_are_those_of_the_whole_batch(count: int) -> None:
    x, y = _data(40)  # the last batch has 8 samples: fewer than 16 micro-batches
    plain, cut = _linear(), _linear()
    _fit(SGD, plain, x, y)
    _fit(SGD.give(compute={"accumulate": count}), cut, x, y)
    for one, other in zip(_weights(plain), _weights(cut), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_micro_batches_cover_the_batch_and_their_shares_sum_to_one() -> None:
    for size in (1, 2, 7, 8):
        values = ops.arange(size)
        for count in (1, 2, 3, 8, 10):
            parts = [gradients.micro_batch(values, i, count) for i in range(count)]
            shares = [float(share) for _, share in parts]
            assert sum(shares) == pytest.approx(1.0)
            seen = [int(v) for part, share in parts if float(share) > 0 for v in part]
            assert seen == list(range(size))
            assert all(len(part) >= 1 for part, _ in parts)
            # The outputs of all parts, cut to the batch, are those of the batch in its order.
            assert [int(v) for part, _ in parts for v in part][:size] == list(range(size))


def test_clipping_keeps_direction_and_small_gradients() -> None:
    grads = [ops.convert_to_tensor([3.0, 0.0]), None, ops.convert_to_tensor([[4.0]])]
    assert float(gradients.global_norm(grads)) == 5.0
    clipped = gradients.clip_by_global_norm(grads, 1.0)
    np.testing.assert_allclose(clipped[0], [0.6, 0.0], rtol=1e-6)
    np.testing.assert_allclose(clipped[2], [[0.8]], rtol=1e-6)
    assert clipped[1] is None
    np.testing.assert_allclose(gradients.clip_by_global_norm(grads, 9.0)[0], [3.0, 0.0])


def test_the_average_follows_a_plain_loop_statistics_included() -> None:
    x, y = helpers.images(64)
    decay = 0.7
    recipe = SGD.give(regularization={"ema_decay": decay}, optimization={"learning_rate": 0.1})
    model = helpers.functional()
    loose = helpers.functional()
    variables = averaging.averaged_variables(loose)
    assert sum("moving" in v.path for v in variables) == 2
    assert not any("seed" in v.path for v in variables)
    shadow = [ops.convert_to_numpy(v).astype("float64") for v in variables]

    class Follow(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
        step = 0

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            keep = min(decay, (1 + self.step) / (10 + self.step))
            for i, v in enumerate(variables):
                shadow[i] = keep * shadow[i] + (1 - keep) * ops.convert_to_numpy(v)
            self.step += 1

    keras.utils.set_random_seed(4)
    loose.compile(keras.optimizers.SGD(0.1), helpers.loss())
    loose.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0, callbacks=[Follow()])
    keras.utils.set_random_seed(4)
    trainer = Trainer(model, recipe)
    trainer.compile(loss=helpers.loss())
    during = []

    class Evaluate(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            during.append(logs["val_loss"])

    trainer.fit(
        x, y, batch_size=16, epochs=2, shuffle=False, verbose=0, validation_data=(x, y),
        callbacks=[Evaluate()],
    )  # fmt: skip
    for variable, want in zip(averaging.averaged_variables(model), shadow, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(variable), want, atol=1e-5)
    # Validation saw the averaged weights, which are the ones that stay.
    assert model.evaluate(x, y, verbose=0) == pytest.approx(during[-1], rel=1e-5)


def test_frozen_layers_are_not_averaged() -> None:
    model = helpers.functional()
    model.layers[2].trainable = False
    paths = [v.path for v in averaging.averaged_variables(model)]
    assert not any("conv2d" in path for path in paths)
    assert any("dense" in path for path in paths)


def test_an_average_needs_weights() -> None:
    x, y = _data()
    trainer = Trainer(helpers.subclassed(), SGD.give(regularization={"ema_decay": 0.9}))
    trainer.compile(loss=helpers.loss())
    with pytest.raises(ModelError, match="needs weights"):
        trainer.fit(x, y, verbose=0)


def test_momentum_and_rate_move_within_the_step() -> None:
    x, y = _data()
    recipe = Recipe().give(
        optimization={
            "optimizer": "sgd", "momentum": 0.9, "learning_rate": 0.2, "schedule": "f1_clr",
            "warmup_steps": 2, "cycle_momentum": True,
        }
    )  # fmt: skip
    model = _linear()
    trainer = Trainer(model, recipe)
    trainer.compile(loss=helpers.loss())
    w, b = _weights(model)
    vw, vb = np.zeros_like(w), np.zeros_like(b)
    trainer.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
    for step in range(6):
        t = step + 0.5
        if t < 2:
            share = 1 - 0.5 * (np.cos(t / 2 * np.pi) + 1)
        else:
            share = 0.5 * (np.cos((t - 2) / 4 * np.pi) + 1)
        beta = 0.95 - 0.1 * share
        part = slice(16 * (step % 3), 16 * (step % 3) + 16)
        gw, gb = _numpy_gradient(w, b, x[part], np.eye(4)[y[part]])
        vw, vb = beta * vw - 0.2 * share * gw, beta * vb - 0.2 * share * gb
        w, b = w + vw, b + vb
    np.testing.assert_allclose(_weights(model)[0], w, atol=3e-6)
    assert trainer.optimizer.momentum == 0.9


def test_without_a_task_some_recipes_are_refused() -> None:
    with pytest.raises(RecipeError, match="label_smoothing"):
        Trainer(_linear(), Recipe().give(regularization={"label_smoothing": 0.1}))
    with pytest.raises(RecipeError, match="class_weight"):
        Trainer(_linear(), class_weights={0: 2.0})
    with pytest.raises(RecipeError, match="schedule"):
        Trainer(_linear(), Recipe().give(optimization={"schedule": "sawtooth"}))


def test_resident_data_with_weights_and_without_labels() -> None:
    x, y = _data()
    weight = np.linspace(0.1, 2.0, len(x)).astype("float32")
    model = _linear()
    trainer = Trainer(model, SGD, seed=3)
    trainer.compile(loss=helpers.loss())
    data = Resident(Arrays(x, y, weight))
    trainer.fit(data, batch_size=16, verbose=0)
    want = model.evaluate(x, y, sample_weight=weight, verbose=0)
    assert trainer.evaluate(data, verbose=0) == pytest.approx(want, rel=1e-5)
    unlabelled = Resident(Arrays(x))
    np.testing.assert_allclose(
        trainer.predict(unlabelled, verbose=0), model.predict(x, verbose=0), rtol=1e-5
    )
    with pytest.raises(ModelError, match="class_weight"):
        trainer.fit(data, class_weight={0: 2.0}, verbose=0)
