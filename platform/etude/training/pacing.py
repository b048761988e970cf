"""A `fit` of Keras' that ends in time, and its schedule with it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras

from etude.budget import MARGIN, Budget
from etude.errors import RecipeError
from etude.training.isolation import isolated

# Steps that trace, and steps that are timed: until they take so many seconds, or that share of
# what is left, and no more than so many.
TRACING, TIMED_SECONDS, TIMED_SHARE, TIMED_STEPS = 2, 1.0, 0.01, 4096


class Paced(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
    """Ends training when time is over.

    The schedule's length follows from the pace: at first from that of steps timed before, then from
    that of the run, at a tenth of it and at each half of what is left.

    Args:
        budget: Time, of which training has all that is left.
        step: Seconds of a step, as timed before.
        most: Steps, at most.

    Attributes:
        total: Steps, as planned now.
        done: Steps done.
    """

    def __init__(self, budget: Budget, step: float, most: int | None = None) -> None:
        super().__init__()
        self.budget, self.step = budget, step
        self.most = math.inf if most is None else most
        self.done = 0
        self._looks = 0.0
        self.total = self._planned()

    def _planned(self) -> int:
        left = (self.budget.remaining() - self._looks) * (1.0 - MARGIN)
        return int(min(self.most, self.done + max(0.0, left // self.step)))

    def _mark(self, next_look: int) -> None:
        self._since, self._from = self.budget.clock(), self.done
        self._next = next_look

    def on_train_begin(self, logs: Any = None) -> None:
        """Plans, and refuses what plans by steps itself."""
        trainer: Any = self.model
        if trainer.controls is None:
            raise RecipeError(
                "This training cannot end in time: its optimizer has a schedule of its own.",
                required="an optimizer whose learning rate can be set",
                received=type(trainer.optimizer).__name__,
                advice="give `epochs` alone",
            )
        self.done = 0
        self.total = max(1, self._planned())
        self._mark(max(1, self.total // 10))

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """The schedule is as long as planned, and not as Keras' epochs are."""
        trainer: Any = self.model
        trainer.controls.total.assign(float(self.total))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Plans again where it is time to; stops after the last step."""
        trainer: Any = self.model
        self.done += 1
        over = self.budget.remaining() <= self._looks
        if self.done >= self._next and not over and self.done < self.total:
            self.step = (self.budget.clock() - self._since) / (self.done - self._from)
            self.total = max(self.done + 1, self._planned())
            trainer.controls.total.assign(float(self.total))
            self._mark(self.done + max(1, (self.total - self.done) // 2))
        if over or self.done >= self.total:
            self.total = self.done
            trainer.stop_training = True
        self._ended = self.budget.clock()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """What callbacks before this one do after an epoch takes time at the end, too."""
        self._looks = self.budget.clock() - self._ended


def seconds_of_a_step(trainer: Any, budget: Budget, train: Callable[[int], Any]) -> float:
    """Times steps of a Trainer, and leaves no trace.

    Args:
        trainer: Compiled.
        budget: The clock, and the time of which a part may be taken.
        train: Trains so many steps.
    """
    clock = budget.clock
    with isolated(trainer):
        train(TRACING)
        steps, seconds = 1, 0.0
        wanted = min(TIMED_SECONDS, TIMED_SHARE * budget.remaining())
        while True:
            start = clock()
            train(steps)
            seconds = clock() - start
            if seconds >= wanted or steps >= TIMED_STEPS:
                return max(seconds / steps, 1e-9)
            steps *= 4
