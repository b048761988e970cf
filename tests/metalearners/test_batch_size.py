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
from etude.training.studio import Studio
from etude_metalearners import BatchSize, batch_size, noise_scale
from etude_metalearners._base import Planned

LEARNER = BatchSize()
LONG = Planned(10_000, allowance=1_000.0, timed=True)
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
    model = linear()
    studio = open_studio(model)
    with studio.warmed_up(batch_size.WARM, batch_size.SMALL) as probe:
        truth = true_noise_scale(model, *points())
        small, large = probe.norms(batch_size.PARTS, 60)
    found = noise_scale.estimate(small, large, batch_size.SMALL, batch_size.PARTS)
    assert found.value is not None
    assert found.low < truth < found.high
    assert found.high < 2.0 * found.low  # tight enough to tell a wrong factor of two


def test_the_finding_has_its_evidence_and_only_sizes_that_ran() -> None:
    studio = open_studio()
    finding = LEARNER.learn(studio, studio.recipe, LONG)
    evidence = finding.evidence
    assert evidence["batch_sizes"] == [16, 20, 32, 64]  # 2,000 / 100, and an epoch of 20 steps
    assert len(evidence["step_seconds"]) == len(evidence["relative_time"]) == 4
    own = evidence["batch_sizes"].index(studio.recipe.compute.batch_size)
    assert evidence["relative_time"][own] == 1.0
    assert finding.changes.get("batch_size", 20) in evidence["batch_sizes"]
    assert finding.true.seconds > 0 and finding.predicted.seconds > 0
    assert "noise" in finding.why


@pytest.mark.parametrize(
    ("noise", "seconds", "expected"),
    [
        # t = 10 + N / 10: least at √(10 · noise / 0.1).
        (400.0, {16: 11.6, 64: 16.4, 128: 22.8, 256: 35.6}, 256),
        (100.0, {16: 11.6, 64: 16.4, 128: 22.8, 256: 35.6}, 64),
        (2.0, {16: 11.6, 64: 16.4, 128: 22.8, 256: 35.6}, 16),
        (None, {16: 11.6, 64: 16.4, 128: 22.8, 256: 35.6}, 256),
        # 128 is the fastest by 2 % only.
        (300.0, {64: 1.0, 128: 1.666}, 64),
        # The size that there is did not run: nothing to compare with.
        (400.0, {16: 11.6, 128: 22.8}, 64),
    ],
)
def test_the_fastest_size_is_chosen_where_it_gains_enough(
    noise: float | None, seconds: dict[int, float], expected: int
) -> None:
    found = noise_scale.NoiseScale(noise, 1.0, math.inf, 1.0, 1.0, 12)
    choice = batch_size._choose(found, 64, seconds, seconds.get(64, 1.0))
    assert choice.batch == expected


def test_the_update_counts_at_every_size() -> None:
    """A step of 1 s with a gradient of 0.1 s: nothing is gained by smaller batches."""
    found = noise_scale.NoiseScale(100.0, 50.0, 200.0, 1.0, 1.0, 12)
    choice = batch_size._choose(found, 64, {32: 0.05, 64: 0.1, 128: 0.2}, 1.0)
    np.testing.assert_allclose(choice.seconds, [0.95, 1.0, 1.1])
    assert choice.batch == 128


def test_where_there_is_nothing_to_learn_it_says_why() -> None:
    studio = open_studio()
    recipe = studio.recipe

    def why(recipe: Recipe = recipe, planned: Planned = LONG, studio: Studio = studio) -> str:
        return LEARNER.obstacle(studio, recipe, planned) or ""

    assert why() == ""
    assert "ends by epochs" in why(planned=dataclasses.replace(LONG, timed=False))
    assert "s are left for it" in why(planned=dataclasses.replace(LONG, allowance=0.1))
    assert "fixed by you" in why(recipe.give(compute={"batch_size": 64}))
    assert "belongs to the batch" in why(recipe.give(optimization={"learning_rate": 0.1}))
    assert "in parts already" in why(recipe.learn("x", compute={"accumulate": 2}))
    assert "256 samples are needed" in why(studio=open_studio(count=200))


class FakeClock:
    """Steps cost what the patched measurement says; nothing else takes time."""

    def __call__(self) -> float:
        return 0.0


def test_a_tuning_goes_on_with_the_batch_that_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where every size takes as long, the largest wins, and the rate is found with it."""

    def measure(self: Studio, limit: float = 3.0) -> CostModel:
        self.warm()
        self.costs = CostModel(step=0.1, compile=0.1)
        return self.costs

    monkeypatch.setattr(Studio, "measure", measure)
    model = linear()
    before = model.get_weights()
    tuning = etude.tune(
        model, points(), points(100, 1), time_budget=3000.0, clock=FakeClock(), verbose=0
    )
    assert [finding.learner for finding in tuning.findings] == ["batch_size", "learning_rate"]
    assert tuning.recipe.compute.batch_size == 64
    assert str(tuning.recipe.mark("compute.batch_size")) == "learned by batch_size"
    assert "learning_rate" in tuning.findings[1].changes
    assert [row["part"] for row in tuning.costs][-3:] == [
        "study: batch size",
        "measuring again",
        "study: learning rate",
    ]
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    kept = etude.tune(
        linear(), points(), points(100, 1), time_budget=3000.0, clock=FakeClock(), verbose=0,
        keep="batch_size",
    )  # fmt: skip
    assert kept.recipe.compute.batch_size == 20
    assert kept.findings[0].changes == {}
