"""Sampling by a moving mean of each sample's losses."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from keras import ops

from etude.sampling import probabilities
from etude.sampling.strategies._base import Numbers, Remembering, Tables, counts, latest

DECAY = 0.9
"""What a mean keeps at a visit."""


class LossMomentum(Remembering):
    """Draws in proportion to a moving mean of each sample's losses, weighted by 1 / (N p).

    m ← γ m + (1 - γ) ℓ at each visit, over 1 - γ^t after t visits of that sample. (Bag of Tricks,
    algorithm 2, whose t counts the visits of no sample, and whose draws have no weights.) The
    exponent is a power of that mean; a tenth of all chances is spread evenly, since a sample whose
    mean is near 0 would hardly be seen again.
    """

    name = "loss_momentum"
    score = "loss"
    unbiased = True
    uniform = 0.1

    def start(self, size: int, classes: npt.NDArray[Any] | None) -> dict[str, npt.NDArray[Any]]:
        """Nothing seen."""
        return {"means": np.zeros(size, np.float32), "visits": np.zeros(size, np.float32)}

    def probabilities(self, tables: Tables, numbers: Numbers, share: Any) -> Any:
        """The means, corrected for their start; what was not seen has the mean of what was."""
        visits = tables["visits"]
        seen = visits > 0.0
        means = ops.divide_no_nan(tables["means"], 1.0 - ops.power(DECAY, visits))
        usual = ops.divide_no_nan(
            ops.sum(ops.where(seen, means, 0.0)), ops.sum(ops.cast(seen, "float32"))
        )
        powers = ops.power(ops.where(seen, means, usual), numbers.exponent)
        return probabilities.mixed(probabilities.proportional(powers), numbers.uniform)

    def updated(
        self, tables: Tables, drawn: Any, scores: Any, chances: Any, numbers: Numbers
    ) -> Tables:
        """Moves the means of the drawn, once for all draws of one sample."""
        means, visits = tables["means"], tables["visits"]
        moved = DECAY * ops.take(means, drawn, axis=0) + (1.0 - DECAY) * scores
        once = ops.minimum(counts(means.shape[0], drawn), 1.0)
        return {"means": latest(means, drawn, moved), "visits": visits + once}
