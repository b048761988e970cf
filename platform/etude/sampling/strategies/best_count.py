"""As many draws as take most variance away for what they cost."""

from __future__ import annotations

from typing import Any

from etude.sampling import probabilities
from etude.sampling.strategies._base import Presampled


class BestCount(Presampled):
    """Draws by the upper bound, b · (a k² / τ⁴)^⅓ samples: fewer, the less alike samples are.

    Where a few samples matter, few draws have nearly all that drawing from k b gives, and a step
    is as much cheaper. a = (k φ + f) / (1 - f) is what it costs whatever is drawn, over what b
    draws cost: φ is what scoring a batch takes of a step, f what a step takes whatever it is on.
    """

    name = "best_count"
    score = "bound"
    unbiased = True
    gated = True
    resizes = True

    def share(self, tau: Any, presample: Any, forward: Any, fixed: Any) -> Any:
        """As `probabilities.best_share`."""
        return probabilities.best_share(tau, presample, forward, fixed, self.draws)
