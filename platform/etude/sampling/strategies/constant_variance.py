"""As many draws as give the variance of a uniform batch."""

from __future__ import annotations

from typing import Any

from etude.sampling import probabilities
from etude.sampling.strategies._base import Presampled


class ConstantVariance(Presampled):
    """Draws b / (τ² v) samples by the upper bound: the same variance for a cheaper step.

    v is what drawing B = k b first leaves of a uniform batch's variance for the draws to add.
    (From the library of Katharopoulos & Fleuret, where v is 1.) It pays only while scoring B takes
    less than a step, k φ < 1, so that k is 2 by default.
    """

    name = "constant_variance"
    score = "bound"
    unbiased = True
    gated = True
    presample = 2.0
    resizes = True

    def share(self, tau: Any, presample: Any, forward: Any, fixed: Any) -> Any:
        """1 / (τ² v)."""
        return 1.0 / (tau**2 * probabilities.variance_left(presample, self.draws))
