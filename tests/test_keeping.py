"""What is kept, by `keep=` or by a recipe, no study changes; everything else may be learned."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import etude
from etude.augment.policy import Policy
from etude.budget import CostModel
from etude.findings import paths
from etude.recipe import Recipe
from etude.training.backends import tensorflow as backend
from etude.training.studio import Pace, Studio
from etude_metalearners import META_LEARNERS

from .training import helpers

# What the studies may set, and another value than the default and than a study comes to.
VALUES: dict[str, Any] = {
    "compute.precision": "mixed_float16",
    "compute.xla": True,
    "compute.steps_per_execution": 2,
    "compute.batch_size": 24,
    "optimization.optimizer": "nadam",
    "optimization.learning_rate": 0.0123,
    "optimization.momentum": 0.77,
    "optimization.weight_decay": 0.0321,
    "optimization.batch_norm_momentum": 0.66,
    "optimization.epochs": 3.25,
    "augmentation.policy": Policy.of("uniformaugment"),
    "regularization.label_smoothing": 0.07,
    "regularization.dropout": 1.3,
    "sampling.strategy": "upper_bound",
    "sampling.presample": 2.5,
    "sampling.forward": 0.22,
    "sampling.fixed": 0.31,
    "sampling.noise": 7.7,
    "sampling.rate": 1.3,
    "semisupervised.batch_norm": "joint",
}


STEP = 0.015  # seconds: light enough for several steps per execution to be tried
# What the study of compute is told that these change of it, and so what it comes to.
FACTORS: dict[str, dict[Any, float]] = {
    "precision": {"mixed_bfloat16": 0.8},
    "xla": {True: 2.0},
    "steps_per_execution": {8: 0.5},
}


def tune(monkeypatch: pytest.MonkeyPatch, **options: Any) -> Any:
    """All studies, on a run that is long for a clock that stands still."""

    def measure(self: Studio, limit: float = 3.0) -> CostModel:
        self.warm()
        self.costs = CostModel(step=STEP, evaluation=STEP, compile=0.1)
        return self.costs

    def pace(self: Studio, steps: int) -> Pace:
        chosen = self.recipe.compute
        factors = [row.get(getattr(chosen, name), 1.0) for name, row in FACTORS.items()]
        return Pace(STEP * math.prod(factors), np.ones(steps))

    monkeypatch.setattr(Studio, "measure", measure)
    monkeypatch.setattr(Studio, "pace", pace)
    monkeypatch.setattr(backend, "convolution_ratio", lambda dtype: 0.5)
    return etude.tune(
        helpers.sequential(),
        helpers.images(400),
        time_budget=300.0,
        clock=lambda: 0.0,
        verbose=0,
        **options,
    )


def test_the_list_is_all_that_studies_may_set() -> None:
    sets = {path for kind in META_LEARNERS.values() for path in paths(kind.writes, kind.sets)}
    assert set(VALUES) == sets
    assert all(VALUES[path] != value for path, value in Recipe().values().items() if path in sets)


# Numbers of sampling go together: without a strategy there is nothing for them to do.
SAMPLING = [path for path in VALUES if path.startswith("sampling.")]


@pytest.mark.slow
@pytest.mark.parametrize(
    "given",
    [SAMPLING[:1], SAMPLING[1:], *([path] for path in VALUES if path not in SAMPLING)],
    ids=lambda given: given[0],
)
def test_a_value_of_a_recipe_stays_through_all_studies(
    given: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {}
    recipe = Recipe()
    for path in given:
        group, name = path.split(".")
        recipe = recipe.give(**{group: {name: VALUES[path]}})
        if group == "semisupervised":
            options["unlabeled"] = helpers.images(60, seed=3)[0]
    tuning = tune(monkeypatch, recipe=recipe, **options)
    for path in given:
        assert tuning.recipe.values()[path] == VALUES[path]
        assert tuning.recipe.is_given(path)
        assert not any(path in paths(f.writes, f.changes) for f in tuning.findings)


@pytest.mark.slow
def test_with_everything_kept_nothing_changes_and_with_nothing_kept_much_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = tune(monkeypatch, keep=["compute", "optimization"])
    assert kept.recipe.values() == Recipe().values()
    assert all("fixed by you" in f.why or "Not studied" in f.why for f in kept.findings)
    free = tune(monkeypatch)
    values = free.recipe.values()
    learned = {path for path, mark in free.recipe.marks if mark.origin == "learned"}
    assert {
        "compute.precision",
        "compute.steps_per_execution",
        "optimization.learning_rate",
        "optimization.epochs",
    } <= learned
    assert (values["compute.precision"], values["compute.xla"]) == ("mixed_bfloat16", False)
    assert values["compute.steps_per_execution"] == 8
    # Else a row of the list above could not fail.
    assert [path for path, value in VALUES.items() if values[path] == value] == []
    assert [finding.learner for finding in free.findings if finding.evidence] != []
