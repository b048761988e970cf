"""Stochastic gradients whose variance is taken away by one at an anchor.

g - g̃ + μ: the gradient of a batch, less that of the same batch at weights from a while ago (the
anchor), and in its place the mean gradient of a large batch there. At the anchor it has no
variance; with the distance from it that grows. Large batches cost what as many steps do, which deep
networks do not earn back (Katharopoulos & Fleuret 2018, appendix C): they are here to be compared.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping, Sequence
from typing import Any

from keras import ops

TAU = 0.5
"""What Katyusha's iterate keeps of z, and as much of the anchor (τ₁ and τ₂)."""


@dataclasses.dataclass(frozen=True)
class Reduction:
    """How the variance is reduced.

    Attributes:
        name: By which a recipe asks for it.
        whole: Whether the large batch is the whole set; else a random part, which grows.
        presample: How many batches a first random part has.
        growth: By which factor it grows from one to the next.
        accelerated: Whether iterates are coupled, in the place of the optimizer's update.
    """

    name: str
    whole: bool = True
    presample: float = 10.0
    growth: float = 1.0
    accelerated: bool = False


REDUCTIONS: Mapping[str, Reduction] = types.MappingProxyType(
    {
        reduction.name: reduction
        for reduction in (
            Reduction("svrg"),  # Johnson & Zhang 2013
            Reduction("katyusha", accelerated=True),  # Allen-Zhu 2017
            Reduction("scsg", whole=False, growth=1.2),  # Lei et al. 2017
        )
    }
)
"""The methods, by their names."""


def corrected(gradients: Sequence[Any], anchored: Sequence[Any], mean: Sequence[Any]) -> list[Any]:
    """g - g̃ + μ, weight by weight; `None` where there is no gradient.

    Args:
        gradients: Of a batch.
        anchored: Of the same batch, at the anchor.
        mean: Of the large batch, at the anchor.
    """
    return [
        None if g is None or a is None else g - ops.cast(a, g.dtype) + ops.cast(m, g.dtype)
        for g, a, m in zip(gradients, anchored, mean, strict=True)
    ]


def coupled(x: Any, y: Any, z: Any, anchor: Any, gradient: Any, rate: Any) -> tuple[Any, Any, Any]:
    """The next (x, y, z) of Katyusha for one weight.

    z ← z - rate / τ₁ · g, y ← x + τ₁ (z - z before), and x ← τ₁ z + τ₂ x̃ + (1 - τ₁ - τ₂) y.
    (Algorithm 1 with option II. The library of Katharopoulos & Fleuret has the sign of z's step the
    other way round.)

    Args:
        x: Where the gradient is of.
        y: The iterate of gradient steps.
        z: The iterate of mirror steps.
        anchor: x̃.
        gradient: The corrected one.
        rate: Of learning.
    """
    after = z - rate / TAU * gradient
    y = x + TAU * (after - z)
    return TAU * after + TAU * anchor + (1.0 - 2.0 * TAU) * y, y, after


def large_batch(reduction: Reduction, size: int, batch: Any, times: Any, presample: Any) -> Any:
    """How many samples the large batch has, int32.

    Args:
        reduction: The method.
        size: Of the set.
        batch: Samples of a step.
        times: How many large batches there were.
        presample: How many batches the first random part has.
    """
    if reduction.whole:
        return ops.cast(size, "int32")
    grown = ops.cast(batch, "float32") * presample
    grown = grown * ops.power(reduction.growth, ops.cast(times, "float32"))
    return ops.cast(ops.clip(ops.round(grown), 1.0, float(size)), "int32")


def steps_between(reduction: Reduction, large: Any, batch: Any, uniform: Any) -> Any:
    """Steps until the next large batch, int32, at least 1.

    As many as see the large batch's samples once; where it is a random part, a number of geometric
    distribution with that mean.

    Args:
        reduction: The method.
        large: Samples of the large batch.
        batch: Samples of a step.
        uniform: A number in [0, 1).
    """
    mean = ops.cast(large, "float32") / ops.cast(batch, "float32")
    if reduction.whole:
        return ops.cast(ops.maximum(ops.ceil(mean), 1.0), "int32")
    # P(steps > n) = q^n, where the mean is 1 / (1 - q).
    kept = 1.0 - 1.0 / ops.maximum(mean, 1.0 + 1e-6)
    found = ops.log(1.0 - uniform) / ops.log(ops.maximum(kept, 1e-30))
    return ops.cast(ops.maximum(ops.ceil(found), 1.0), "int32")
