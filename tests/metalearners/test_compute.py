"""The study of precision, XLA and steps per execution, with paces that are made up."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from etude._fit import starting_recipe
from etude.budget import Budget, CostModel
from etude.recipe import Recipe
from etude.training.backends import tensorflow as backend
from etude.training.studio import Pace, Studio
from etude_metalearners import Compute, compute
from etude_metalearners._base import Planned

from ..training import helpers

LEARNER = Compute()
COSTS = CostModel(step=0.1, evaluation=0.3, compile=2.0)
LONG = Planned(100_000, 1_000.0, COSTS, timed=True)


def open_studio(stated: Recipe | None = None, model: Any = None) -> Studio:
    problem = helpers.problem(model)
    recipe = starting_recipe(problem, stated or Recipe())
    studio = Studio(problem, recipe, budget=Budget(None), seed=1)
    studio.costs = COSTS
    return studio


def paced(
    monkeypatch: pytest.MonkeyPatch, studio: Studio, seconds: Any, losses: Any = None
) -> list[Recipe]:
    """Lets steps take what `seconds` says of a recipe; returns the recipes that ran."""
    ran: list[Recipe] = []

    def pace(steps: int) -> Pace:
        ran.append(studio.recipe)
        found = np.ones(steps) if losses is None else losses(studio.recipe, steps)
        return Pace(seconds(studio.recipe.compute), found)

    monkeypatch.setattr(studio, "pace", pace)
    monkeypatch.setattr(studio, "warm", lambda: 1.0)
    monkeypatch.setattr(studio, "step_seconds", lambda size, steps=3: 0.001 * size)
    monkeypatch.setattr(backend, "convolution_ratio", lambda dtype: 0.5)
    return ran


def learned(studio: Studio, planned: Planned = LONG) -> Any:
    assert LEARNER.obstacle(studio, studio.recipe, planned) is None
    return LEARNER.learn(studio, studio.recipe, planned)


def speed(chosen: Any) -> float:
    """XLA halves, bfloat16 takes a quarter off, both together."""
    return 0.1 * (0.5 if chosen.xla else 1.0) * (0.75 if chosen.precision != "own" else 1.0)


def test_what_is_faster_is_kept_and_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    studio = open_studio()
    ran = paced(monkeypatch, studio, speed)
    finding = learned(studio)
    assert finding.changes == {"precision": "mixed_bfloat16", "xla": True}
    rows = finding.evidence["variants"]
    assert [row["step_seconds"] for row in rows] == pytest.approx([0.1, 0.075, 0.0375])
    assert finding.evidence["chosen"] == 2
    assert {(r.compute.precision, r.compute.xla) for r in ran} == {
        ("own", False), ("mixed_bfloat16", False), ("mixed_bfloat16", True),
    }  # fmt: skip
    assert "accelerator" in finding.why  # why float16 was not tried
    assert studio.recipe.compute.precision == "own"


def test_what_is_saved_is_told_of_the_same_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine is twice as slow as when the step was measured first."""
    studio = open_studio()
    paced(monkeypatch, studio, lambda chosen: 2.0 * speed(chosen))
    assert "62% less time a step" in learned(studio).why  # 1 - 0.75 · 0.5


def test_what_is_hardly_faster_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    studio = open_studio()
    paced(monkeypatch, studio, lambda chosen: 0.096 if chosen.xla else 0.1)
    finding = learned(studio)
    assert finding.changes == {} and finding.evidence["chosen"] == 0
    assert finding.evidence["batch_sizes"] == [8, 16, 32, 64]
    assert finding.evidence["fits"]["train"] == 64


@pytest.mark.parametrize(("wrong", "said"), [(math.nan, "finite"), (2.0, "differs")])
def test_what_computes_something_else_is_not(
    monkeypatch: pytest.MonkeyPatch, wrong: float, said: str
) -> None:
    def losses(recipe: Recipe, steps: int) -> Any:
        return np.full(steps, wrong if recipe.compute.precision != "own" else 1.0)

    studio = open_studio()
    paced(monkeypatch, studio, speed, losses)
    finding = learned(studio)
    assert finding.changes == {"xla": True}
    assert said in finding.evidence["variants"][1]["note"]


def test_what_does_not_compile_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    studio = open_studio()
    paced(monkeypatch, studio, speed)

    def warm() -> float:
        if studio.recipe.compute.xla:
            raise backend.CANNOT_COMPILE[0](None, None, "no kernel for XLA_CPU_JIT")
        return 1.0

    monkeypatch.setattr(studio, "warm", warm)
    finding = learned(studio)
    assert finding.changes == {"precision": "mixed_bfloat16"}
    assert "no kernel" in finding.evidence["variants"][2]["note"]


def test_what_cannot_pay_is_not_tried_and_told_why(monkeypatch: pytest.MonkeyPatch) -> None:
    studio = open_studio()
    monkeypatch.setattr(backend, "convolution_ratio", lambda dtype: 3.0)
    worth, notes = compute.variants(studio, studio.recipe, LONG)
    assert worth == [{"xla": True}]
    assert "not faster" in notes["mixed_bfloat16"] and "hides" in notes["steps per execution"]
    short = dataclasses.replace(LONG, steps=1000)  # 100 s, of which 2 % are 2 s
    worth, notes = compute.variants(studio, studio.recipe, short)
    assert worth == [] and "2% of the run" in notes["XLA"]
    assert "2% of the run" in (LEARNER.obstacle(studio, studio.recipe, short) or "")
    light = dataclasses.replace(LONG, costs=CostModel(step=0.001, compile=2.0))
    worth, _ = compute.variants(studio, studio.recipe, light)
    assert {"steps_per_execution": 128} in worth
    epochs = dataclasses.replace(LONG, timed=False)
    assert "ends by epochs" in (LEARNER.obstacle(studio, studio.recipe, epochs) or "")


def test_what_is_given_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "convolution_ratio", lambda dtype: 0.5)
    studio = open_studio()
    recipe = studio.recipe.give(compute={"xla": False})
    assert {"xla": True} not in compute.variants(studio, recipe, LONG)[0]
    recipe = recipe.give(compute={"precision": "own", "steps_per_execution": 1})
    assert compute.variants(studio, recipe, LONG) == ([], {})
    assert "fixed by you" in (LEARNER.obstacle(studio, recipe, LONG) or "")


def test_a_convolution_tells_which_precision_is_slow() -> None:
    """float64 has half as many numbers in a register, at least."""
    assert backend.convolution_ratio("float64") > 1.2


@pytest.mark.slow
def test_xla_and_precision_truly_run() -> None:
    """All that the study can choose trains a model, and to about the same losses."""
    losses = []
    for given in (
        {},
        {"xla": True},
        {"precision": "mixed_bfloat16"},
        {"precision": "mixed_bfloat16", "xla": True},
        {"steps_per_execution": 4},
    ):
        studio = open_studio(Recipe().give(compute=given))
        losses.append(studio.trial(40, rate=0.01).losses[-8:].mean())
    np.testing.assert_allclose(losses, losses[0], atol=0.15)
    assert max(losses) < 0.7
