"""Importance sampling whose weights are flattened, so that hard samples count for more."""

from __future__ import annotations

from typing import Any

from keras import ops

from etude.sampling.strategies._base import Numbers, Presampled


class Biased(Presampled):
    """As the upper bound, with weights (1 / (B p))^k, scaled to a mean of 1.

    The exponent is k: 1 is unbiased, 0 weighs all draws alike, below 0 those most that were the
    likeliest. (The authors' library; there it goes by the bound too, whatever its documentation
    says.)
    """

    name = "biased"
    score = "bound"
    unbiased = False
    gated = True
    exponent = 0.5

    def weights(self, chances: Any, drawn: Any, numbers: Numbers) -> Any:
        """`(1 / (B p))^k`, over what that is on average."""
        whole = ops.cast(ops.size(chances), "float32") * chances
        able = chances > 0.0  # the others are not drawn
        inverse = 1.0 / ops.where(able, whole, 1.0)
        powers = ops.where(able, ops.power(inverse, numbers.exponent), 0.0)
        return ops.take(powers / ops.sum(chances * powers), drawn, axis=0)
