"""Time: a clock that can be injected, a budget, and the plan that follows from costs."""

from __future__ import annotations

import dataclasses
import math
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from etude.errors import BudgetError

Clock = Callable[[], float]

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}

# What the plan leaves free, so that a machine that slows down a little still ends on time.
MARGIN = 0.03
# Where preparation used the time up, training still gets this share of the budget: a run that
# ends a little late is worth more than none.
LEAST_SHARE = 0.05


def parse_duration(value: str | float | int) -> float:
    """Seconds of `"90"`, `"90s"`, `"10m"`, `"1h30m"`, or a number of seconds.

    Raises:
        BudgetError: The text is no duration, or it is not positive and finite.
    """
    seconds = float("nan")
    if isinstance(value, bool):
        pass
    elif isinstance(value, int | float):
        seconds = float(value)
    elif isinstance(value, str):
        text = value.strip().lower().replace(" ", "")
        parts = re.findall(r"(\d+(?:\.\d*)?|\.\d+)(min|[smhd]?)", text)
        whole = "".join(number + unit for number, unit in parts) == text
        if parts and whole and (len(parts) == 1 or all(unit for _, unit in parts)):
            seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if not (math.isfinite(seconds) and seconds > 0):
        raise BudgetError(
            "The time budget is not a duration.",
            required="a positive number of seconds, or text such as '90s', '10m', '1h30m'",
            received=repr(value),
            advice="write it as `time_budget='10m'`",
        )
    return seconds


def parse_bytes(value: str | int) -> int:
    """Bytes of `4294967296`, `"4GiB"`, `"500MB"`.

    Raises:
        BudgetError: It is no size.
    """
    units = {"": 1, "b": 1}
    for power, letter in enumerate("kmgt", start=1):
        units |= {letter: 1024**power, f"{letter}ib": 1024**power, f"{letter}b": 1000**power}
    text = str(value).strip().lower().replace(" ", "")
    number = text.rstrip("bikmgt")
    try:
        size = float(number) * units[text[len(number) :]]
    except (ValueError, KeyError):
        size = -1.0
    if not (0 <= size < math.inf):
        raise BudgetError(
            "The memory budget is not a size.",
            required="a number of bytes, or text such as '4GiB'",
            received=repr(value),
            advice="write it as `memory_budget='4GiB'`",
        )
    return int(size)


class Budget:
    """How long a run may take, and how much of it is spent.

    Time is *active* time: a run that was killed and goes on counts only the seconds that
    it worked, up to its last stored state.

    Args:
        seconds: The whole budget; `None` when only epochs bind.
        clock: Returns seconds; `time.monotonic` when left out.
        spent: Active seconds of earlier parts of the same run.
    """

    def __init__(
        self, seconds: float | None = None, *, clock: Clock | None = None, spent: float = 0.0
    ) -> None:
        self.seconds = seconds
        self.clock = clock or time.monotonic
        self._start = self.clock() - spent

    def spent(self) -> float:
        """Active seconds so far."""
        return self.clock() - self._start

    def remaining(self) -> float:
        """Seconds left; infinite when only epochs bind."""
        return math.inf if self.seconds is None else self.seconds - self.spent()

    def resume(self, spent: float) -> None:
        """Counts `spent` seconds of an earlier part of the run in."""
        self._start -= spent


@dataclasses.dataclass(frozen=True)
class CostModel:
    """Measured costs of the running model, in seconds.

    Attributes:
        step: One training step.
        evaluation: One pass over the validation data.
        snapshot: Writing the state once.
        finish: All that comes after the last step: evaluations, files.
        compile: What the first steps took beyond their own cost.
    """

    step: float
    evaluation: float = 0.0
    snapshot: float = 0.0
    finish: float = 0.0
    compile: float = 0.0

    def to_dict(self) -> dict[str, float]:
        """Ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, float]) -> CostModel:
        """What `to_dict` gave."""
        return cls(**data)


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The decisions by time: made once, stored, changed only at stored points.

    Attributes:
        total_steps: Steps of the whole run.
        segment: Steps between two stored points; a fraction where an epoch has one, so
            that the ends are rounded, and not the lengths.
        evaluate_every: Segments between two evaluations; the last segment always has one.
        steps_per_epoch: Steps that see as many samples as the training set has, a float.
        most: Steps that the run may have at most, whatever the time; `None` for any number.
        multiple: Steps per execution: every length is a multiple of it.
        least: Steps that the run has at least, whatever the time.
    """

    total_steps: int
    segment: float
    evaluate_every: int
    steps_per_epoch: float
    most: int | None = None
    multiple: int = 1
    least: int = 0

    def segment_end(self, segment: int, step: int) -> int:
        """The step at which segment `segment` (from 0) ends, when `step` steps are done."""
        end = _multiple((segment + 1) * self.segment, self.multiple)
        end = max(end, step + self.multiple)
        # A last segment of a few steps would cost an evaluation of its own.
        short = self.total_steps - end < self.segment / 4
        return self.total_steps if short else end

    @property
    def epochs(self) -> float:
        """Passes over the training set."""
        return self.total_steps / self.steps_per_epoch

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Schedule:
        """What `to_dict` gave."""
        return cls(**data)


def schedule_epochs(epochs: float, steps_per_epoch: float, multiple: int = 1) -> Schedule:
    """A run of at least so many epochs, each with an evaluation at its end."""
    total = max(1, math.ceil(round(epochs * steps_per_epoch / multiple, 6))) * multiple
    return Schedule(total, max(steps_per_epoch, multiple), 1, steps_per_epoch, multiple=multiple)


def schedule_time(
    seconds: float,
    costs: CostModel,
    steps_per_epoch: float,
    *,
    multiple: int = 1,
    most: float | None = None,
    least: int = 0,
    evaluation_share: float = 0.04,
    segments: int = 10,
) -> Schedule:
    """The longest run that ends within `seconds`, evaluations and files included.

    It has `least` steps, or one execution, even where these do not fit.

    Args:
        seconds: Time left, from now to the very end.
        costs: Measured costs.
        steps_per_epoch: Steps per pass over the training set.
        multiple: Steps per execution: lengths are multiples of it.
        most: Steps that the run may have at most.
        least: Steps that the run has at least.
        evaluation_share: The share of the time that evaluations may take.
        segments: The least number of stored points, so that the plan can be mended.
    """
    most = math.inf if most is None else most
    least = int(min(max(multiple, math.ceil(least / multiple) * multiple), most))
    usable = max(seconds * (1.0 - MARGIN) - costs.finish, least * costs.step)
    without = min(usable / costs.step, most)
    segment = min(steps_per_epoch, without / segments)
    # A stored point should not cost more than a fiftieth of what lies between two.
    segment = min(max(segment, 50.0 * costs.snapshot / costs.step), without)
    segment_steps = _multiple(segment, multiple)
    segment_time = segment_steps * costs.step + costs.snapshot
    every = max(1, math.ceil(costs.evaluation / (evaluation_share * segment_time)))
    per_step = costs.step + (costs.snapshot + costs.evaluation / every) / segment_steps
    # The last evaluation counts in full, wherever the pattern stands then.
    total = min((usable - costs.evaluation) / per_step, most)
    total_steps = max(multiple, least, int(total) // multiple * multiple)
    limit = None if math.isinf(most) else int(most)
    return Schedule(total_steps, segment_steps, every, steps_per_epoch, limit, multiple, least)


def replan(schedule: Schedule, done: int, seconds: float, costs: CostModel) -> Schedule:
    """The same schedule with its end moved to where the time left now leads.

    Args:
        schedule: The plan so far.
        done: Steps done.
        seconds: Time left, from now to the very end.
        costs: The costs as measured since.
    """
    usable = seconds * (1.0 - MARGIN) - costs.finish - costs.evaluation
    per_step = (
        costs.step
        + (costs.snapshot + costs.evaluation / schedule.evaluate_every) / schedule.segment
    )
    left = max(0, int(usable / per_step)) // schedule.multiple * schedule.multiple
    total = max(done + left, schedule.least)
    if schedule.most is not None:
        total = min(total, schedule.most)
    return dataclasses.replace(schedule, total_steps=max(done, total))


def _multiple(steps: float, multiple: int) -> int:
    return max(1, round(steps / multiple)) * multiple
