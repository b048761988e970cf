"""The step's own state: where it is in its schedule, and what it saw.

Every number that a study or a plan may change is a variable, so that changing it never
retraces the step.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from etude.optim import schedules
from etude.recipe import Recipe
from etude.training.values import host

# Losses of the latest steps that are kept on the device; a range test reads them in one go.
CAPACITY = 1024


class Controls:
    """Variables that steer the learning rate, and a record of losses.

    Attributes:
        step: Updates done, int64.
        total, warmup, fraction: Length of the run, of the warm-up in steps, and as a share.
        peak: The schedule's highest rate.
        fixed_momentum, weight_decay: The optimizer's, where it has them.
        batch_norm_momentum: Of the statistics; a negative one leaves each layer its own.
        statistics_pace: How many times as fast these move as their momentum says.
        label_smoothing: Share of a label's mass that is spread, where the step reads it here.
        dropout: Times the rate of dropout layers.
        ramp_low, ramp_high, ramping: The range test's ends, and whether it is on (0 or 1).
        latest: The rate of the latest step, 0 before the first.
        losses: The latest losses, `(CAPACITY,)`, the loss of step s at `s % CAPACITY`.
        bad: Steps so far whose loss was not finite.
    """

    def __init__(self, recipe: Recipe) -> None:
        settings = self.settings = recipe.optimization
        self.step = _variable(0, "int64", "step")
        self.total = _variable(1.0, "float32", "total_steps")
        self.warmup = _variable(float(settings.warmup_steps), "float32", "warmup_steps")
        self.fraction = _variable(settings.warmup_fraction, "float32", "warmup_fraction")
        self.peak = _variable(settings.learning_rate or 0.0, "float32", "peak")
        self.momentum_low = _variable(settings.momentum_low, "float32", "momentum_low")
        self.momentum_high = _variable(settings.momentum_high, "float32", "momentum_high")
        self.fixed_momentum = _variable(settings.momentum or 0.0, "float32", "momentum")
        self.weight_decay = _variable(settings.weight_decay or 0.0, "float32", "weight_decay")
        self.batch_norm_momentum = _variable(-1.0, "float32", "batch_norm_momentum")
        self.statistics_pace = _variable(1.0, "float32", "statistics_pace")
        softness = recipe.regularization
        self.label_smoothing = _variable(softness.label_smoothing, "float32", "label_smoothing")
        self.dropout = _variable(softness.dropout, "float32", "dropout")
        self.ramp_low = _variable(1e-6, "float32", "ramp_low")
        self.ramp_high = _variable(1.0, "float32", "ramp_high")
        self.ramping = _variable(0.0, "float32", "ramping")
        self.latest = _variable(0.0, "float32", "latest_rate")
        self.losses = _variable(np.zeros(CAPACITY, np.float32), "float32", "losses")
        self.bad = _variable(0, "int64", "bad")

    def take_over(
        self,
        recipe: Recipe,
        *,
        rate: Any,
        momentum: float | None,
        weight_decay: float | None,
    ) -> None:
        """Sets the numbers that a recipe states, and those that are the optimizer's.

        Args:
            recipe: The recipe.
            rate: The optimizer's rate; `None` where it has a schedule of its own.
            momentum: The optimizer's; `None` where it has none.
            weight_decay: The optimizer's; `None` where it has none.
        """
        settings = recipe.optimization
        if rate is not None:
            # Known before the first step, so that a change by a callback shows.
            self.latest.assign(rate)
            self.peak.assign(rate if settings.learning_rate is None else settings.learning_rate)
        self.warmup.assign(float(settings.warmup_steps))
        self.fraction.assign(settings.warmup_fraction)
        self.momentum_low.assign(settings.momentum_low)
        self.momentum_high.assign(settings.momentum_high)
        self.fixed_momentum.assign(momentum or 0.0)
        self.weight_decay.assign(weight_decay or 0.0)
        kept = settings.batch_norm_momentum
        self.batch_norm_momentum.assign(-1.0 if kept is None else kept)
        self.label_smoothing.assign(recipe.regularization.label_smoothing)
        self.dropout.assign(recipe.regularization.dropout)

    @property
    def variables(self) -> list[Any]:
        """All of them, in a fixed order."""
        return [v for v in vars(self).values() if isinstance(v, keras.Variable)]

    def progress(self) -> Any:
        """The share of the run that is over before the step about to be done."""
        return ops.cast(self.step, "float32") / ops.maximum(self.total.value, 1.0)

    def share(self) -> Any:
        """The schedule's share of its peak, for the step about to be done."""
        schedule = schedules.SCHEDULES[self.settings.schedule]
        # The middle of the step: neither the first nor the last is spent on a rate of 0.
        t = ops.cast(self.step, "float32") + 0.5
        return schedule(t, self.total.value, self.warmup.value, self.fraction.value)

    def rate(self, share: Any) -> Any:
        """The learning rate of the step about to be done."""
        ramped = schedules.ramp(
            ops.cast(self.step, "float32"),
            self.total.value,
            self.ramp_low.value,
            self.ramp_high.value,
        )
        return ops.where(self.ramping.value > 0.5, ramped, self.peak.value * share)

    def momentum(self, share: Any) -> Any:
        """The momentum of the step about to be done."""
        if not self.settings.cycle_momentum:
            return self.fixed_momentum.value
        return schedules.opposed_momentum(share, self.momentum_low.value, self.momentum_high.value)

    def record(self, loss: Any) -> None:
        """Notes a step's loss and counts the step."""
        loss = ops.cast(loss, "float32")
        index = ops.cast(self.step % CAPACITY, "int32")
        self.losses.assign(
            ops.scatter_update(self.losses, ops.reshape(index, (1, 1)), ops.reshape(loss, (1,)))
        )
        self.bad.assign_add(ops.cast(ops.logical_not(ops.isfinite(loss)), "int64"))
        self.step.assign_add(1)

    def recorded(self, first: int, last: int) -> np.ndarray[Any, Any]:
        """Losses of steps `first` to `last - 1`, at most the latest `CAPACITY`."""
        values = host(self.losses)
        return values[np.arange(max(first, last - CAPACITY), last) % CAPACITY]


def _variable(value: Any, dtype: str, name: str) -> Any:
    return keras.Variable(
        value, dtype=dtype, trainable=False, name=name, aggregation="only_first_replica"
    )
