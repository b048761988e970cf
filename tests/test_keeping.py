"""What is kept, by `keep=` or by a recipe, no study changes; everything else may be learned."""

from __future__ import annotations

from typing import Any

import pytest

import etude
from etude.budget import CostModel
from etude.recipe import Recipe
from etude.training.studio import Studio
from etude_metalearners import META_LEARNERS

from .training import helpers

# What the studies may set, and another value than a study would come to.
VALUES: dict[str, Any] = {
    "compute.precision": "own",
    "compute.xla": False,
    "compute.steps_per_execution": 1,
    "compute.batch_size": 24,
    "optimization.optimizer": "nadam",
    "optimization.learning_rate": 0.0123,
    "optimization.momentum": 0.77,
    "optimization.weight_decay": 0.0321,
    "optimization.batch_norm_momentum": 0.66,
    "optimization.epochs": 3.25,
}


def tune(monkeypatch: pytest.MonkeyPatch, **options: Any) -> Any:
    """All studies, on a run that is long for a clock that stands still."""

    def measure(self: Studio, limit: float = 3.0) -> CostModel:
        self.warm()
        self.costs = CostModel(step=0.03, evaluation=0.03, compile=0.1)
        return self.costs

    monkeypatch.setattr(Studio, "measure", measure)
    return etude.tune(
        helpers.sequential(),
        helpers.images(400),
        time_budget=300.0,
        clock=lambda: 0.0,
        verbose=0,
        **options,
    )


def test_the_list_is_all_that_studies_may_set() -> None:
    sets = {f"{kind.writes}.{name}" for kind in META_LEARNERS.values() for name in kind.sets}
    assert set(VALUES) == sets


@pytest.mark.slow
@pytest.mark.parametrize("path", VALUES)
def test_a_value_of_a_recipe_stays_through_all_studies(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    group, name = path.split(".")
    tuning = tune(monkeypatch, recipe=Recipe().give(**{group: {name: VALUES[path]}}))
    assert tuning.recipe.values()[path] == VALUES[path]
    assert tuning.recipe.is_given(path)
    assert not any(
        name in finding.changes for finding in tuning.findings if finding.writes == group
    )


@pytest.mark.slow
def test_with_everything_kept_nothing_changes_and_with_nothing_kept_much_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = tune(monkeypatch, keep=["compute", "optimization"])
    assert kept.recipe.values() == Recipe().values()
    assert all("fixed by you" in f.why or "Not studied" in f.why for f in kept.findings)
    free = tune(monkeypatch)
    learned = {path for path, mark in free.recipe.marks if mark.origin == "learned"}
    assert {"optimization.learning_rate", "optimization.epochs"} <= learned
    assert [finding.learner for finding in free.findings if finding.evidence] != []
