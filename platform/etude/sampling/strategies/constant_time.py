"""As many draws as leave the time of a step as it is."""

from __future__ import annotations

from typing import Any

from keras import ops

from etude.sampling import probabilities
from etude.sampling.strategies._base import Numbers, Presampled, at_most


class ConstantTime(Presampled):
    """Draws b · (1 - k φ) samples by the upper bound, so that scores cost nothing beside.

    φ is what scoring a batch takes of a step; at least an eighth of the batch is drawn. (From the
    library of Katharopoulos & Fleuret, where φ is taken for a third.)
    """

    name = "constant_time"
    score = "bound"
    unbiased = True
    gated = True
    resizes = True
    presample = 1.5

    def break_even(self, presample: float, forward: float) -> float:
        """As `Presampled.break_even`."""
        return probabilities.break_even_of_fewer(presample, forward, self.draws)

    def count(self, chances: Any, batch: Any, numbers: Numbers) -> Any:
        """b · (1 - k φ), rounded."""
        size = ops.cast(batch, "float32")
        presample = ops.cast(ops.size(chances), "float32") / size
        return at_most(ops.round(size * (1.0 - presample * numbers.forward)), batch)
