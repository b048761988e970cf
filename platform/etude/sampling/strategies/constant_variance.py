"""As many draws as give the variance of a uniform batch."""

from __future__ import annotations

from typing import Any

from keras import ops

from etude.sampling import probabilities
from etude.sampling.strategies._base import Numbers, Presampled, at_most


class ConstantVariance(Presampled):
    """Draws b / (τ² v) samples by the upper bound: the same variance for a cheaper step.

    v is what drawing B = k b first leaves of a uniform batch's variance for the draws to add. At
    least an eighth of the batch. (From the library of Katharopoulos & Fleuret, where v is 1.) It
    pays only while scoring B takes less than a step, k φ < 1, so that k is 2 by default.
    """

    name = "constant_variance"
    score = "bound"
    unbiased = True
    gated = True
    presample = 2.0
    resizes = True

    def break_even(self, presample: float, forward: float) -> float:
        """As `Presampled.break_even`."""
        return probabilities.break_even_of_fewer(presample, forward, self.draws)

    def count(self, chances: Any, batch: Any, numbers: Numbers) -> Any:
        """b / (τ² v), rounded up."""
        size = ops.cast(batch, "float32")
        q = probabilities.POWERS[self.draws]
        spent = ops.power(size / ops.cast(ops.size(chances), "float32"), q)
        rest = ops.power(ops.maximum(1.0 - spent, 0.0), 1.0 / q)  # `variance_left`, of tensors
        wanted = size / (ops.square(probabilities.tau(chances)) * ops.maximum(rest, 1e-6))
        return at_most(ops.ceil(wanted - 1e-3), batch)
