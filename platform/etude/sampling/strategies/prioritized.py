"""Prioritized sampling: in proportion to a power of the loss that each sample had last."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from keras import ops

from etude.sampling import probabilities
from etude.sampling.strategies._base import Numbers, Remembering, Tables, latest

BETA = 0.5
"""The power of the correction at the start of a run; it rises to 1."""
LEAST = 1e-3
"""What is added to each priority, as a share of the mean, so that none is never drawn again."""


class Prioritized(Remembering):
    """Draws in proportion to the latest loss to the power α, which is the exponent.

    Weights are (1 / (N p))^β over the largest of the batch, β rising to 1: the correction is whole
    at the end alone, and never more than 1. A sample that was not seen has the priority of the
    hardest so far. (Schaul et al. 2016, proportional.)
    """

    name = "prioritized"
    score = "loss"
    unbiased = False
    exponent = 0.5

    def start(self, size: int, classes: npt.NDArray[Any] | None) -> dict[str, npt.NDArray[Any]]:
        """Nothing seen."""
        return {"losses": np.full(size, -1.0, np.float32)}

    def probabilities(self, tables: Tables, numbers: Numbers, share: Any) -> Any:
        """Priority^α, over the sum."""
        losses = tables["losses"]
        hardest = ops.maximum(ops.max(losses), 0.0)
        priority = ops.where(losses < 0.0, hardest, losses)
        priority = priority + LEAST * ops.mean(priority)
        return probabilities.mixed(
            probabilities.proportional(ops.power(priority, numbers.exponent)), numbers.uniform
        )

    def updated(
        self, tables: Tables, drawn: Any, scores: Any, chances: Any, numbers: Numbers
    ) -> Tables:
        """Notes the losses."""
        return {"losses": latest(tables["losses"], drawn, scores)}

    def weights(self, chances: Any, drawn: Any, numbers: Numbers, share: Any) -> Any:
        """`(1 / (N p))^β`, over the largest."""
        whole = probabilities.weights(chances, drawn)
        raised = ops.power(whole, BETA + (1.0 - BETA) * share)
        return raised / ops.max(raised)
