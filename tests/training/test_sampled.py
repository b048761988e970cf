"""What is told of the samples that a run chose: against counts and scores by hand."""

from __future__ import annotations

import types
from typing import Any

import keras
import numpy as np
import pytest
from scipy import special

import etude
from etude.recipe import Recipe
from etude.report.figures._pictures import decoded
from etude.training import sampled
from etude.training.trainer import Trainer

from . import helpers


def trained(**sampling: Any) -> etude.Report:
    recipe = Recipe().give(
        compute={"batch_size": 16},
        optimization={"optimizer": "nesterov", "learning_rate": 0.05},
        sampling={"cool_down": 0.0, "warm_up": 0.0, **sampling},
    )
    problem = helpers.problem(helpers.sequential())
    return etude.train(problem, recipe, epochs=4, seed=3, verbose=0)


def test_a_run_tells_whom_it_drew_and_what_that_was_worth() -> None:
    report = trained(strategy="upper_bound", presample=3.0, threshold=-1.0, forward=0.1)
    (found,) = [one for one in report.findings if one.learner == sampled.NAME]
    told = found.evidence
    assert told["taus"] == report.history["tau"]
    assert told["epochs"] == report.history["epoch"]
    assert told["open"] == [1.0] * 4
    # 34 steps of 16 draws from 136 samples.
    draws = told["draws"]
    assert sum(draws["samples"]) == 136
    assert np.dot(draws["times"], draws["samples"]) == report.budget["steps"] * 16 == 34 * 16
    assert told["most"][0] == max(draws["times"])
    assert told["least"][0] == min(draws["times"])
    assert sorted(told["most"], reverse=True) == told["most"]
    assert sorted(told["least"]) == told["least"]
    assert sum(told["scores"]["counts"]) == 136
    worth = [(1.0 / 3.0**2 + 1.0 / max(1.0, tau) ** 4) ** -0.5 / 1.3 for tau in told["taus"]]
    assert told["speed_up"] == pytest.approx(4 / sum(1.0 / gain for gain in worth))
    assert told["promised"] is None
    assert found.changes == {}
    assert "in 100 % of the steps" in found.why
    picture = decoded(told["pictures"])
    assert picture.shape[1] == sampled.SHOWN * picture.shape[0] / 2
    assert found.learner in report.figures()
    assert "Samples chosen in 100 % of the steps" in report.to_html()


def test_a_uniform_run_tells_nothing_of_it() -> None:
    assert all(one.learner != sampled.NAME for one in trained(strategy="uniform").findings)


def test_scores_are_those_of_the_weights_that_are_evaluated() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(21, 5)).astype("float32")
    y = rng.integers(0, 3, 21)
    model = keras.Sequential([keras.layers.Input((5,)), keras.layers.Dense(3)])
    recipe = Recipe().give(sampling={"strategy": "upper_bound"})
    found = Trainer(model, recipe)
    found.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    weight = rng.uniform(0.5, 2.0, 21).astype("float32")
    kernel, bias = (np.asarray(w, np.float64) for w in model.weights)
    residual = special.softmax(x @ kernel + bias, axis=1) - np.eye(3)[y]
    by_hand = np.linalg.norm(residual, axis=1)
    np.testing.assert_allclose(found.scores((x, y), 8), by_hand, rtol=1e-4)
    weighted = found.scores((x, y, weight), 8)
    np.testing.assert_allclose(weighted, weight * by_hand, rtol=1e-4)


def test_scores_that_are_all_zero_are_no_histogram() -> None:
    batch = (np.zeros((3, 2)), np.zeros(3))
    train = types.SimpleNamespace(size=3, shuffled=lambda count, seed: [batch])
    studio: Any = types.SimpleNamespace(
        seed=0,
        evaluation_batch=4,
        problem=types.SimpleNamespace(train=train),
        trainer=types.SimpleNamespace(scores=lambda batch, size: np.zeros(3, np.float32)),
    )
    assert sampled._histogram(studio) == {}
