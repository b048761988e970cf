"""The Trainer by itself, as people use it who call `fit` themselves."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from etude.errors import RecipeError
from etude.recipe import Recipe
from etude.training.trainer import Trainer

from . import helpers

ONE_CYCLE = Recipe().give(
    compute={"batch_size": 16}, optimization={"learning_rate": 0.2, "schedule": "one_cycle"}
)


class Rates(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
    """Notes the rate of every step."""

    def __init__(self) -> None:
        super().__init__()
        self.rates: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.rates.append(float(self.model.optimizer.learning_rate))


def one_cycle(step: int, total: int, peak: float = 0.2, rise: float = 0.25) -> float:
    """Equation 3.7 in the middle of a step."""
    t = step + 0.5
    if t < rise * total:
        return peak * (1 - 0.5 * (math.cos(t / (rise * total) * math.pi) + 1))
    return peak * 0.5 * (math.cos((t - rise * total) / (total * (1 - rise)) * math.pi) + 1)


def test_a_schedule_ends_with_the_last_epoch() -> None:
    x, y = helpers.images()
    trainer = Trainer(helpers.functional(), ONE_CYCLE)
    trainer.compile("sgd", helpers.loss(), metrics=["accuracy"])
    seen = Rates()
    history = trainer.fit(x, y, epochs=6, verbose=0, callbacks=[seen]).history
    want = [one_cycle(step, 60) for step in range(60)]
    np.testing.assert_allclose(seen.rates, want, rtol=1e-4)
    assert history["loss"][-1] < 0.9 * history["loss"][0]
    # Afterwards the rate is the recipe's, not what the schedule ended with.
    assert float(trainer.optimizer.learning_rate) == pytest.approx(0.2)
    # Another fit is another schedule; one from a later epoch is the rest of the same.
    again, rest = Rates(), Rates()
    trainer.fit(x, y, epochs=2, verbose=0, callbacks=again)
    np.testing.assert_allclose(again.rates, [one_cycle(s, 20) for s in range(20)], rtol=1e-4)
    trainer.fit(x, y, epochs=6, initial_epoch=4, verbose=0, callbacks=[rest])
    np.testing.assert_allclose(rest.rates, want[40:], rtol=1e-4)


def test_a_schedule_needs_a_length() -> None:
    x, y = helpers.images()
    stream = tf.data.Dataset.from_tensor_slices((x, y)).repeat().batch(16)
    unknown = stream.filter(lambda x, y: True).take(4)
    trainer = Trainer(helpers.functional(), ONE_CYCLE)
    trainer.compile("sgd", helpers.loss())
    with pytest.raises(RecipeError, match="how long an epoch is"):
        trainer.fit(unknown, epochs=2, verbose=0)
    seen = Rates()
    trainer.fit(stream, epochs=2, steps_per_epoch=5, verbose=0, callbacks=[seen])
    np.testing.assert_allclose(seen.rates, [one_cycle(s, 10) for s in range(10)], rtol=1e-4)


def test_arguments_may_be_given_by_position() -> None:
    x, y = helpers.images(48)
    trainer = Trainer(helpers.functional())
    trainer.compile("sgd", helpers.loss())
    seen = Rates()
    trainer.fit(x, y, 24, 3, 0, [seen])
    assert len(seen.rates) == 6
    plain = helpers.functional()
    plain.compile("sgd", helpers.loss())
    plain.fit(x, y, 24, 3, 0)
    assert len(trainer.history.history["loss"]) == 3
    loss = trainer.evaluate(x, y, 24, 0)
    assert loss == pytest.approx(trainer.model.evaluate(x, y, 24, 0))
    assert trainer.predict(x, 24, 0).shape == (48, 4)


def test_steps_per_execution_come_from_the_compiled_model() -> None:
    model = helpers.functional()
    model.compile("sgd", helpers.loss(), steps_per_execution=5)
    trainer = Trainer(model)
    trainer.compile()
    assert trainer.steps_per_execution == 5


def test_the_recipes_rate_is_set_on_any_optimizer() -> None:
    for schedule in ("constant", "cosine"):
        recipe = Recipe().give(optimization={"learning_rate": 0.5, "schedule": schedule})
        trainer = Trainer(helpers.functional(), recipe)
        trainer.compile("adam", helpers.loss())
        assert float(trainer.optimizer.learning_rate) == 0.5


# How the caller makes the optimizer, without the recipe's numbers and with them.
OWN: dict[str, tuple[Any, Any]] = {
    "sgd": (
        lambda: keras.optimizers.SGD(0.1),
        lambda: keras.optimizers.SGD(0.1, momentum=0.6, weight_decay=0.2),
    ),
    "nesterov": (
        lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
        lambda: keras.optimizers.SGD(0.1, momentum=0.6, nesterov=True, weight_decay=0.2),
    ),
    "adamw": (
        lambda: keras.optimizers.AdamW(0.01),
        lambda: keras.optimizers.AdamW(0.01, beta_1=0.6, weight_decay=0.2),
    ),
    "scaled": (
        lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.RMSprop(0.01)),
        lambda: keras.optimizers.LossScaleOptimizer(
            keras.optimizers.RMSprop(0.01, momentum=0.6, weight_decay=0.2)
        ),
    ),
    "by name": (lambda: "sgd", lambda: keras.optimizers.SGD(momentum=0.6, weight_decay=0.2)),
}


def _ends_with(optimizer: Any, recipe: Recipe) -> list[Any]:
    """The weights after ten steps."""
    x, y = helpers.images()
    keras.utils.set_random_seed(1)
    layers = keras.layers
    model = keras.Sequential(
        [layers.Input((8, 8, 1)), layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(4)]
    )
    trainer = Trainer(model, recipe)
    trainer.compile(optimizer, helpers.loss())
    trainer.fit(x, y, batch_size=16, shuffle=False, verbose=0)
    return helpers.weights(model)


@pytest.mark.parametrize(
    ("name", "schedule"), [*((name, "constant") for name in OWN), ("nesterov", "one_cycle")]
)
def test_the_recipes_numbers_are_set_on_the_callers_optimizer(name: str, schedule: str) -> None:
    """Oracle: the same optimizer made with these numbers, and a recipe that has none."""
    without, made = OWN[name]
    plain = Recipe().give(optimization={"schedule": schedule})
    given, learned = {"momentum": 0.6}, {"weight_decay": 0.2}
    stated = plain.give(optimization=given).learn("descent", optimization=learned)
    found = _ends_with(without(), stated)
    assert helpers.difference(found, _ends_with(made(), plain)) == 0.0
    # A recipe that states neither leaves the optimizer its own.
    assert helpers.difference(found, _ends_with(without(), plain)) > 1e-3


def test_a_number_that_the_callers_optimizer_has_not_is_refused() -> None:
    momentum = Recipe().give(optimization={"momentum": 0.9})
    decay = Recipe().give(optimization={"weight_decay": 0.1})
    with pytest.raises(RecipeError, match="Adagrad has no momentum") as refused:
        Trainer(helpers.functional(), momentum).compile("adagrad", helpers.loss())
    assert refused.value.received == "momentum: 0.9"
    assert "momentum: null" in refused.value.required
    # Its slots are made when it is built: this one has none, and would fail in the step.
    used = keras.optimizers.SGD(0.1)
    used.build(helpers.functional().trainable_variables)
    with pytest.raises(RecipeError, match="SGD has been built without momentum"):
        Trainer(helpers.functional(), momentum).compile(used, helpers.loss())
    Trainer(helpers.functional(), decay).compile(used, helpers.loss())
    assert used.weight_decay == 0.1 and used.momentum == 0.0

    def one_for_all(variable: Any) -> Any:
        return used

    # It has the attribute, and hands the variables to others that know nothing of it.
    several = keras.optimizers.MultiOptimizer(one_for_all)
    with pytest.raises(RecipeError, match="MultiOptimizer has no weight decay"):
        Trainer(helpers.functional(), decay).compile(several, helpers.loss())


def test_momentum_that_a_recipe_cycles_may_be_the_recipes_own() -> None:
    """SGD has none by itself, and the recipe says which it begins with."""
    recipe = Recipe().give(
        optimization={"momentum": 0.9, "cycle_momentum": True, "schedule": "one_cycle"}
    )
    own = keras.optimizers.SGD(0.1)
    found = _ends_with(own, recipe)
    assert own.momentum == 0.9
    made = keras.optimizers.SGD(0.1, momentum=0.9)
    bare = recipe.give(optimization={"momentum": None})
    assert helpers.difference(found, _ends_with(made, bare)) == 0.0


def test_what_a_trainer_cannot_do_is_refused() -> None:
    task = helpers.problem().task
    smoothing = Recipe().give(regularization={"label_smoothing": 0.1})

    class Own(helpers.Subclassed):  # type: ignore[misc, unused-ignore]
        def compute_loss(self, *args: Any, **options: Any) -> Any:
            return super().compute_loss(*args, **options) * 2.0

    with pytest.raises(RecipeError, match="own `compute_loss`"):
        Trainer(Own(), smoothing, task=task)
    trainer = Trainer(helpers.functional(), smoothing, task=task)
    with pytest.raises(RecipeError, match="your own loss"):
        trainer.compile("adam", keras.losses.CategoricalHinge())
    for loss in (helpers.loss(), "sparse_categorical_crossentropy", None):
        Trainer(helpers.functional(), smoothing, task=task).compile("adam", loss)
    with pytest.raises(RecipeError, match="how often each class"):
        Trainer(helpers.functional(), Recipe().give(sampling={"class_weight": "balanced"}))
    with pytest.raises(RecipeError, match="does not stop early"):
        Trainer(helpers.functional(), Recipe().give(regularization={"early_stopping": "up"}))
    with pytest.raises(RecipeError, match="more micro-batches than samples"):
        Trainer(helpers.functional(), Recipe().give(compute={"batch_size": 4, "accumulate": 8}))


def test_early_stopping_restores_the_averaged_weights_it_judged() -> None:
    x, y = helpers.images()
    recipe = Recipe().give(regularization={"ema_decay": 0.9}, compute={"batch_size": 16})
    trainer = Trainer(helpers.functional(), recipe)
    trainer.compile(keras.optimizers.SGD(0.5), helpers.loss())
    judged: list[list[Any]] = []

    class Judge(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            judged.append(trainer.get_weights())

    # A figure that only worsens: the best weights are those of the first epoch.
    stopper = keras.callbacks.EarlyStopping(
        "worse", mode="min", patience=2, restore_best_weights=True
    )

    class Worse(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            logs["worse"] = float(epoch)

    trainer.fit(x, y, epochs=8, verbose=0, callbacks=[Worse(), Judge(), stopper])
    assert len(judged) == 3
    for want, found in zip(judged[0], trainer.get_weights(), strict=True):
        np.testing.assert_array_equal(found, want)
    moved = [np.abs(a - b).max() for a, b in zip(judged[0], judged[-1], strict=True)]
    assert max(moved) > 1e-3
