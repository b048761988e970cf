"""Whether images without labels help: by made-up trials, and in a real study."""

from __future__ import annotations

import contextlib
from typing import Any

import keras
import numpy as np
import pytest

from etude.budget import Budget, CostModel
from etude.findings import Finding
from etude.problem import Problem
from etude.recipe import Recipe
from etude.training.studio import Pace, Studio
from etude_metalearners import Unlabeled
from etude_metalearners._base import Planned

from ..training import helpers
from ..training.test_unsupervised_batch_norm import network

GIVEN = Recipe().give(compute={"batch_size": 16}, optimization={"learning_rate": 0.01})
COSTS = CostModel(step=0.1, evaluation=0.3, compile=2.0)
LONG = Planned(10_000, 1_000.0, COSTS, timed=True)
EPOCHS = Planned(10_000, 1_000.0, COSTS, timed=False)


def open_studio(
    stated: Recipe = GIVEN, *, count: int = 400, unlabeled: bool = True, model: Any = None
) -> Studio:
    extra = helpers.images(100, seed=7)[0] if unlabeled else None
    problem = Problem.inspect(model or network(), helpers.images(count), None, extra, seed=0)
    return Studio(problem, stated, budget=Budget(None))


def studied(
    monkeypatch: pytest.MonkeyPatch,
    *,
    gains: dict[tuple[str, int], float],
    costs: dict[str, float] | None = None,
    planned: Planned = LONG,
) -> tuple[Finding, list[tuple[str, int, int]]]:
    """What is found where trials and paces are what they are said to be."""
    studio = open_studio()
    ran: list[tuple[str, int, int]] = []
    now = ["labelled"]

    @contextlib.contextmanager
    def at(recipe: Recipe) -> Any:
        now.append(recipe.semisupervised.batch_norm)
        yield
        now.pop()

    def attempt(recipe: Recipe, steps: int, *, samples: int, order: int) -> Any:
        form = recipe.semisupervised.batch_norm
        ran.append((form, steps, order))
        rng = np.random.default_rng([order, len(form)])
        return 1.0 - gains.get((form, order), 0.0) + 0.01 * rng.normal(size=200)

    def pace(steps: int) -> Pace:
        return Pace(0.1 * (costs or {}).get(now[-1], 1.0), np.zeros(steps))

    monkeypatch.setattr(studio, "at", at)
    monkeypatch.setattr(studio, "attempt", attempt)
    monkeypatch.setattr(studio, "pace", pace)
    return Unlabeled().learn(studio, GIVEN, planned), ran


def test_the_better_form_is_adopted_where_it_is_better_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    both = {
        ("joint", 0): 0.1,
        ("joint", 1): 0.1,
        ("straight_through", 0): 0.2,
        ("straight_through", 1): 0.2,
    }
    finding, ran = studied(monkeypatch, gains=both, costs={"joint": 2.0, "straight_through": 1.5})
    assert finding.changes == {"batch_norm": "straight_through"}
    steps = ran[0][1]
    assert ran == [
        ("labelled", steps, 0),
        ("joint", round(steps / 2.0), 0),
        ("straight_through", round(steps / 1.5), 0),
        ("labelled", steps, 1),
        ("straight_through", round(steps / 1.5), 1),
    ]
    assert "1.50 of one without" in finding.why


@pytest.mark.parametrize(
    ("gains", "trials", "why"),
    [
        ({}, 3, "differs by"),
        ({("joint", 0): -0.2, ("straight_through", 0): -0.1}, 3, "straight through"),
        ({("joint", 0): 0.2, ("joint", 1): -0.2}, 5, "not with another order"),
    ],
)
def test_what_does_not_help_stays_off(
    monkeypatch: pytest.MonkeyPatch, gains: Any, trials: int, why: str
) -> None:
    finding, ran = studied(monkeypatch, gains=gains)
    assert finding.changes == {}
    assert len(ran) == trials
    assert why in finding.why


def test_where_epochs_end_the_run_no_clock_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    gains = {("joint", 0): 0.2, ("joint", 1): 0.2}
    finding, ran = studied(monkeypatch, gains=gains, costs={"joint": 9.0}, planned=EPOCHS)
    assert len({steps for _, steps, _ in ran}) == 1
    assert finding.evidence["costs"] == {"labelled": 1.0, "joint": 1.0, "straight_through": 1.0}


def without() -> keras.Model:
    layers = keras.layers
    return keras.Sequential([layers.Input((8, 8, 1)), layers.Flatten(), layers.Dense(4)])


@pytest.mark.parametrize(
    ("stated", "planned", "options", "why"),
    [
        (GIVEN, LONG, {"unlabeled": False}, "no images without labels"),
        (GIVEN, LONG, {"model": without}, "no batch normalization"),
        (GIVEN, LONG, {"count": 160}, "too few validation samples"),
        (GIVEN.give(semisupervised={"batch_norm": "joint"}), LONG, {}, "fixed by you"),
        (GIVEN, Planned(10_000, 10.0, COSTS, timed=True), {}, "left for it"),
        (GIVEN, Planned(100, 1_000.0, COSTS, timed=True), {}, "worth about"),
    ],
)
def test_obstacles(stated: Recipe, planned: Planned, options: Any, why: str) -> None:
    made = {**options, "model": options["model"]() if "model" in options else None}
    obstacle = Unlabeled().obstacle(open_studio(stated, **made), stated, planned)
    assert obstacle is not None
    assert why in obstacle


def test_without_one_it_may_be_studied() -> None:
    assert Unlabeled().obstacle(open_studio(), GIVEN, LONG) is None


@pytest.mark.slow
def test_a_real_study_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    studio = open_studio()
    studio.measure()
    before, trainer = helpers.weights(studio.problem.model), studio.trainer
    planned = Planned(2_000, 60.0, CostModel(step=0.1, evaluation=0.3, compile=2.0), timed=True)
    finding = Unlabeled().learn(studio, GIVEN, planned)
    assert helpers.difference(before, helpers.weights(studio.problem.model)) == 0.0
    assert studio.trainer is trainer
    assert studio.recipe == GIVEN
    assert set(finding.evidence["forms"]) == {"joint", "straight_through"}
    for gap in finding.evidence["gaps"].values():
        # Images of one kind: no further than the others among themselves, but for their number.
        assert 0.0 < gap["wasserstein"] < 4.0 * gap["control"]
