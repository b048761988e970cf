"""DINO: say how a slower copy of the network sorts the other view."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from keras import ops

from etude.ssl.objectives._base import Head, Objective, State


class DINO(Objective):
    """The cross-entropy of a sharper, centred sorting and the network's own.

    Caron et al. 2021, equations 2 and 4. What is sorted by are cosines (their appendix C): over
    temperatures as low as these, products of any length are one-sided from the first step.

    Args:
        student: Temperature of the view that is asked.
        teacher: Of the other, sharper.
        kept: What the centre keeps of itself in a step.
    """

    name = "dino"
    target = "momentum"
    projector = Head((512, 512, 256, 1024), cosines=True)
    keep = 0.996

    def __init__(self, student: float = 0.1, teacher: float = 0.04, kept: float = 0.9) -> None:
        self.student, self.teacher, self.kept = student, teacher, kept

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """The centre: the mean of what the copy says."""
        return {"centre": np.zeros(self.projector.widths[-1], np.float32)}

    def losses(self, asked: Any, target: Any, state: State) -> Any:
        """As `Objective.losses`."""
        target = ops.cast(target, "float32") - state["centre"]
        wanted = ops.softmax(target / self.teacher, axis=-1)
        said = ops.log_softmax(ops.cast(asked, "float32") / self.student, axis=-1)
        return -ops.sum(wanted * said, axis=-1)

    def updated(self, state: State, target: Any) -> dict[str, Any]:
        """As `Objective.updated`."""
        mean = ops.mean(ops.cast(target, "float32"), axis=0)
        return {"centre": self.kept * state["centre"] + (1.0 - self.kept) * mean}
