"""The callback that leads Keras' loop through the segments and stored points of a run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras

from etude.optim._registry import has_free_rate
from etude.training import _keras_compat, noise_scale, snapshot
from etude.training.best_evaluation import Best, is_better
from etude.training.early_stopping import CRITERIA
from etude.training.progress import FINISHED, STOPPED_BY_CALLBACK, STOPPED_EARLY
from etude.training.values import host

if TYPE_CHECKING:
    from etude.training.run import Run

# Active seconds between two stored states, at least.
STORE_SECONDS = 20.0
# A stored point takes at most a fiftieth of the time between two of them.
STORE_SHARE = 50.0
# The last stretch is planned again at half, quarter, … of what is left, down to this share.
FINEST = 0.01
# Executions between two looks at the count of bad losses, which waits for the device.
LOOK_EVERY = 20
# So many changes of the rate by callbacks are told one by one.
FOLLOWED_SAID = 5
# Fewer steps than these say little about the pace.
PACE_STEPS = 10


class NotFiniteError(Exception):
    """The loss turned NaN or infinite."""


class Opening(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
    """Restores a state that was stored between two segments, before the user's callbacks.

    What they do as a segment begins, such as setting its learning rate, came after that state.
    A state from within a segment already holds it: there the conductor restores, after them.
    """

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Restores what is pending, where a segment is about to begin."""
        if self.run.at_boundary:
            self.run.restore_pending()


class Conductor(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
    """Leads Keras' loop through the segments of a run."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run
        self.execution = 0
        self.first_window = 0
        hooks = ("on_train_batch_begin", "on_train_batch_end")
        # Only then is it worth to read the rate before every step, which waits for the device.
        self.rate_may_change = any(
            getattr(type(callback), hook) is not getattr(keras.callbacks.Callback, hook)
            for callback in run.callbacks
            for hook in hooks
            if isinstance(callback, keras.callbacks.Callback)
        )
        self._mark_point()

    def on_train_begin(self, logs: Any = None) -> None:
        """Tells callbacks how many segments there will be; the loop itself is open-ended."""
        schedule = self.run.progress.schedule
        # One mapping is shared by all callbacks.
        self.params["epochs"] = math.ceil(schedule.total_steps / schedule.segment - 0.25)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Restores what is pending, and sets how long the segment is."""
        run, progress = self.run, self.run.progress
        run.restore_pending()
        if progress.step >= progress.target:
            progress.target = progress.next_target()
        trainer = run.studio.trainer
        _keras_compat.set_epoch_length(trainer.epoch_iterator, progress.target - progress.step)
        if progress.is_last or (progress.segment + 1) % progress.schedule.evaluate_every == 0:
            run.evaluate_at(epoch + 1)
        if trainer.meter is not None:
            self.first_window = trainer.meter.done
        self._follow_rate()
        self._mark_point()

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Lets callbacks that set the rate before or after every step have their way."""
        if self.rate_may_change:
            self._follow_rate()

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
            # A plan made within the segment may end it before Keras would.
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
                **self._noise_scale(),
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

    def _noise_scale(self) -> dict[str, float]:
        """The gradient noise scale of the segment, NaN where its windows do not tell it."""
        meter = self.run.studio.trainer.meter
        if meter is None:
            return {}
        small, large = meter.norms(self.first_window)
        found = noise_scale.measured(small, large, self.run.studio.recipe.compute.batch_size)
        return {"noise_scale": math.nan if found is None else found}

    def _judge(self, values: Mapping[str, float]) -> bool:
        """Keeps the best weights; says whether to stop early."""
        run, progress, problem = self.run, self.run.progress, self.run.studio.problem
        settings = run.studio.recipe.regularization
        value = values.get(problem.monitor)
        if value is None or not math.isfinite(value):
            return False
        # Prechelt's criteria want an error: a share of 1 missed where more is better.
        progress.errors.append(1.0 - value if problem.mode == "max" else value)
        progress.losses.append(values.get("loss", math.nan))
        best = None if progress.best is None else progress.best.place
        if is_better(progress.errors, best):
            rows = len(progress.history["epoch"])
            progress.best = Best(len(progress.errors) - 1, progress.step, rows - 1)
            with run.studio.trainer.averaged():
                run.best_weights = snapshot.capture(run.studio.trainer, ["model"])
        criterion = CRITERIA.get(settings.early_stopping)
        if criterion is None:
            return False
        return criterion(progress.errors, progress.losses, settings.early_stopping_threshold)

    def _follow_rate(self) -> None:
        """Lets a callback that changed the optimizer's rate change the schedule's peak."""
        trainer = self.run.studio.trainer
        controls = trainer.controls
        assert controls is not None
        if not has_free_rate(trainer.optimizer):
            return
        set_by_step = float(host(controls.latest))
        now = float(host(trainer.optimizer.learning_rate))
        if set_by_step > 0.0 and abs(now / set_by_step - 1.0) > 1e-6:
            constant = self.run.studio.recipe.optimization.schedule == "constant"
            peak = now if constant else float(host(controls.peak)) * (now / set_by_step)
            controls.peak.assign(peak)
            controls.latest.assign(now)
            progress = self.run.progress
            if progress.followed < FOLLOWED_SAID:
                progress.events.append(
                    "A callback changed the learning rate by a factor of "
                    f"{now / set_by_step:.3g} at step {progress.step:,}; the rest of the schedule "
                    "follows."
                )
            elif progress.followed == FOLLOWED_SAID:
                progress.events.append("Callbacks changed the learning rate again after that.")
            progress.followed += 1

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
        progress = run.progress
        if progress.step < progress.target and progress.is_last:
            run.evaluate_at(progress.segment + 1)  # a segment made the last one by this plan
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
