"""A machine whose time is made up, so that what a clock decides can be told beforehand."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import keras
import pytest

from etude.training.backends import tensorflow as backend
from etude.training.studio import Studio
from etude.training.trainer import Trainer


def first_fast(first: Any, *others: Any) -> list[Any]:
    """Parameters of a test of which but one is among the fast tests, for the time they take."""
    return [first, *(pytest.param(other, marks=pytest.mark.slow) for other in others)]


@dataclasses.dataclass
class Machine:
    """A clock that is moved by steps, evaluations and compilation, and by nothing else.

    Attributes:
        step: Seconds of a step, however small its batch.
        sample: Seconds more for each of its samples.
        call: Seconds of a call of the compiled evaluation, which has several batches where
            executions have several steps.
        forward: Seconds more for each sample in it.
        trace: Seconds to trace a step; an evaluation takes a quarter of them.
        augment: Seconds more to trace one with augmentation, and to compile that.
        eager: Seconds of a forward pass that is not compiled, beside what its samples take.
        start: Seconds until a fit or an evaluation does its first batch.
        bfloat16: How many times as long a step takes in less precision.
        xla: The same with XLA, which compiles anew for every batch size.
        several: The same with several steps per execution.
        now: What the clock says.
    """

    step: float = 0.004
    sample: float = 1e-4
    call: float = 0.002
    forward: float = 3e-5
    trace: float = 1.0
    augment: float = 5.0
    eager: float = 0.05
    start: float = 0.05
    bfloat16: float = 0.8
    xla: float = 1.1
    several: float = 0.6
    now: float = 0.0

    def __call__(self) -> float:
        return self.now

    def seconds(self, studio: Studio, batch: int) -> float:
        """Of a step as the studio's recipe computes it now."""
        chosen = studio.recipe.compute
        factor = self.bfloat16 if chosen.precision == "mixed_bfloat16" else 1.0
        factor *= self.xla if chosen.xla else 1.0
        factor *= self.several if chosen.steps_per_execution > 1 else 1.0
        return factor * (self.step + self.sample * batch)

    def evaluate(self, studio: Studio, batches: int, samples: int) -> None:
        """Lets an evaluation take its time."""
        calls = math.ceil(batches / studio.recipe.compute.steps_per_execution)
        self.now += self.start + calls * self.call + samples * self.forward

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Lets all that studios do move this clock."""
        machine = self
        fit, evaluate, scores = Studio._fit, Studio._evaluate, Studio._scores
        losses, beyond = Studio._sample_losses, Studio._beyond
        train_step, test_step = Trainer.train_step, Trainer.test_step
        bounds = Trainer.bounds
        compiled: set[tuple[int, int]] = set()

        class Tick(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
            """Before all other callbacks, which look at the clock."""

            def __init__(self, studio: Studio, batch: int) -> None:
                super().__init__()
                self.studio, self.batch = studio, batch

            def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
                key = (id(self.studio.trainer), self.batch)
                chosen = self.studio.recipe.compute
                if chosen.xla and key not in compiled:
                    compiled.add(key)
                    machine.now += 2.0 * machine.trace
                seconds = machine.seconds(self.studio, self.batch)
                machine.now += chosen.steps_per_execution * seconds

        def ticking_fit(
            self: Studio,
            steps: int,
            callbacks: Sequence[Any] = (),
            batch: int | None = None,
            order: int = 0,
            part: int = 0,
        ) -> None:
            machine.now += machine.start
            tick = Tick(self, batch or self.recipe.compute.batch_size)
            fit(self, steps, [tick, *callbacks], batch, order, part)

        def ticking_evaluate(self: Studio, batches: int) -> dict[str, float]:
            samples = min(self.validation.count(), batches * self.evaluation_batch)
            machine.evaluate(self, batches, samples)
            return evaluate(self, batches)

        def ticking_scores(self: Studio, samples: int) -> Any:
            size, batches = self.score_batches(samples)
            machine.evaluate(self, batches, batches * size)
            return scores(self, samples)

        def ticking_losses(self: Studio, samples: int) -> Any:
            found = losses(self, samples)
            machine.evaluate(self, math.ceil(len(found) / self.evaluation_batch), len(found))
            return found

        def ticking_beyond(self: Studio, part: int, samples: int) -> Any:
            found = beyond(self, part, samples)
            machine.evaluate(self, math.ceil(len(found) / self.evaluation_batch), len(found))
            return found

        def ticking_bounds(self: Trainer, data: Any) -> Any:
            found = bounds(self, data)
            machine.now += machine.eager + len(found) * machine.forward
            return found

        def ticking_train_step(self: Trainer, data: Any) -> Any:  # it runs while it is traced
            machine.now += machine.trace
            if self.augmenter is not None:
                machine.now += machine.augment
            return train_step(self, data)

        def ticking_test_step(self: Trainer, data: Any) -> Any:
            machine.now += machine.trace / 4.0
            return test_step(self, data)

        monkeypatch.setattr(Studio, "_fit", ticking_fit)
        monkeypatch.setattr(Studio, "_evaluate", ticking_evaluate)
        monkeypatch.setattr(Studio, "_scores", ticking_scores)
        monkeypatch.setattr(Studio, "_sample_losses", ticking_losses)
        monkeypatch.setattr(Studio, "_beyond", ticking_beyond)
        monkeypatch.setattr(Trainer, "bounds", ticking_bounds)
        monkeypatch.setattr(Trainer, "train_step", ticking_train_step)
        monkeypatch.setattr(Trainer, "test_step", ticking_test_step)
        monkeypatch.setattr(backend, "convolution_ratio", lambda dtype: self.bfloat16)
