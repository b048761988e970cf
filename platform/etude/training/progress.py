"""Where a run stands: plain values, stored with every state."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from etude.budget import Schedule
from etude.training.best_evaluation import Best

FINISHED = "schedule finished"
STOPPED_EARLY = "stopped early"
STOPPED_BY_CALLBACK = "stopped by a callback"
INTERRUPTED = "interrupted"
NOT_FINITE = "loss not finite"


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
        best: The best evaluation, if there was any.
        errors: Validation errors, one per evaluation.
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
    best: Best | None = None
    errors: list[float] = dataclasses.field(default_factory=list)
    losses: list[float] = dataclasses.field(default_factory=list)
    retries: int = 0
    events: list[str] = dataclasses.field(default_factory=list)
    reason: str = ""
    accumulate: int = 1
    followed: int = 0
    callbacks: list[Any] = dataclasses.field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Progress:
        """What `to_dict` gave."""
        fields = copy.deepcopy(dict(data))
        fields["schedule"] = Schedule.from_dict(fields["schedule"])
        fields["best"] = None if fields["best"] is None else Best(*fields["best"])
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
