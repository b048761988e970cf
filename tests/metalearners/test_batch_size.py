"""The batch size's study: the noise scale of a model whose gradients are a closed form."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import keras
import numpy as np
import pytest

import etude
from etude._fit import starting_recipe
from etude.budget import Budget, CostModel
from etude.problem import Problem
from etude.recipe import Recipe
from etude.training import noise_scale
from etude.training.gradient_meter import WINDOW
from etude.training.studio import Studio
from etude_metalearners import BatchSize, batch_size
from etude_metalearners._base import Planned

LEARNER = BatchSize()
LONG = Planned(1_000_000, 1_000.0, CostModel(step=0.001), timed=True)
CLASSES = 3


def points(count: int = 2000, seed: int = 0) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Images of 2 × 2 pixels, whose class is told by one of them, noisily."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, CLASSES, count)
    x = rng.normal(size=(count, 2, 2, 1)).astype("float32")
    x[:, 0, 0, 0] += y
    return x, y


def linear() -> keras.Model:
    keras.utils.set_random_seed(0)
    layers = keras.layers
    return keras.Sequential([layers.Input((2, 2, 1)), layers.Flatten(), layers.Dense(CLASSES)])


def open_studio(
    model: keras.Model | None = None, stated: Recipe | None = None, count: int = 2000
) -> Studio:
    problem = Problem.inspect(model or linear(), points(count), points(100, 1))
    studio = Studio(problem, starting_recipe(problem, stated or Recipe()), budget=Budget(None))
    studio.costs = CostModel(step=0.001)
    return studio


def true_noise_scale(model: keras.Model, x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> float:
    """tr(Σ) / |G|² over all samples: each gradient is (p - y) ⊗ (x, 1)."""
    kernel, bias = (np.asarray(w, np.float64) for w in model.get_weights())
    flat = x.reshape(len(x), -1).astype(np.float64)
    logits = flat @ kernel + bias
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    error = p - np.eye(CLASSES)[y]
    each = np.einsum("ni,nj->nij", np.c_[flat, np.ones(len(flat))], error).reshape(len(x), -1)
    mean = each.mean(0)
    return float(((each - mean) ** 2).sum(1).mean() / (mean**2).sum())


def test_the_estimate_is_the_closed_form() -> None:
    """At rate 0 the weights stay where the truth is computed."""
    model = linear()
    studio = open_studio(model)
    truth = true_noise_scale(model, *points())
    small, large = studio.gradient_norms(0, 60, batch_size.SMALL)
    found = noise_scale.estimate(small, large, batch_size.SMALL, WINDOW)
    assert found.value is not None
    assert found.low < truth < found.high
    assert found.high < 2.0 * found.low  # tight enough to tell a wrong factor of two


def test_the_finding_has_its_evidence_and_only_sizes_that_ran() -> None:
    studio = open_studio()
    finding = LEARNER.learn(studio, studio.recipe, LONG)
    evidence = finding.evidence
    assert evidence["own"] == 16 and 16 in evidence["batch_sizes"]
    assert set(evidence["batch_sizes"]) <= {16, 32, 64}  # an epoch has 20 steps at least
    assert len(evidence["step_seconds"]) == len(evidence["batch_sizes"])
    own = evidence["batch_sizes"].index(16)
    assert evidence["relative_time"][own] == 1.0
    assert finding.changes.get("batch_size", 16) == evidence["chosen"]
    assert evidence["chosen"] in evidence["batch_sizes"]
    assert finding.true.seconds > 0
    assert LEARNER.cost(studio, studio.recipe, LONG).seconds > 0
    assert "noise" in finding.why


@pytest.mark.parametrize(
    ("noise", "seconds", "expected"),
    [
        # t = 10 + N / 10: least at √(10 · noise / 0.1).
        (400.0, {16: 11.6, 64: 16.4, 128: 22.8, 256: 35.6}, 256),
        (100.0, {16: 11.6, 64: 16.4, 128: 22.8, 256: 35.6}, 64),
        (2.0, {16: 11.6, 64: 16.4, 128: 22.8, 256: 35.6}, 16),
        (math.inf, {16: 11.6, 64: 16.4, 128: 22.8, 256: 35.6}, 256),
        # 128 is the fastest by 2 % only.
        (300.0, {64: 1.0, 128: 1.666}, 64),
    ],
)
def test_the_fastest_size_is_chosen_where_it_gains_enough(
    noise: float, seconds: dict[int, float], expected: int
) -> None:
    assert batch_size.chosen(noise, 64, seconds).batch == expected


@pytest.mark.parametrize("noise", [10.0, 100.0, 1000.0, 10_000.0])
@pytest.mark.parametrize("own", [16, 48, 128, 1024])
def test_climbing_finds_what_trying_all_sizes_finds(noise: float, own: int) -> None:
    """Step times a + c · N, of which the predicted time has a single minimum."""
    studio = open_studio(count=40_000)
    asked: list[int] = []

    def seconds(size: int, steps: int = 3) -> float:
        asked.append(size)
        return 0.05 + 0.001 * size

    studio.costs = CostModel(step=seconds(own))
    studio.step_seconds = seconds  # type: ignore[method-assign,assignment]
    asked.clear()
    found = batch_size.climbed(studio, own, noise, math.inf)
    sizes = sorted({own, *(2**power for power in range(4, 11))})
    every = {size: 0.05 + 0.001 * size for size in sizes}
    assert list(found) == sorted(found)
    assert batch_size.chosen(noise, own, found).batch == batch_size.chosen(noise, own, every).batch
    assert set(found) == {own, *asked}
    assert len(batch_size.climbed(studio, own, noise, -math.inf)) == 1  # no time for any


def test_a_size_too_large_ends_the_climb_there() -> None:
    studio = open_studio(count=40_000)
    studio.costs = CostModel(step=1.0)
    studio.step_seconds = lambda size, steps=3: None if size > 64 else 1.0  # type: ignore[method-assign,assignment]
    assert max(batch_size.climbed(studio, 32, math.inf, math.inf)) == 64


@pytest.mark.parametrize(("own", "expected"), [(1, [1, 2]), (16, [8, 32]), (20, [16, 32])])
def test_neighbours_are_powers_of_two(own: int, expected: list[int]) -> None:
    assert batch_size.neighbours(own) == expected


def test_where_there_is_nothing_to_learn_it_says_why() -> None:
    studio = open_studio()
    recipe = studio.recipe

    def why(recipe: Recipe = recipe, planned: Planned = LONG, studio: Studio = studio) -> str:
        return LEARNER.obstacle(studio, recipe, planned) or ""

    assert why() == ""
    assert "ends by epochs" in why(planned=dataclasses.replace(LONG, timed=False))
    assert "s are left for it" in why(planned=dataclasses.replace(LONG, allowance=0.1))
    assert "worth about 6%" in why(planned=dataclasses.replace(LONG, steps=10))
    assert "fixed by you" in why(recipe.give(compute={"batch_size": 64}))
    assert "belongs to the batch" in why(recipe.give(optimization={"learning_rate": 0.1}))
    assert "in parts already" in why(recipe.learn("x", compute={"accumulate": 2}))
    assert "256 samples are needed" in why(studio=open_studio(count=200))


class FakeClock:
    """Nothing takes time."""

    def __call__(self) -> float:
        return 0.0


@pytest.mark.slow
def test_a_tuning_goes_on_with_the_batch_that_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where every size takes as long, the largest wins, and the rate is found with it."""

    def measure(self: Studio, limit: float = 3.0) -> CostModel:
        self.warm()
        self.costs = CostModel(step=0.1, compile=0.1)
        return self.costs

    monkeypatch.setattr(Studio, "measure", measure)
    monkeypatch.setattr(Studio, "step_seconds", lambda self, size, steps=3: 0.1)

    def tune(**options: Any) -> tuple[Any, dict[str, Any]]:
        model = linear()
        before = model.get_weights()
        tuning = etude.tune(
            model,
            points(),
            points(100, 1),
            time_budget=1500.0,
            clock=FakeClock(),
            verbose=0,
            **options,
        )
        for one, other in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
        return tuning, {finding.learner: finding for finding in tuning.findings}

    tuning, found = tune(keep=["optimizer", "precision", "xla"])
    assert tuning.recipe.compute.batch_size == 64
    assert str(tuning.recipe.mark("compute.batch_size")) == "learned by batch_size"
    assert "learning_rate" in found["learning_rate"].changes
    parts = [row["part"] for row in tuning.costs]
    place = parts.index("study: batch size")
    assert parts[place + 1 : place + 3] == ["measuring again", "study: learning rate"]
    kept, found = tune(keep=["optimizer", "precision", "xla", "batch_size"])
    assert kept.recipe.compute.batch_size == 32
    assert found["batch_size"].changes == {}
