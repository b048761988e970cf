"""Bandit sampling: chances move against the variance that each sample brings."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from keras import ops

from etude.sampling.strategies._base import Numbers, Remembering, Tables

LEAST = 0.2
"""The least chance of a sample, as a share of the even one."""
MOST = 1.0
"""How far the logarithm of a chance moves in a step, at most."""


class Bandit(Remembering):
    """Draws by chances that exponentiated gradient steps move, weighted by 1 / (N p).

    Of a drawn sample the loss is l = -g² / p² + L² / p_min², with g the bound of its gradient's
    norm and L the largest g that was seen; its estimate over all draws is ĥ = l · count / (K p);
    then p ← p exp(-α ĥ), and the nearest to that with no chance below p_min. α is the exponent,
    over N L² / p_min², so that it has no unit. (AdamBS, Liu et al. 2020. Their code leaves out
    L² / p_min², K and the weights, and cuts chances off where the nearest are asked for.)
    """

    name = "bandit"
    score = "bound"
    unbiased = True
    exponent = 1.0

    def start(self, size: int, classes: npt.NDArray[Any] | None) -> dict[str, npt.NDArray[Any]]:
        """Even chances."""
        return {
            "chances": np.full(size, 1.0 / size, np.float32),
            "largest": np.zeros((), np.float32),
        }

    def probabilities(self, tables: Tables, numbers: Numbers, share: Any) -> Any:
        """The chances."""
        return tables["chances"]

    def updated(
        self, tables: Tables, drawn: Any, scores: Any, chances: Any, numbers: Numbers
    ) -> Tables:
        """A step on the drawn samples' chances, and the projection."""
        own = tables["chances"]
        size = own.shape[0]
        largest = ops.maximum(tables["largest"], ops.max(scores))
        moved = moves(ops.take(chances, drawn, axis=0), scores, largest, size, numbers.exponent)
        # Of a sample that was drawn often, the moves add up.
        total = ops.segment_sum(moved, ops.cast(drawn, "int32"), size)
        logs = ops.log(own) - ops.clip(total, 0.0, MOST)
        return {"chances": projected(ops.exp(logs), LEAST / size), "largest": largest}


def moves(chances: Any, scores: Any, largest: Any, size: int, rate: Any) -> Any:
    """α ĥ of each draw, `(batch,)`: what is taken from the logarithm of its chance, not negative.

    Args:
        chances: `(batch,)`, of the drawn samples.
        scores: `(batch,)`, the bounds of their gradients' norms.
        largest: The largest bound so far.
        size: Of the set.
        rate: α, over N L² / p_min².
    """
    least = LEAST / size
    # (L² / p_min² - g² / p²) / (L² / p_min²), which is in [0, 1].
    share = 1.0 - ops.square(ops.divide_no_nan(scores, largest) * least / chances)
    draws = ops.cast(ops.size(chances), "float32")
    return rate * share / (draws * chances * size)


def projected(weights: Any, least: Any) -> Any:
    """The distribution nearest to weights, by relative entropy, with no chance below the least.

    max(p_min, c w), where c makes the sum 1: for the m largest of n weights it is
    (1 - (n - m) p_min) / (their sum), and m is the largest number for which the least of these
    stays at or above p_min.

    Args:
        weights: `(size,)`, above 0.
        least: p_min, below 1 / size.
    """
    size = ops.size(weights)
    order = ops.flip(ops.sort(ops.cast(weights, "float32")))
    kept = ops.cast(ops.arange(1, size + 1), "float32")
    rest = 1.0 - (ops.cast(size, "float32") - kept) * least
    factor = rest / ops.cumsum(order)
    fits = ops.cast(factor * order >= least, "int32")
    chosen = ops.max(fits * ops.arange(size))
    return ops.maximum(weights * ops.take(factor, chosen, axis=0), least)
