"""Sampling by how quickly each sample is forgotten."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from keras import ops

from etude.sampling import probabilities
from etude.sampling.strategies._base import Numbers, Remembering, Tables, latest, powers

DECAY = 0.5
"""What the speed of forgetting keeps at a visit: runs have tens of visits of a sample, not more."""


class Forgetting(Remembering):
    """Draws by the rank of what each sample's bound must have become since its last visit.

    A visit that finds a sample worse than the last one did says that it is being forgotten, and
    how quickly: r ← γ r + (1 - γ) (g - g') / (t - t'), with scores g at step t and g' at t' before.
    What is expected now is g + r (t - t'), never below 0. Chances are in proportion to its
    percentile rank to the power β, which is the exponent; a tenth of them is spread evenly, and
    what was never seen comes first. Draws have no weights, so that the first twentieth and the
    last tenth of a run are uniform, as in fast selection. (The thesis' future work, section 5.2.3,
    which says what and not how: the formula is ours.)
    """

    name = "forgetting"
    score = "bound"
    unbiased = False
    uniform = 0.1
    warm_up = 0.05
    cool_down = 0.1

    def start(self, size: int, classes: npt.NDArray[Any] | None) -> dict[str, npt.NDArray[Any]]:
        """Nothing seen; `seen` is the step of the last visit, from 1, and `now` the latest one."""
        zeros = np.zeros(size, np.float32)
        return {
            "scores": zeros,
            "speeds": zeros.copy(),
            "seen": zeros.copy(),
            "now": np.zeros(1, np.float32),
        }

    def probabilities(self, tables: Tables, numbers: Numbers, share: Any) -> Any:
        """Rank^β of what is expected, over the sum."""
        away = tables["now"] - tables["seen"]
        expected = ops.maximum(tables["scores"] + tables["speeds"] * away, 0.0)
        known = tables["seen"] > 0.0
        largest = float(np.finfo(np.float32).max)
        expected = ops.where(known, ops.minimum(expected, 0.5 * largest), largest)
        return powers(probabilities.percentile_ranks(expected), numbers)

    def updated(
        self, tables: Tables, drawn: Any, scores: Any, chances: Any, numbers: Numbers
    ) -> Tables:
        """Notes the drawn, and how quickly they became what they are."""
        now = tables["now"] + 1.0
        seen = ops.take(tables["seen"], drawn, axis=0)
        speeds = ops.take(tables["speeds"], drawn, axis=0)
        change = (scores - ops.take(tables["scores"], drawn, axis=0)) / (now - seen)
        # A first change has none before it to be averaged with.
        first = ops.equal(speeds, 0.0)
        moved = ops.where(first, change, DECAY * speeds + (1.0 - DECAY) * change)
        moved = ops.where(seen > 0.0, moved, 0.0)
        return {
            "scores": latest(tables["scores"], drawn, scores),
            "speeds": latest(tables["speeds"], drawn, moved),
            "seen": latest(tables["seen"], drawn, ops.broadcast_to(now, ops.shape(drawn))),
            "now": now,
        }

    def weights(self, chances: Any, drawn: Any, numbers: Numbers, share: Any) -> Any:
        """Ones."""
        return ops.ones_like(ops.cast(drawn, "float32"))
