"""The learning rate's study: what it finds, what it leaves alone, and what it costs."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest

import etude
from etude._fit import starting_recipe
from etude.budget import Budget, CostModel
from etude.data import fashion_mnist
from etude.findings import Cost, Finding
from etude.problem import Problem
from etude.recipe import Recipe
from etude.training.studio import Studio, Trial
from etude_metalearners import LearningRate, learning_rate
from etude_metalearners._base import STUDY_SHARE, Planned
from etude_metalearners.learning_rate import CONFIRM_STEPS, LEAST_STEPS, MOST_STEPS

LEARNER = LearningRate()
RUN = 800  # steps of the run that is planned
LONG = 1400  # of one that is long enough for its rate to be confirmed


@functools.cache
def clothes() -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """1,600 images to train and 400 to validate, averaged to 7 × 7."""
    (x, y), _ = fashion_mnist.load()
    small = x[:2000].reshape(2000, 7, 4, 7, 4, 1).mean((2, 4)).astype("uint8")
    return (small[:1600], y[:1600]), (small[1600:], y[1600:2000])


def network(seed: int = 0) -> keras.Model:
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input((7, 7, 1)),
            layers.Rescaling(1 / 255),
            layers.Flatten(),
            layers.Dense(32, activation="relu"),
            layers.Dense(10),
        ]
    )


def open_studio(model: Any = None, stated: Recipe | None = None, data: Any = None) -> Studio:
    train, validation = data or clothes()
    problem = Problem.inspect(model or network(), train, validation)
    recipe = starting_recipe(problem, stated or Recipe())
    studio = Studio(problem, recipe, budget=Budget(None), seed=1)
    return studio


def planned(steps: int = RUN) -> Planned:
    """A run in which a step takes a second, so that seconds are steps."""
    return Planned(steps, STUDY_SHARE * steps, CostModel(step=1.0))


def learn(studio: Studio, steps: int = RUN) -> Finding:
    assert LEARNER.obstacle(studio, studio.recipe, planned(steps)) is None
    return LEARNER.learn(studio, studio.recipe, planned(steps))


def found_by(tuning: Any) -> Finding:
    """The finding of this study among all."""
    (finding,) = (f for f in tuning.findings if f.learner == "learning_rate")
    return finding


def loss() -> keras.losses.Loss:
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


class Scaled(keras.losses.Loss):  # type: ignore[misc, unused-ignore]
    """Cross-entropy times a factor: under SGD the best rate falls by that factor."""

    def __init__(self, factor: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.factor = factor

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return self.factor * keras.losses.sparse_categorical_crossentropy(
            y_true, y_pred, from_logits=True
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": self.factor}


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Counts every training step that Keras does, whoever asks for it."""
    done: list[int] = []
    fit = keras.Model.fit

    class Count(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            done.append(batch)

    def counting(self: Any, *args: Any, **options: Any) -> Any:
        options["callbacks"] = [*(options.get("callbacks") or ()), Count()]
        return fit(self, *args, **options)

    monkeypatch.setattr(keras.Model, "fit", counting)
    yield done


# -- what it finds ---------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "nesterov", "sgd"])
def test_the_found_rate_trains_nearly_as_well_as_the_best(optimizer: str) -> None:
    """Oracle: annealed runs at seven rates, half a decade apart, scored on validation data.

    Ten times the found rate and a tenth of it both miss the bound that the found one meets.
    """
    given = {"optimization": {"optimizer": optimizer}, "compute": {"steps_per_execution": 20}}
    studio = open_studio(stated=Recipe().give(**given))
    found = learn(studio).changes["learning_rate"]

    def final(rate: float) -> float:
        trial = studio.trial(RUN, rate=rate, score_samples=400)
        return trial.score if math.isfinite(trial.score) else math.inf

    middle = {"adam": -2.0, "nesterov": -1.0, "sgd": 0.0}[optimizer]
    best = min(final(10.0**power) for power in middle + 0.5 * np.arange(-3, 4))
    assert final(found) <= 1.05 * best
    assert final(found / 10.0) > 1.1 * best
    assert final(found * 10.0) > 1.1 * best


def test_the_same_study_finds_the_same() -> None:
    studio = open_studio()
    one, other = learn(studio), learn(studio)
    assert one.changes == other.changes and one.evidence == other.evidence
    assert one.key == other.key


def test_the_finding_is_applied_and_marked() -> None:
    tuning = etude.tune(network(), *clothes(), epochs=8, seed=1, verbose=0)
    finding = found_by(tuning)
    assert set(finding.changes) == {"learning_rate"}
    rate = tuning.recipe.optimization.learning_rate
    assert rate == finding.changes["learning_rate"]
    assert str(tuning.recipe.mark("optimization.learning_rate")) == "learned by learning_rate"
    studio = open_studio()
    assert finding.apply(studio.recipe).optimization.learning_rate == rate
    studio.build(finding.apply(studio.recipe))
    assert float(studio.trainer.controls.peak) == pytest.approx(rate)


def test_a_range_that_is_too_high_is_tested_again_below(counted: list[int]) -> None:
    """A loss 1,000 times as large asks SGD for a rate 1,000 times as small: out of range."""
    found = {}
    for factor in (1.0, 1000.0):
        model = network()
        model.compile(keras.optimizers.SGD(0.01, momentum=0.9), Scaled(factor))
        counted.clear()
        finding = learn(open_studio(model), 2 * RUN)
        assert finding.true.steps == len(counted) <= STUDY_SHARE * 2 * RUN
        assert len(finding.evidence["tests"]) == (1 if factor == 1.0 else 2)
        found[factor] = finding.changes["learning_rate"]
    assert found[1.0] / found[1000.0] == pytest.approx(1000.0, rel=0.7)


def test_where_nothing_can_be_learned_the_rate_stays() -> None:
    """One image for all classes alike, outputs 0: the loss is ln 10 and can only rise."""
    x, y = np.repeat(clothes()[0][0][:1], 800, axis=0), np.arange(800) % 10
    model = network()
    model.layers[-1].kernel.assign(np.zeros((32, 10)))
    studio = open_studio(model, data=((x, y), (x, y)))
    finding = learn(studio)
    assert finding.changes == {} and "stays as it was" in finding.why
    assert finding.apply(studio.recipe) == studio.recipe


def test_a_rate_of_the_race_is_carried_along_its_flat_direction_and_confirmed() -> None:
    """∝ √N for Adam, ∝ N for SGD; no range test is made."""
    for optimizer, factor in (("adam", 2.0), ("nesterov", 4.0)):
        given = {"optimization": {"optimizer": optimizer}}
        studio = open_studio(stated=Recipe().give(**given))
        own = studio.recipe.compute.batch_size
        race = Finding(
            "optimizer", (), "optimization", {"learning_rate": 0.01}, "", {"batch_size": own / 4},
            Cost(), Cost(), "",
        )  # fmt: skip
        run = Planned(LONG, STUDY_SHARE * LONG, CostModel(step=1.0), findings=(race,))
        finding = LEARNER.learn(studio, studio.recipe, run)
        assert finding.changes["learning_rate"] == pytest.approx(0.01 * factor)
        assert "tests" not in finding.evidence
        assert finding.evidence["confirmed"][0]["falls"]
        assert finding.true.steps == LEARNER.cost(studio, studio.recipe, run).steps


def test_a_rate_at_which_the_loss_rises_is_halved_until_it_falls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    studio = open_studio()
    seen: list[float] = []

    def trial(steps: int, *, rate: float, **options: Any) -> Trial:
        seen.append(rate)
        rises = rate > limit
        return Trial(np.linspace(1.0, 2.0 if rises else 0.5, steps), np.zeros(0), 0.0)

    monkeypatch.setattr(studio, "trial", trial)
    for limit, expected in ((1.0, [1.0]), (0.3, [1.0, 0.5, 0.25]), (0.0, [1.0, 0.5, 0.25])):
        seen.clear()
        runs = learning_rate._confirmed(studio, 1.0, 40, 3)
        assert seen == expected
        assert runs[-1]["falls"] == (limit > 0.0)


def test_what_short_runs_said_is_told_as_it_was() -> None:
    falls, rises = ({"steps": 40, "rate": 0.25, "falls": there} for there in (True, False))
    told = learning_rate._told
    assert told([falls], taken=True) == ". A run of 40 steps confirms it"
    assert told([rises, falls], taken=True).endswith("confirms it, halved once")
    assert told([rises, rises, falls], taken=True).endswith("confirms it, halved twice")
    assert told([rises] * 3, taken=True).endswith("rises: the least of these, 0.25, is taken")
    assert told([rises], taken=False).endswith("at it the loss rises: the rate stays as it was")


# -- what it leaves alone --------------------------------------------------------------


def test_a_given_rate_is_not_studied(counted: list[int]) -> None:
    recipe = Recipe().give(optimization={"learning_rate": 0.123})
    studio = open_studio(stated=recipe)
    why = LEARNER.obstacle(studio, studio.recipe, planned())
    assert why is not None and "fixed by you" in why
    tuning = etude.tune(network(), *clothes(), recipe=recipe, epochs=8, verbose=0)
    assert tuning.recipe.optimization.learning_rate == 0.123
    assert tuning.recipe.is_given("optimization.learning_rate")
    assert found_by(tuning).changes == {} and found_by(tuning).true.steps == 0
    # And even a finding that there is changes no given value.
    finding = learn(open_studio())
    assert finding.apply(studio.recipe).optimization.learning_rate == 0.123


def test_a_schedule_of_the_optimizers_own_is_not_studied() -> None:
    model = network()
    own = keras.optimizers.schedules.CosineDecay(0.1, 100)
    model.compile(keras.optimizers.SGD(own), loss())
    studio = open_studio(model)
    why = LEARNER.obstacle(studio, studio.recipe, planned())
    assert why is not None and "schedule of its own" in why


# -- what it costs ---------------------------------------------------------------------


def test_steps_are_counted_truly(counted: list[int]) -> None:
    """Also where Keras does several steps a call, which it cannot cut short."""
    studio = open_studio()
    finding = learn(studio)
    predicted = LEARNER.cost(studio, studio.recipe, planned()).steps
    assert finding.true.steps == len(counted) == predicted == MOST_STEPS
    counted.clear()
    finding = learn(studio, LONG)
    predicted = LEARNER.cost(studio, studio.recipe, planned(LONG)).steps
    assert finding.true.steps == len(counted) == predicted == MOST_STEPS + CONFIRM_STEPS
    assert finding.true.seconds > 0.0
    several = open_studio(stated=Recipe().give(compute={"steps_per_execution": 8}))
    finding = learn(several)
    assert finding.true.steps == LEARNER.cost(several, several.recipe, planned()).steps == 64
    assert len(finding.evidence["tests"][0]["losses"]) == 64


@pytest.mark.parametrize("steps", [0, 100, 266, 267, 500, 700, 800, 10_000])
def test_a_study_pays_or_says_that_it_does_not(steps: int) -> None:
    studio = _shared()
    cost = LEARNER.cost(studio, studio.recipe, planned(steps)).steps
    why = LEARNER.obstacle(studio, studio.recipe, planned(steps))
    assert LEAST_STEPS <= cost <= MOST_STEPS + CONFIRM_STEPS
    assert (why is None) == (cost <= 0.15 * steps) == (steps >= 267)
    if why is not None:
        assert f"{cost:.1f} s" in why


@functools.cache
def _shared() -> Studio:
    return open_studio()
