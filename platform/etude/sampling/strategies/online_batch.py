"""Online batch selection: by the rank of the loss that each sample had last."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from keras import ops

from etude.sampling.strategies._base import Numbers, Remembering, Tables, latest


class OnlineBatch(Remembering):
    """Draws by the rank of the latest loss: the hardest is drawn s times as often as the easiest.

    p(rank i) ∝ exp(-log(s) i / N), and s falls to 1 over the run, on a logarithmic scale. log₁₀ s
    is the exponent. What was never seen comes first. Draws have no weights. (Loshchilov & Hutter
    2015, whose losses of all samples are computed anew from time to time; here they are not.)
    """

    name = "online_batch"
    score = "loss"
    unbiased = False
    exponent = 2.0

    def start(self, size: int, classes: npt.NDArray[Any] | None) -> dict[str, npt.NDArray[Any]]:
        """Losses beyond any that occur, in an order of their own: sets may be sorted by class."""
        largest = np.finfo(np.float32).max
        return {"losses": (np.random.default_rng(0).uniform(0.5, 1.0, size) * largest).astype("f4")}

    def probabilities(self, tables: Tables, numbers: Numbers, share: Any) -> Any:
        """s^(-rank / N), over the sum."""
        losses = tables["losses"]
        size = ops.cast(ops.size(losses), "float32")
        rank = ops.cast(ops.argsort(ops.argsort(-losses)), "float32")
        pressure = numbers.exponent * (1.0 - share) * float(np.log(10.0))
        powers = ops.exp(-pressure * rank / size)
        return powers / ops.sum(powers)

    def updated(
        self, tables: Tables, drawn: Any, scores: Any, chances: Any, numbers: Numbers
    ) -> Tables:
        """Notes the losses."""
        return {"losses": latest(tables["losses"], drawn, scores)}

    def weights(self, chances: Any, drawn: Any, numbers: Numbers, share: Any) -> Any:
        """Ones."""
        return ops.ones_like(ops.cast(drawn, "float32"))
