"""Fast online minibatch selection: hard samples by the rank of their loss."""

from __future__ import annotations

from typing import Any

from etude.sampling import probabilities
from etude.sampling.strategies._base import Numbers, Selecting, powers


class FastSelection(Selecting):
    """Draws by the percentile rank of the loss to the power β, which is the exponent.

    The gradient is not that of all samples, so that the last tenth of a run is uniform. Losses may
    be taken at a lower resolution. (Efficient Training thesis, chapter 4, algorithm 2.)
    """

    name = "fast_selection"
    warm_up = 0.05
    cool_down = 0.1
    low = True

    def probabilities(self, scores: Any, numbers: Numbers) -> Any:
        """Rank^β, over the sum."""
        return powers(probabilities.percentile_ranks(scores), numbers)


class FastBound(FastSelection):
    """As fast selection, by the bound of gradients in the place of the loss.

    The thesis' future work (section 4.5). A bound has a most: of samples that are all wrong, the
    one with the largest loss is hardly preferred.
    """

    name = "fast_bound"
    score = "bound"
