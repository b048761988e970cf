"""A study for which the device's memory does not suffice leaves nothing behind but a sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import pytest
import tensorflow as tf

import etude
from etude.budget import CostModel
from etude.recipe import Recipe
from etude.training.studio import Studio

from ..short_studies import shorten
from ..training import helpers

pytestmark = pytest.mark.slow

STEP = 0.1


class Clock:
    """Moves only while the run trains: what a study takes changes nothing that comes after."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Tick(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
    """Lets a step of the run take its time."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._clock.now += STEP


class Exhausted(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
    """The device runs out of memory in the third step: two have moved the weights."""

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if batch == 2:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Studio, int], bool]], None]:
    """Lets every trial run out of memory of which a function says that it is too large."""
    fit = Studio._fit

    def limited(too_large: Callable[[Studio, int], bool]) -> None:
        def short(
            self: Studio,
            steps: int,
            callbacks: Sequence[Any] = (),
            batch: int | None = None,
            order: int = 0,
        ) -> None:
            full = too_large(self, batch or self.recipe.compute.batch_size)
            fit(self, steps, [*callbacks, *([Exhausted()] if full else [])], batch, order)

        monkeypatch.setattr(Studio, "_fit", short)

    return limited


@pytest.fixture(autouse=True)
def known_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short studies, and costs that no clock has a say in."""
    shorten(monkeypatch)

    def measure(self: Studio, limit: float = 3.0) -> CostModel:
        self.warm()
        self.costs = CostModel(step=STEP, evaluation=0.01)
        return self.costs

    monkeypatch.setattr(Studio, "measure", measure)


def fit(keep: Sequence[str], **options: Any) -> tuple[list[Any], Any, dict[str, Any]]:
    """The weights after a run of a few hundred steps, its report, and its findings by study."""
    model, clock = helpers.sequential(), Clock()
    report = etude.fit(
        model, helpers.images(480), keep=keep, callbacks=[Tick(clock)], clock=clock, verbose=0,
        **options,
    )  # fmt: skip
    return helpers.weights(model), report, {f.learner: f for f in report.findings}


WAYS = ("precision", "xla", "steps_per_execution")


def test_the_batch_sizes_study_without_memory_for_its_batches(limit: Any) -> None:
    """Its gradients are of 32 samples, and the run's batch has 16: only the study is too large."""
    kept = [*WAYS, "optimizer", "momentum", "weight_decay", "batch_norm_momentum"]
    limit(lambda studio, batch: batch > 16)
    weights, report, found = fit(kept, time_budget=40.0)
    assert found["batch_size"].changes == {}
    assert "memory does not suffice" in found["batch_size"].why
    assert report.recipe.compute.accumulate == 1  # the run's own batch is as it was
    assert found["learning_rate"].evidence and report.finished
    # Oracle: the same run without that study.
    limit(lambda studio, batch: False)
    sixteen = Recipe().give(compute={"batch_size": 16})
    wanted, plain, studied = fit(kept, time_budget=40.0, recipe=sixteen)
    assert "fixed by you" in studied["batch_size"].why
    assert studied["learning_rate"].changes == found["learning_rate"].changes
    assert report.budget["steps"] == plain.budget["steps"] > 100
    assert helpers.difference(weights, wanted) == 0.0
    # With memory enough the study does find something: it was the memory that ended it.
    _, _, free = fit(kept, time_budget=40.0)
    assert free["batch_size"].evidence


def test_the_race_without_memory_for_another_optimizer(limit: Any) -> None:
    """The first to challenge is in a Trainer of its own when it fails."""
    limit(lambda studio, batch: studio.recipe.optimization.optimizer != "adam")
    weights, report, found = fit(WAYS, epochs=12.0)
    assert found["optimizer"].changes == {}
    assert "memory does not suffice" in found["optimizer"].why
    assert report.recipe.optimization.optimizer == "adam"
    assert found["learning_rate"].evidence and found["descent"].evidence and report.finished
    limit(lambda studio, batch: False)
    adam = Recipe().give(optimization={"optimizer": "adam"})
    wanted, _, studied = fit(WAYS, epochs=12.0, recipe=adam)
    assert "fixed by you" in studied["optimizer"].why
    assert studied["descent"].evidence == found["descent"].evidence
    assert helpers.difference(weights, wanted) == 0.0
