"""As many draws as leave the time of a step as it is."""

from __future__ import annotations

from typing import Any

from etude.sampling.strategies._base import Presampled


class ConstantTime(Presampled):
    """Draws b · (1 - k φ / (1 - f)) samples by the upper bound, so that scores cost nothing beside.

    φ is what scoring a batch takes of a step, f what a step takes whatever it is on. (From the
    library of Katharopoulos & Fleuret, where φ is taken for a third and f for 0.)
    """

    name = "constant_time"
    score = "bound"
    unbiased = True
    gated = True
    resizes = True
    presample = 1.5

    def share(self, tau: Any, presample: Any, forward: Any, fixed: Any) -> Any:
        """1 - k φ / (1 - f)."""
        return 1.0 - presample * forward / (1.0 - fixed)
