"""One run: segments of training with stored points between them, until the time is over."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from etude.budget import Budget, CostModel, Schedule, replan
from etude.optim._registry import has_free_rate
from etude.training import _keras_compat, snapshot
from etude.training.backends.tensorflow import OUT_OF_MEMORY
from etude.training.callback_state import plain_state, set_plain_state
from etude.training.early_stopping import CRITERIA
from etude.training.store import Store
from etude.training.studio import Studio
from etude.training.values import host

# How often a loss that is not finite sends the run back, each time at half the rate.
RETRIES = 3
# Active seconds between two stored states, at least.
STORE_SECONDS = 20.0
# The last stretch is planned again at half, quarter, … of what is left, down to this share.
FINEST = 0.01
# A stored point takes at most a fiftieth of the time between two of them.
STORE_SHARE = 50.0
# Executions between two looks at the count of bad losses, which waits for the device.
LOOK_EVERY = 20
# Fewer steps than these say little about the pace.
PACE_STEPS = 10

FINISHED = "schedule finished"
STOPPED_EARLY = "stopped early"
STOPPED_BY_CALLBACK = "stopped by a callback"
INTERRUPTED = "interrupted"
NOT_FINITE = "loss not finite"

Listener = Callable[[int, Mapping[str, float]], None]


@dataclasses.dataclass
class Progress:
    """Where a run stands; all of it is stored.

    Attributes:
        schedule: The plan in force.
        step: Steps done.
        segment: Segments done; Keras calls them epochs.
        target: The step at which the segment in hand ends.
        spent: Active seconds, up to the stored point.
        seconds: Active seconds by part: training, evaluation, storing.
        history: A list per metric, one value per segment; NaN where it was not evaluated.
        best: The best value of the monitor, and the step it was found at.
        errors: Validation errors for early stopping, one per evaluation.
        losses: Training losses beside them.
        retries: How often a loss that was not finite sent the run back.
        events: What happened, in words.
        reason: Why the run ended; empty while it runs.
        accumulate: Micro-batches per batch, as memory allowed.
        callbacks: Plain state of the user's callbacks.
    """

    schedule: Schedule
    step: int = 0
    segment: int = 0
    target: int = 0
    spent: float = 0.0
    seconds: dict[str, float] = dataclasses.field(
        default_factory=lambda: {"training": 0.0, "evaluation": 0.0, "storing": 0.0}
    )
    history: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    best: tuple[float, int] | None = None
    errors: list[float] = dataclasses.field(default_factory=list)
    losses: list[float] = dataclasses.field(default_factory=list)
    retries: int = 0
    events: list[str] = dataclasses.field(default_factory=list)
    reason: str = ""
    accumulate: int = 1
    callbacks: list[Any] = dataclasses.field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Progress:
        """What `to_dict` gave."""
        fields = copy.deepcopy(dict(data))
        fields["schedule"] = Schedule.from_dict(fields["schedule"])
        fields["best"] = None if fields["best"] is None else tuple(fields["best"])
        return cls(**fields)

    @property
    def is_last(self) -> bool:
        """Whether the segment in hand is the last one."""
        return self.target >= self.schedule.total_steps

    def next_target(self) -> int:
        """The step at which the segment that is about to begin ends."""
        return self.schedule.segment_end(self.segment, self.step)

    def note(self, logs: Mapping[str, float]) -> None:
        """Appends a segment's metrics to the history."""
        length = len(next(iter(self.history.values()), []))
        for name in {**self.history, **logs}:
            column = self.history.setdefault(name, [math.nan] * length)
            column.append(float(logs.get(name, math.nan)))


class NotFiniteError(Exception):
    """The loss turned NaN or infinite."""


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
                self.progress.reason = INTERRUPTED
        trainer = self.studio.trainer
        trainer.finish_average()
        if self.pending is not None:  # a run that had ended before: its last state
            snapshot.restore(trainer, snapshot.only(self.pending, "model"))
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
        if progress.step >= progress.target:
            progress.target = progress.next_target()
        self.evaluated.clear()
        size = studio.recipe.compute.batch_size
        studio.trainer.fit(
            studio.train.shuffled(size, seed=studio.seed, start=progress.step),
            initial_epoch=progress.segment,
            epochs=2**31,
            steps_per_epoch=progress.target - progress.step,
            validation_data=studio.evaluation_data(),
            validation_freq=self.evaluated,
            verbose=0,
            shuffle=False,
            # The conductor comes last: it stores what the user's callbacks left.
            callbacks=[*self.callbacks, Conductor(self)],
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
        """Moves the end of the schedule to where the time left leads."""
        progress = self.progress
        if self.budget.seconds is None:
            return
        plan = replan(progress.schedule, progress.step, self.budget.remaining(), self.costs)
        if progress.step < progress.target and progress.is_last:
            # Growing now would begin another segment, with an evaluation of its own.
            total = min(plan.total_steps, progress.schedule.total_steps)
            plan = dataclasses.replace(plan, total_steps=total)
        progress.schedule = plan
        progress.target = min(progress.target, plan.total_steps)
        controls = self.studio.trainer.controls
        assert controls is not None
        controls.total.assign(float(max(1, plan.total_steps)))

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


class Conductor(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
    """Leads Keras' loop through the segments of a run."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run
        self.execution = 0
        self._mark_point()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Restores what is pending, and sets how long the segment is."""
        run, progress = self.run, self.run.progress
        run.restore_pending()
        if progress.step >= progress.target:
            progress.target = progress.next_target()
        trainer = run.studio.trainer
        _keras_compat.set_epoch_length(trainer.epoch_iterator, progress.target - progress.step)
        if progress.is_last or (progress.segment + 1) % progress.schedule.evaluate_every == 0:
            run.evaluated.append(epoch + 1)
        self._follow_rate()
        self._mark_point()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Counts, looks for bad losses, and keeps a point when one is due."""
        run, progress = self.run, self.run.progress
        progress.step += run.studio.recipe.compute.steps_per_execution
        self.execution += 1
        if run.listener is not None:
            run.listener(progress.step, logs or {})
        if self.execution % LOOK_EVERY == 0:
            self._check_finite()
        if progress.step < progress.target and self._is_due():
            self._point()
            if progress.step >= progress.schedule.total_steps:
                self.model.stop_training = True

    def on_test_begin(self, logs: Any = None) -> None:
        """Ends timing training."""
        self._close_training()

    def on_test_end(self, logs: Any = None) -> None:
        """Takes the cost of an evaluation over."""
        run = self.run
        seconds = run.budget.clock() - self.opened
        run.progress.seconds["evaluation"] += seconds
        run.costs = dataclasses.replace(run.costs, evaluation=seconds)
        self._open()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Keeps history and best weights, plans again, and ends the run when it is over."""
        run, progress = self.run, self.run.progress
        self._check_finite()
        if not self.model.stop_training and progress.step != progress.target:
            raise RuntimeError(
                f"Keras ended a segment at step {progress.step}, not at {progress.target}."
            )
        rate = run.studio.trainer.optimizer.learning_rate
        values = {k: float(v) for k, v in (logs or {}).items()}
        progress.note(
            {
                "epoch": progress.step / progress.schedule.steps_per_epoch,
                "learning_rate": float(host(rate)),
                **values,
            }
        )
        progress.segment += 1
        self._follow_rate()
        stopped_by_user = self.model.stop_training and progress.step < progress.target
        stopped_by_user |= self.model.stop_training and not progress.is_last
        early = self._judge(values)
        self._point()
        if progress.step >= progress.schedule.total_steps:
            progress.reason = FINISHED
        elif early:
            progress.reason = STOPPED_EARLY
        elif stopped_by_user:
            progress.reason = STOPPED_BY_CALLBACK
        if progress.reason:
            self.model.stop_training = True
            run.store_point()

    def _judge(self, values: Mapping[str, float]) -> bool:
        """Keeps the best weights; says whether to stop early."""
        run, progress, problem = self.run, self.run.progress, self.run.studio.problem
        settings = run.studio.recipe.regularization
        value = values.get(problem.monitor)
        if value is None or not math.isfinite(value):
            return False
        better = progress.best is None or (
            value > progress.best[0] if problem.mode == "max" else value < progress.best[0]
        )
        if better:
            progress.best = (value, progress.step)
            with run.studio.trainer.averaged():
                run.best_weights = snapshot.capture(run.studio.trainer, ["model"])
        # Prechelt's criteria want an error: a share of 1 missed where more is better.
        progress.errors.append(1.0 - value if problem.mode == "max" else value)
        progress.losses.append(values.get("loss", math.nan))
        criterion = CRITERIA.get(settings.early_stopping)
        if criterion is None:
            return False
        return criterion(progress.errors, progress.losses, settings.early_stopping_threshold)

    def _follow_rate(self) -> None:
        """Lets a callback that changed the optimizer's rate change the schedule's peak."""
        trainer = self.run.studio.trainer
        controls = trainer.controls
        assert controls is not None
        if not has_free_rate(trainer.optimizer) or self.run.progress.step == 0:
            return
        set_by_step = float(host(controls.latest))
        now = float(host(trainer.optimizer.learning_rate))
        if set_by_step > 0.0 and abs(now / set_by_step - 1.0) > 1e-6:
            controls.peak.assign(controls.peak.value * (now / set_by_step))
            controls.latest.assign(now)
            self.run.progress.events.append(
                f"A callback changed the learning rate by a factor of {now / set_by_step:.3g} at "
                f"step {self.run.progress.step:,}; the rest of the schedule follows."
            )

    def _check_finite(self) -> None:
        controls = self.run.studio.trainer.controls
        if controls is not None and int(host(controls.bad)) > 0:
            raise NotFiniteError

    # -- Points --------------------------------------------------------------------------

    def _point(self) -> None:
        self._check_finite()
        self._close_training()
        run = self.run
        run.plan_again()
        run.store_point()
        self._mark_point()

    def _mark_point(self) -> None:
        self._open()
        progress = self.run.progress
        self.point_time = self.opened
        self.pace_seconds, self.pace_step = 0.0, progress.step
        left = progress.schedule.total_steps - progress.step
        self.next_point = progress.step + max(1, left // 2)

    def _is_due(self) -> bool:
        run, progress = self.run, self.run.progress
        waited = run.budget.clock() - self.point_time
        if waited >= max(STORE_SECONDS, STORE_SHARE * run.costs.snapshot):
            return True
        total = progress.schedule.total_steps
        fine = total - progress.step > FINEST * total
        return (
            run.budget.seconds is not None
            and progress.is_last
            and fine
            and progress.step >= self.next_point
        )

    def _open(self) -> None:
        """Begins to time training."""
        self.opened = self.run.budget.clock()
        self.opened_step = self.run.progress.step

    def _close_training(self) -> None:
        """Ends timing training, and takes the pace over into the costs."""
        run = self.run
        seconds = run.budget.clock() - self.opened
        run.progress.seconds["training"] += seconds
        self.pace_seconds += seconds
        steps = run.progress.step - self.pace_step
        if steps >= PACE_STEPS:
            run.costs = dataclasses.replace(run.costs, step=self.pace_seconds / steps)
        self._open()
