"""One run: segments of training with stored points between them, until the time is over."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from etude.budget import Budget, CostModel, Schedule, replan
from etude.optim._registry import has_free_rate
from etude.training import snapshot
from etude.training.backends.tensorflow import OUT_OF_MEMORY
from etude.training.callback_state import plain_state, set_plain_state
from etude.training.conductor import Conductor, NotFiniteError, Opening
from etude.training.progress import (
    FINISHED,
    INTERRUPTED,
    NOT_FINITE,
    STOPPED_BY_CALLBACK,
    STOPPED_EARLY,
    Progress,
)
from etude.training.store import Store
from etude.training.studio import Studio
from etude.training.values import host

# How often a loss that is not finite sends the run back, each time at half the rate.
RETRIES = 3

Listener = Callable[[int, Mapping[str, float]], None]


class Run:
    """Performs a recipe's training in a studio.

    Args:
        studio: Trainer and data, warmed.
        schedule: The plan, made before.
        costs: Measured costs.
        budget: Time; with `seconds` set the plan is mended at stored points.
        store: Where states go; `None` keeps the latest in memory only.
        callbacks: The user's Keras callbacks.
        listener: Called after every execution with steps done and metrics.
        extra: Plain values that are stored with every state.
    """

    def __init__(
        self,
        studio: Studio,
        schedule: Schedule,
        costs: CostModel,
        *,
        budget: Budget,
        store: Store | None = None,
        callbacks: Sequence[Any] = (),
        listener: Listener | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.studio = studio
        self.costs = costs
        self.budget = budget
        self.store = store
        self.callbacks = list(callbacks)
        self.listener = listener
        self.extra = dict(extra or {})
        self.progress = Progress(schedule, accumulate=studio.recipe.compute.accumulate)
        self.best_weights: snapshot.State = {}
        self.good: tuple[snapshot.State, dict[str, Any]] | None = None
        self.pending: snapshot.State | None = None
        self.slow_down = False
        self.evaluated: list[int] = []
        self.at_boundary = False
        self.keras_history = keras.callbacks.History()

    def resume(self, state: snapshot.State, meta: Mapping[str, Any]) -> None:
        """Goes on from a stored state at the next `perform`."""
        self._load(state, meta)
        self.good = (state, dict(meta))
        if not self.progress.reason:
            self.progress.events.append(f"Gone on from step {self.progress.step:,}.")

    def perform(self) -> Progress:
        """Trains to the end of the schedule, or to where it stops.

        The model is left with the best weights that an evaluation found, where the recipe
        says so, and with the latest ones otherwise.
        """
        if self.good is None:
            self.studio.trainer.start_average()
            self.store_point()  # the plan is stored before the first step
        while not self.progress.reason:
            try:
                self._fit()
            except NotFiniteError:
                self._go_back()
            except OUT_OF_MEMORY as error:
                self._go_back_smaller(error)
            except KeyboardInterrupt:
                self._store_interrupted()
                self.progress.reason = INTERRUPTED
        trainer = self.studio.trainer
        if self.pending is not None:  # a run that had ended before: its last state
            trainer.start_average()
            for group in ("model", "average"):
                snapshot.restore(trainer, snapshot.only(self.pending, group))
        trainer.finish_average()
        if self.best_weights and self.studio.recipe.regularization.best_weights:
            snapshot.restore(trainer, self.best_weights)
        trainer.restore_rate()
        self.keras_history.history = self.progress.history
        self.keras_history.epoch = list(range(self.progress.segment))
        return self.progress

    @property
    def finished(self) -> bool:
        """Whether the run ended on purpose and not by a fault or an interruption."""
        return self.progress.reason in (FINISHED, STOPPED_EARLY, STOPPED_BY_CALLBACK)

    # -- Keras' loop ---------------------------------------------------------------------

    def _fit(self) -> None:
        progress, studio = self.progress, self.studio
        if progress.step >= progress.schedule.total_steps:
            progress.reason = FINISHED
            return
        self.at_boundary = progress.step >= progress.target
        if self.at_boundary:
            progress.target = progress.next_target()
        self.evaluated.clear()
        size = studio.recipe.compute.batch_size
        batches = studio.train.shuffled(
            size, seed=studio.seed, start=progress.step, beside=studio.trainer.beside(size)
        )
        studio.trainer.fit(
            studio.with_unlabeled(batches, start=progress.step),
            initial_epoch=progress.segment,
            epochs=2**31,
            steps_per_epoch=progress.target - progress.step,
            validation_data=studio.evaluation_data(),
            validation_freq=self.evaluated,
            verbose=0,
            shuffle=False,
            # The conductor comes last: it stores what the user's callbacks left.
            callbacks=[Opening(self), *self.callbacks, Conductor(self)],
        )
        if not progress.reason:
            progress.reason = STOPPED_BY_CALLBACK

    # -- Stored points -------------------------------------------------------------------

    def store_point(self) -> None:
        """Keeps the state as it is now, on disk where there is a store."""
        clock = self.budget.clock
        start = clock()
        state = snapshot.capture(self.studio.trainer)
        for name, value in self.best_weights.items():
            state[f"best/{name}"] = value
        self.progress.callbacks = [plain_state(callback) for callback in self.callbacks]
        self.progress.spent = self.budget.spent()
        meta = {
            **self.extra,
            "progress": copy.deepcopy(self.progress.to_dict()),
            "costs": self.costs.to_dict(),
        }
        self.good = (state, meta)
        if self.store is not None:
            self.store.save_state(state, meta)
        seconds = clock() - start
        self.progress.seconds["storing"] += seconds
        self.costs = dataclasses.replace(self.costs, snapshot=seconds)

    def plan_again(self) -> None:
        """Moves the end of the schedule to where the time left leads.

        One that has come to its end stays there: Keras' loop is told to stop by then, and its
        rate has fallen to 0.
        """
        progress = self.progress
        if self.budget.seconds is None or progress.step >= progress.schedule.total_steps:
            return
        plan = replan(progress.schedule, progress.step, self.budget.remaining(), self.costs)
        if progress.step < progress.target and progress.is_last:
            # Growing now would begin another segment, with an evaluation of its own.
            total = min(plan.total_steps, progress.schedule.total_steps)
            plan = dataclasses.replace(plan, total_steps=total)
        if plan.total_steps <= progress.step and progress.segment not in self.evaluated:
            # The end of a run is always evaluated: one more segment, as short as can be.
            total = progress.step + plan.multiple
            plan = dataclasses.replace(plan, total_steps=total)
        progress.schedule = plan
        progress.target = min(progress.target, plan.total_steps)
        controls = self.studio.trainer.controls
        assert controls is not None
        controls.total.assign(float(max(1, plan.total_steps)))

    def evaluate_at(self, segment: int) -> None:
        """Has Keras evaluate at the end of a segment, counted from 1."""
        if segment not in self.evaluated:
            self.evaluated.append(segment)

    def _load(self, state: snapshot.State, meta: Mapping[str, Any]) -> None:
        self.progress = Progress.from_dict(meta["progress"])
        self.costs = CostModel.from_dict(meta["costs"])
        self.best_weights = snapshot.only(state, "best", strip=True)
        self.pending = {n: v for n, v in state.items() if not n.startswith("best/")}

    def restore_pending(self) -> None:
        """Puts a stored state into the Trainer, once Keras has begun its loop."""
        if self.pending is None:
            return
        trainer, controls = self.studio.trainer, self.studio.trainer.controls
        assert controls is not None
        snapshot.restore(trainer, self.pending)
        self.pending = None
        for callback, plain in zip(self.callbacks, self.progress.callbacks, strict=False):
            set_plain_state(callback, plain)
        if self.slow_down:
            self.slow_down = False
            controls.peak.assign(controls.peak.value * 0.5)
            self.store_point()

    def _store_interrupted(self) -> None:
        """Keeps what was done until an interruption, where it came between two steps."""
        controls = self.studio.trainer.controls
        assert controls is not None
        if self.pending is None and int(host(controls.step)) == self.progress.step:
            self.store_point()

    # -- Recoveries ----------------------------------------------------------------------

    def _go_back(self) -> None:
        """To the last good state, with half the rate; ends the run after `RETRIES`."""
        assert self.good is not None
        lost, retries, events = self.progress.step, self.progress.retries, self.progress.events
        free = has_free_rate(self.studio.trainer.optimizer)
        self._load(*self.good)
        self.progress.retries, self.progress.events = retries, events
        if retries >= RETRIES or not free:
            why = f"{retries} times at half the rate" if free else "with a schedule of its own"
            events.append(f"The loss was not finite at step {lost:,}, {why}: the run ends.")
            self.progress.reason = NOT_FINITE
            return
        self.progress.retries += 1
        self.slow_down = True
        events.append(
            f"The loss was not finite by step {lost:,}: back to step {self.progress.step:,} "
            f"with half the learning rate ({retries + 1} of at most {RETRIES} times)."
        )

    def _go_back_smaller(self, error: BaseException) -> None:
        """To the last good state, with micro-batches of half the size."""
        assert self.good is not None
        known = len(self.studio.events)
        self.studio.halve_micro_batch(error)
        self.studio.warm()
        events = self.progress.events + self.studio.events[known:]
        retries = self.progress.retries
        self._load(*self.good)
        self.progress.events, self.progress.retries = events, retries
        self.progress.accumulate = self.studio.recipe.compute.accumulate
