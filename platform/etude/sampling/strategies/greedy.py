"""The hardest samples alone: a baseline, which does harm."""

from __future__ import annotations

from typing import Any

from etude.sampling import drawing, probabilities
from etude.sampling.strategies._base import Numbers, Selecting, powers


class Greedy(Selecting):
    """Keeps the samples of the highest losses (thesis, table 4.4)."""

    name = "greedy"
    warm_up = 0.05
    cool_down = 0.1

    def probabilities(self, scores: Any, numbers: Numbers) -> Any:
        """In the order of the losses; only that counts."""
        return powers(probabilities.percentile_ranks(scores), numbers)

    def drawn(self, chances: Any, count: Any, uniform: Any) -> Any:
        """The likeliest."""
        return drawing.highest(chances, count)
