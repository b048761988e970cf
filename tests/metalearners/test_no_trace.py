"""Every meta-learner leaves everything as it was.

The check knows nothing of how that is done: it lists the variables itself, draws from every
global generator under the same seed with and without the study, and trains on from there.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from etude._fit import starting_recipe
from etude.budget import Budget, CostModel
from etude.recipe import Recipe
from etude.training.isolation import isolated
from etude.training.studio import Studio
from etude_metalearners import META_LEARNERS
from etude_metalearners._base import Planned

from ..training import helpers

# Long enough for every study, however slow the machine.
PLANNED = Planned(100_000, 10_000.0, CostModel(step=0.1, evaluation=0.1), timed=True)
Study = Callable[[Studio, Recipe], Any]


def learn(name: str) -> Study:
    def study(studio: Studio, recipe: Recipe) -> Any:
        return META_LEARNERS[name]().learn(studio, recipe, PLANNED)

    return study


def open_studio(policy: str | None = None) -> tuple[Studio, Recipe]:
    """A studio in the midst of a training: nothing that could be disturbed is still at zero."""
    problem = helpers.problem(helpers.sequential(), unlabeled=helpers.images(48, seed=3)[0], seed=0)
    recipe = starting_recipe(
        problem,
        Recipe().give(
            compute={"batch_size": 16},
            optimization={"momentum": 0.8},
            regularization={"ema_decay": 0.9},
            **({} if policy is None else {"augmentation": {"policy": policy}}),
        ),
    )
    studio = Studio(problem, recipe, budget=Budget(None), seed=5)
    studio.costs = PLANNED.costs
    studio.trainer.controls.total.assign(100.0)
    train(studio, 3)
    return studio, recipe


def train(studio: Studio, steps: int) -> Any:
    """Trains on with the studio's own order of samples."""
    data = studio.train.shuffled(studio.recipe.compute.batch_size, seed=studio.seed)
    return studio.trainer.fit(
        data, steps_per_epoch=steps, epochs=1, verbose=0, shuffle=False
    ).history["loss"]


def variables(studio: Studio) -> dict[str, Any]:
    """Copies of everything that has a value; the names say what kind it is."""
    trainer = studio.trainer
    groups = {
        "model": trainer.model.variables,
        "optimizer": trainer.optimizer.variables,
        "metrics": [v for metric in trainer.metrics for v in metric.variables],
        "controls": trainer.controls.variables,
        "average": trainer.average.shadows,
        "augmenter": () if trainer.augmenter is None else trainer.augmenter.variables,
    }
    values: dict[str, Any] = {
        f"{group}: {index} {variable.path}": np.array(keras.ops.convert_to_numpy(variable))
        for group, members in groups.items()
        for index, variable in enumerate(members)
    }
    values["stop_training"] = trainer.stop_training
    values["recipe"] = [studio.recipe.to_dict()]
    return values


def seed() -> None:
    """Sets every global generator somewhere in the midst of its sequence."""
    keras.utils.set_random_seed(7)
    tf.random.get_global_generator().reset_from_seed(7)
    draws()


def draws() -> dict[str, Any]:
    """The next draws of every global generator. They advance the generators."""
    return {
        "Python": random.random(),
        "NumPy": np.random.random(4),
        "Keras": np.array(keras.random.uniform((4,))),
        "TensorFlow": tf.random.get_global_generator().uniform((4,)).numpy(),
        "TensorFlow eager": tf.random.uniform((4,)).numpy(),
    }


def differences(study: Study, policy: str | None = None) -> set[str]:
    """The names of what is not after `study` what it was before."""
    studio, recipe = open_studio(policy)
    with isolated(studio.trainer):
        continued = train(studio, 4), variables(studio)
    given = recipe.to_dict()
    seed()
    expected = draws()
    seed()
    before = variables(studio)
    study(studio, recipe)
    drawn, after = draws(), variables(studio)
    wrong = unlike(expected, drawn) | unlike(before, after)
    if recipe.to_dict() != given:
        wrong.add("recipe")
    # Whatever is on neither list, such as a place in the data, shows in what follows.
    losses, end = train(studio, 4), variables(studio)
    if losses != continued[0] or unlike(continued[1], end):
        wrong.add("further training")
    return wrong


def unlike(first: dict[str, Any], second: dict[str, Any]) -> set[str]:
    """Names that only one has, or whose values differ in a single bit."""
    common = first.keys() & second.keys()
    return (first.keys() ^ second.keys()) | {
        name for name in common if not np.array_equal(first[name], second[name])
    }


# The race of optimizers traces a Trainer for each of them; the descent runs many trials.
LONG = dict.fromkeys(("optimizer", "augmentation", "descent", "unlabeled"), pytest.mark.slow)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=LONG.get(name, ())) for name in META_LEARNERS]
)
def test_learning_leaves_no_trace(name: str) -> None:
    assert differences(learn(name)) == set()


@pytest.mark.slow
def test_nor_does_it_where_images_are_augmented() -> None:
    assert differences(learn("learning_rate"), "standard_cifar") == set()
    studio, _ = open_studio("standard_cifar")
    assert any(np.any(v) for name, v in variables(studio).items() if name.startswith("augmenter"))


def test_the_check_looks_at_every_kind_of_state() -> None:
    studio, _ = open_studio()
    values = variables(studio)
    for part in ("moving_mean", "seed_generator", "kernel", "momentum", "peak", "total_steps"):
        assert any(part in name for name in values), part
    # What is at zero could not be seen to be put back to zero wrongly.
    for group in ("model", "optimizer", "metrics", "controls", "average"):
        assert any(np.any(value) for name, value in values.items() if name.startswith(group))


def _train(studio: Studio, recipe: Recipe) -> None:
    train(studio, 2)


def _forget(studio: Studio, recipe: Recipe) -> None:
    studio.trainer.controls.peak.assign(0.5)
    studio.trainer.stop_training = True
    studio.recipe = recipe.learn("test", optimization={"momentum_low": 0.5})


def _draw(studio: Studio, recipe: Recipe) -> None:
    draws()


LEAKS: dict[str, tuple[Study, set[str]]] = {
    "training outside isolation": (
        _train,
        {"model", "optimizer", "metrics", "controls", "average", "further training"},
    ),
    "settings": (_forget, {"controls", "stop_training", "recipe", "further training"}),
    "generators": (_draw, {"Python", "NumPy", "Keras", "TensorFlow", "TensorFlow eager"}),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_a_trace_is_seen(leak: str) -> None:
    """Each kind of trace, left on purpose, is found, and no other."""
    study, expected = LEAKS[leak]
    assert {name.split(":")[0] for name in differences(study)} == expected
