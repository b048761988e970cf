"""Coordinate descent on a bowl whose bottom is known, and what it leaves alone."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from etude._fit import starting_recipe
from etude.budget import Budget, CostModel
from etude.recipe import Recipe
from etude.training.studio import Studio, Trial
from etude_metalearners import Descent, descent
from etude_metalearners._base import Planned

from ..training import helpers

LEARNER = Descent()
LONG = Planned(100_000, 1_000.0, CostModel(step=0.01, evaluation=0.3), timed=True)


def open_studio(optimizer: str = "adamw", **optimization: Any) -> tuple[Studio, Recipe]:
    problem = helpers.problem()
    stated = Recipe().give(optimization={"optimizer": optimizer})
    recipe = starting_recipe(problem, stated).learn(
        "test", optimization={"learning_rate": 0.01, **optimization}
    )
    studio = Studio(problem, recipe, budget=Budget(None))
    studio.costs = LONG.costs
    return studio, recipe


def bowl(values: dict[str, float]) -> float:
    """Least at a weight decay of 0.016 = 0.004 · 4 and a momentum of 0.95."""
    return (
        math.log(values["weight_decay"] / 0.016, 4) ** 2
        + math.log((1 - values["momentum"]) / 0.05, 2) ** 2
    )


def test_it_goes_down_to_the_bottom_and_stays_there() -> None:
    studio, recipe = open_studio()
    noise = np.random.default_rng(0).normal(size=64)
    start = descent.values(studio, recipe)
    assert start == {
        "learning_rate": 0.01,
        "momentum": 0.9,
        "weight_decay": 0.004,
        "batch_norm_momentum": 0.9,
    }
    best, trials = descent.descend(
        start, descent.axes(studio, recipe), lambda v: bowl(v) + noise, lambda done: False
    )
    assert best["momentum"] == pytest.approx(0.95)
    assert best["weight_decay"] == pytest.approx(0.016)
    assert best["learning_rate"] == 0.01  # Adam's stays at another momentum
    assert [t["score"] for t in trials if t["kept"]] == sorted(
        (t["score"] for t in trials if t["kept"]), reverse=True
    )


def test_steps_that_chance_may_have_made_are_not_kept() -> None:
    studio, recipe = open_studio()
    rng = np.random.default_rng(0)
    start = descent.values(studio, recipe)
    best, trials = descent.descend(
        start,
        descent.axes(studio, recipe),
        lambda v: 0.001 * bowl(v) + rng.normal(size=64),
        lambda done: False,
    )
    assert best == start and len(trials) > 5


def test_no_more_trials_than_there_is_time_for() -> None:
    studio, recipe = open_studio()
    _, trials = descent.descend(
        descent.values(studio, recipe),
        descent.axes(studio, recipe),
        lambda v: np.array([bowl(v), bowl(v)]),
        lambda done: done >= 3,
    )
    assert len(trials) == 3


def test_sgd_moves_along_its_flat_directions() -> None:
    studio, recipe = open_studio("nesterov", weight_decay=0.01)
    steps = dict(descent.axes(studio, recipe))
    start = descent.values(studio, recipe)
    moved = steps["momentum"](start, 1.0)
    assert moved is not None
    assert moved["momentum"] == pytest.approx(0.95)
    for flat in (lambda v: v["learning_rate"] / (1 - v["momentum"]),
                 lambda v: v["learning_rate"] * v["weight_decay"]):  # fmt: skip
        assert flat(moved) == pytest.approx(flat(start))
    faster = steps["learning_rate"](start, 1.0)
    assert faster is not None and faster["learning_rate"] == 0.02
    assert faster["weight_decay"] == pytest.approx(0.005)
    assert steps["weight_decay"](start, -1.0) == {**start, "weight_decay": 0.0025}
    assert steps["momentum"](start, -5.0) is None  # below 0


def test_what_is_given_is_no_axis() -> None:
    studio, recipe = open_studio()
    names = [name for name, _ in descent.axes(studio, recipe)]
    assert names == ["batch_norm_momentum", "momentum", "weight_decay", "learning_rate"]
    kept = recipe.give(optimization={"weight_decay": 0.01, "batch_norm_momentum": 0.9})
    assert [name for name, _ in descent.axes(studio, kept)] == ["momentum"]
    adam, plain = open_studio("adam")
    assert [name for name, _ in descent.axes(adam, plain)] == ["batch_norm_momentum", "momentum"]


@pytest.mark.parametrize(("again", "kept"), [(-0.5, True), (0.5, False)])
def test_what_it_comes_to_must_be_better_again(
    again: float, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    studio, recipe = open_studio()

    def trial(steps: int, *, order: int = 0, **options: Any) -> Trial:
        value = studio.recipe.optimization.weight_decay
        better = value is not None and value > 0.01
        mean = 1.0 + (again if order else -0.5) * better
        return Trial(np.ones(steps), mean + 0.001 * np.arange(8), 0.0)

    monkeypatch.setattr(studio, "trial", trial)
    finding = LEARNER.learn(studio, recipe, LONG)
    assert (finding.changes.get("weight_decay") == pytest.approx(0.016)) == kept
    assert bool(finding.changes) == kept
    assert ("not better again" in finding.why) != kept


def test_where_there_is_nothing_to_learn_it_says_why() -> None:
    studio, recipe = open_studio()
    assert LEARNER.obstacle(studio, recipe, LONG) is None
    cycled = recipe.learn("x", optimization={"cycle_momentum": True})
    assert "moves momentum" in (LEARNER.obstacle(studio, cycled, LONG) or "")
    without = starting_recipe(studio.problem, Recipe())
    assert "no learning rate" in (LEARNER.obstacle(studio, without, LONG) or "")
    short = dataclasses.replace(LONG, allowance=1.0)
    assert "s are left for it" in (LEARNER.obstacle(studio, recipe, short) or "")
