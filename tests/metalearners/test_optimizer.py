"""The race of optimizers: who wins, who does not, and who may not run."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import pytest

from etude._fit import starting_recipe
from etude.budget import Budget, CostModel
from etude.recipe import Recipe
from etude.training.studio import Studio, Trial
from etude_metalearners import Optimizer, optimizer, range_test
from etude_metalearners._base import Planned
from etude_metalearners.learning_rate import RangeTest

from ..training import helpers

LEARNER = Optimizer()
COSTS = CostModel(step=0.1, evaluation=0.3, compile=2.0)
LONG = Planned(100_000, 1_000.0, COSTS, timed=True)


def open_studio(model: Any = None, stated: Recipe | None = None) -> Studio:
    problem = helpers.problem(model)
    studio = Studio(problem, starting_recipe(problem, stated or Recipe()), budget=Budget(None))
    studio.costs = COSTS
    return studio


def race(
    monkeypatch: pytest.MonkeyPatch,
    studio: Studio,
    first: dict[str, float],
    second: dict[str, float] | None = None,
) -> list[tuple[str, int]]:
    """Lets each optimizer's validation loss be what it is said to be, with noise of 0.01."""
    ran: list[tuple[str, int]] = []

    def trial(steps: int, *, order: int = 0, **options: Any) -> Trial:
        name = studio.recipe.optimization.optimizer
        ran.append((name, order))
        rng = np.random.default_rng([len(name), order])
        mean = (second or first)[name] if order else first[name]
        return Trial(np.ones(steps), mean + 0.01 * rng.normal(size=32), 0.0)

    found = range_test.Suggestion(0.125, "said", 0.1, 0.25, None, True)
    monkeypatch.setattr(studio, "trial", trial)
    monkeypatch.setattr(RangeTest, "run", lambda *args: RangeTest([], [], found, 60))
    return ran


FIRST = {"adam": 1.0, "nesterov": 0.9, "adamw": 0.8, "lamb": 1.1, "lars": 1.2}


def test_the_best_wins_with_its_rate_after_a_second_heat(monkeypatch: pytest.MonkeyPatch) -> None:
    studio = open_studio()
    ran = race(monkeypatch, studio, FIRST)
    finding = LEARNER.learn(studio, studio.recipe, LONG)
    assert finding.changes == {"optimizer": "adamw", "weight_decay": 5e-2, "learning_rate": 0.125}
    assert [row["optimizer"] for row in finding.evidence["race"]] == list(FIRST)
    assert ran[-2:] == [("adamw", 1), ("adam", 1)]
    assert "adamw is 0.201 better than adam" in finding.why
    assert finding.evidence["batch_size"] == studio.recipe.compute.batch_size


def test_who_does_not_win_again_does_not_win(monkeypatch: pytest.MonkeyPatch) -> None:
    studio = open_studio()
    race(monkeypatch, studio, FIRST, {**FIRST, "adamw": 1.05})
    finding = LEARNER.learn(studio, studio.recipe, LONG)
    assert finding.changes == {"learning_rate": 0.125}
    assert "not better than adam again" in finding.why


def test_ties_stay_with_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    studio = open_studio()
    ran = race(monkeypatch, studio, dict.fromkeys(FIRST, 1.0) | {"adamw": 0.999})
    finding = LEARNER.learn(studio, studio.recipe, LONG)
    assert "optimizer" not in finding.changes
    assert not any(order for _, order in ran)  # no second heat


def test_a_challenger_that_diverges_loses(monkeypatch: pytest.MonkeyPatch) -> None:
    studio = open_studio()
    race(monkeypatch, studio, dict.fromkeys(FIRST, 1.0) | {"adamw": float("nan")})
    assert "optimizer" not in LEARNER.learn(studio, studio.recipe, LONG).changes


def test_what_is_in_the_race_and_for_how_long_is_what_there_is_time_for() -> None:
    studio = open_studio()
    for allowance in (10_000.0, 500.0, 230.0, 150.0):
        planned = dataclasses.replace(LONG, allowance=allowance)
        count, steps = LEARNER._race(studio, studio.recipe, planned)
        cost = LEARNER.cost(studio, studio.recipe, planned)
        assert optimizer.LEAST_STEPS <= steps <= optimizer.MOST_STEPS
        fits = cost.seconds <= LEARNER.allowance(planned)
        assert fits == (LEARNER.obstacle(studio, studio.recipe, planned) is None)
        assert fits == (allowance > 150.0)
        assert 2 <= count <= 4


def test_it_is_not_ours_to_choose_where_someone_has_chosen() -> None:
    model = helpers.sequential()
    model.compile(keras.optimizers.SGD(0.1), helpers.loss())
    studio = open_studio(model)
    assert "compiled with an optimizer" in (LEARNER.obstacle(studio, studio.recipe, LONG) or "")
    studio = open_studio()
    given = studio.recipe.give(optimization={"optimizer": "adam"})
    assert "optimizer is fixed by you" in (LEARNER.obstacle(studio, given, LONG) or "")
    rate = studio.recipe.give(optimization={"learning_rate": 0.1})
    assert "belongs to the optimizer" in (LEARNER.obstacle(studio, rate, LONG) or "")


@pytest.mark.slow
def test_in_a_true_race_everyone_learns_and_sgd_without_a_rate_to_speak_of_loses() -> None:
    """All five learn; against SGD that one cannot move (its momentum is 0.999) they win."""
    studio = open_studio(stated=Recipe().give(compute={"batch_size": 16}))
    finding = LEARNER.learn(studio, studio.recipe, LONG)
    rows = {row["optimizer"]: row for row in finding.evidence["race"]}
    assert set(rows) == {"adam", "nesterov", "adamw", "lamb", "lars"}
    for row in rows.values():
        assert np.mean(row["losses"][-10:]) < 0.5 * np.mean(row["losses"][:10]), row["optimizer"]
    recipe = studio.recipe.learn("x", optimization={"optimizer": "sgd", "momentum": 0.999})
    studio.build(recipe)
    assert LEARNER.learn(studio, recipe, LONG).changes["optimizer"] != "sgd"
