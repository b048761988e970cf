"""Trials by other recipes: one trace where numbers differ, everything put back."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from etude._fit import starting_recipe
from etude.budget import Budget
from etude.recipe import Recipe
from etude.training import memory
from etude.training.studio import Studio
from etude.training.trainer import Trainer

from . import helpers


def open_studio(
    model: keras.Model | None = None, stated: Recipe | None = None, **options: Any
) -> Studio:
    problem = helpers.problem(model, **options)
    recipe = starting_recipe(problem, (stated or Recipe()).give(compute={"batch_size": 16}))
    return Studio(problem, recipe, budget=Budget(None), seed=3)


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for every time that a step is traced: only then is it Python that runs."""
    found: list[int] = []
    step = Trainer.train_step

    def counted(self: Trainer, data: Any) -> Any:
        found.append(1)
        return step(self, data)

    monkeypatch.setattr(Trainer, "train_step", counted)
    return found


DECAYED = Recipe().give(optimization={"optimizer": "adamw"})
NUMBERS: dict[str, dict[str, Any]] = {
    "momentum": {"optimization": {"momentum": 0.5}},
    "weight decay": {"optimization": {"weight_decay": 0.3}},
    "statistics": {"optimization": {"batch_norm_momentum": 0.5}},
    "rate": {"optimization": {"learning_rate": 0.3}},
    "batch": {"compute": {"batch_size": 24}},
}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_takes_effect_without_a_trace_and_is_put_back(
    name: str, traces: list[int]
) -> None:
    """Oracle: a studio that was made with that number from the start."""
    studio = open_studio(stated=DECAYED)
    plain = studio.trial(8, score_samples=24)
    there, made = len(traces), studio.trainer
    changed = studio.recipe.give(**NUMBERS[name])
    with studio.at(changed):
        moved = studio.trial(8, score_samples=24)
        assert studio.trainer is made
    assert len(traces) == there > 0
    again = studio.trial(8, score_samples=24)
    np.testing.assert_array_equal(again.losses, plain.losses)
    np.testing.assert_array_equal(again.scores, plain.scores)
    other = Studio(helpers.problem(), changed, budget=Budget(None), seed=3)
    fresh = other.trial(8, score_samples=24)
    np.testing.assert_allclose(moved.losses, fresh.losses, rtol=2e-4)
    np.testing.assert_allclose(moved.scores, fresh.scores, rtol=2e-4)
    assert abs(moved.score - plain.score) > 1e-4


@pytest.mark.parametrize("own", [None, 0.9])
def test_statistics_of_a_short_trial_hurry_as_its_steps_do(own: float | None) -> None:
    """Oracle: the momentum that 5 times as few steps ask for, 1 - 5 · 0.1, stated outright."""
    stated = {} if own is None else {"batch_norm_momentum": own}  # the layers' own is 0.9, too
    studio = open_studio(stated=Recipe().give(optimization=stated))
    plain = studio.trial(8, score_samples=24)
    hurried = studio.trial(8, score_samples=24, run_steps=40)
    beyond = studio.trial(8, score_samples=24, run_steps=4000)
    longer = studio.trial(8, score_samples=24, run_steps=4)
    again = studio.trial(8, score_samples=24)
    with studio.at(studio.recipe.give(optimization={"batch_norm_momentum": 0.5})):
        expected = studio.trial(8, score_samples=24)
    np.testing.assert_allclose(hurried.scores, expected.scores, rtol=2e-4)
    np.testing.assert_array_equal(beyond.scores, hurried.scores)  # no faster than half a batch
    for same in (longer, again):
        np.testing.assert_array_equal(same.scores, plain.scores)
    assert abs(hurried.score - plain.score) > 1e-3


def test_numbers_that_are_set_show_on_the_optimizer_and_go_again() -> None:
    studio = open_studio(stated=DECAYED)
    with studio.at(studio.recipe.learn("x", optimization={"momentum": 0.5, "weight_decay": 0.3})):
        assert studio.trainer.optimizer.beta_1 == 0.5
        assert studio.trainer.optimizer.weight_decay == 0.3
    assert studio.trainer.optimizer.beta_1 == 0.9
    assert studio.trainer.optimizer.weight_decay == 0.004


def test_another_optimizer_has_a_trainer_of_its_own_and_the_first_comes_back() -> None:
    model = helpers.sequential()
    studio = open_studio(model)
    studio.warm()
    first, before = studio.trainer, helpers.weights(model)
    other = studio.recipe.learn("x", optimization={"optimizer": "nesterov"})
    with studio.at(other):
        second = studio.trainer
        assert second is not first
        assert isinstance(model.optimizer, keras.optimizers.SGD)
        assert math.isfinite(studio.trial(4).losses[-1])
    assert studio.trainer is first
    assert model.optimizer is first.optimizer
    assert helpers.difference(before, helpers.weights(model)) == 0.0
    with studio.at(other):
        assert studio.trainer is second  # kept, in case that it is chosen
    studio.forget_others()
    with studio.at(other):
        assert studio.trainer is not second


def test_scores_are_the_losses_of_small_batches() -> None:
    model = helpers.sequential()
    studio = open_studio(model, count=800)
    held = studio.validation.arrays(10**9)
    assert held is not None and len(held) == 120
    stated = {"learning_rate": 0.0, "batch_norm_momentum": 1.0}  # nothing moves
    with studio.at(studio.recipe.give(optimization=stated)):
        found = studio.trial(1, score_samples=1000).scores
    size, batches = studio.score_batches(1000)
    assert len(found) == batches == 120 // 7 and size == 7
    for index, mean in enumerate(found):
        part = slice(index * size, (index + 1) * size)
        logits = model(held.images[part].astype("float32"), training=False)
        expected = helpers.loss()(held.labels[part], logits) + sum(model.losses)
        assert mean == pytest.approx(float(expected), rel=1e-4)
    with studio.at(studio.recipe.give(optimization=stated)):
        few = studio.trial(1, score_samples=40).scores
    size, batches = studio.score_batches(40)
    every = 120 // (size * batches)
    assert size == 2 and batches == 20 and every == 3
    x, y = held.images[: size * every : every], held.labels[: size * every : every]
    logits = model(x.astype("float32"), training=False)
    assert few[0] == pytest.approx(float(helpers.loss()(y, logits) + sum(model.losses)), rel=1e-4)


@pytest.mark.parametrize("multiple", [2, 64, 128])
def test_several_steps_per_execution_are_timed_and_scored(multiple: int) -> None:
    studio = open_studio(stated=Recipe().give(compute={"steps_per_execution": multiple}), count=800)
    assert studio.measure(0.5).step > 0.0
    trial = studio.trial(4, score_samples=120)
    assert len(trial.losses) == max(4, multiple)
    _, batches = studio.score_batches(120)
    assert batches % multiple == 0 or batches == 1
    assert len(trial.scores) == max(1, batches // multiple)
    assert np.all(np.isfinite(trial.scores))


def test_an_owners_optimizer_with_a_loss_scale_is_built_once() -> None:
    model = helpers.sequential()
    own = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1, momentum=0.9))
    model.compile(own, helpers.loss())
    studio = open_studio(model)
    count = len(own.variables)
    with studio.at(studio.recipe.give(compute={"steps_per_execution": 2})):
        studio.trial(4)
    assert len(own.variables) == count
    assert np.isfinite(studio.trial(4).losses).all()


def test_another_order_of_samples_is_another_order_for_everyone() -> None:
    studio = open_studio()
    one, other = studio.trial(6), studio.trial(6, order=1)
    assert not np.allclose(one.losses, other.losses)
    np.testing.assert_array_equal(other.losses, studio.trial(6, order=1).losses)


def test_a_size_that_may_not_fit_is_not_tried(
    monkeypatch: pytest.MonkeyPatch, traces: list[int]
) -> None:
    studio = open_studio()
    studio.measure()
    there = len(traces)
    asked: list[float] = []

    def refuses(before: int, factor: float) -> bool:
        asked.append(factor)
        return factor <= 2.0

    monkeypatch.setattr(memory, "fits", refuses)
    assert studio.step_seconds(16) == studio.costs.step
    assert studio.step_seconds(8) is not None
    assert asked == []  # a smaller one than one that ran fits
    assert studio.step_seconds(32) is not None
    assert studio.step_seconds(128) is None
    assert asked == [2.0, 4.0]
    assert len(traces) == there  # one trace serves every size


def test_a_size_that_the_device_refuses_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    studio = open_studio()
    studio.measure()

    def fails(*args: Any, **options: Any) -> Any:
        raise tf.errors.ResourceExhaustedError(None, None, "OOM")

    monkeypatch.setattr(studio, "_timed_steps", fails)
    assert studio.step_seconds(64) is None
