"""Chances by scores, what drawing by them is worth, and the weights that undo it.

A batch of b samples is drawn from B = k·b that were scored. Its gradient, weighted by 1 / (B p),
is on average that of all B, whatever the probabilities p; its variance is least where p is in
proportion to the norms of the samples' gradients (Katharopoulos & Fleuret 2018).

Of the uniform batch's variance that of B is 1/k, and independent draws add 1 / τ². Draws at even
distances add less, as each sample is drawn b p times up to rounding: where no b p is above 1 they
add 1 / τ² - 1/k, and the variance is 1 / τ² in all; where all of it is in a few samples, 1/k.
"""

from __future__ import annotations

import math
import types
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from keras import ops

from etude.sampling.drawing import Draws

Floats = npt.NDArray[np.float64]

POWERS: Mapping[Draws, float] = types.MappingProxyType({"independent": 1.0, "systematic": 2.0})
"""q of 1 / M^q = 1 / k^q + 1 / τ^(2 q): exact for independent draws of gradients of mean 0.

For systematic ones it lies between the two cases above; of log-normal, gamma-distributed and
two-valued scores of all spreads, k from 1.5 to 6, it is 6 % off on average and a quarter at most.
"""

DROWNED = 1e12
"""A noise scale over the batch that is as good as infinite: the gradient drowns in its noise."""


def proportional(scores: Any) -> Any:
    """Probabilities in proportion to scores.

    Args:
        scores: `(samples,)`; a negative one counts for 0.

    Returns:
        `(samples,)` float32 with sum 1; the same for all where no score is above 0, or one is not
        finite.
    """
    scores = ops.maximum(ops.cast(scores, "float32"), 0.0)
    uniform = ops.ones_like(scores) / ops.cast(ops.size(scores), "float32")
    largest = ops.max(scores)
    usable = ops.logical_and(ops.all(ops.isfinite(scores)), largest > 0.0)
    shares = ops.where(usable, scores / ops.where(usable, largest, 1.0), uniform)
    return shares / ops.sum(shares)


def mixed(probabilities: Any, uniform: Any) -> Any:
    """Probabilities of which a share is spread evenly, so that no weight is above 1 / share.

    Args:
        probabilities: `(samples,)`.
        uniform: The share, in [0, 1].
    """
    count = ops.cast(ops.size(probabilities), "float32")
    return (1.0 - uniform) * probabilities + uniform / count


def weights(probabilities: Any, drawn: Any) -> Any:
    """Weights 1 / (B p) of drawn samples, with which their mean gradient is unbiased.

    Args:
        probabilities: `(samples,)`, of all B.
        drawn: `(count,)` int32, which of these were drawn, each count · p times on average.
    """
    chances = ops.take(probabilities, drawn, axis=0)
    return 1.0 / (ops.cast(ops.size(probabilities), "float32") * chances)


def tau(probabilities: Any) -> Any:
    """How many times as large a uniform batch would have to be in each of two factors, √(B Σ p²).

    A batch drawn by p has 1 / τ² of the variance of a uniform one, if p is in proportion to the
    norms of gradients and the mean gradient is small beside them. (Equations 24 to 26 come to it.)
    """
    count = ops.cast(ops.size(probabilities), "float32")
    return ops.sqrt(count * ops.sum(ops.square(probabilities)))


def tau_of_moments(mean: Any, square: Any) -> Any:
    """τ from the mean of scores and that of their squares; 0 where the mean is 0."""
    return ops.divide_no_nan(ops.sqrt(square), mean)


def equivalent_batch(
    tau: float, presample: float, draws: Draws = "systematic", share: float = 1.0
) -> float:
    """How many times as large a uniform batch of the same variance would be.

    Of b independent draws 1 / (1/k + 1/τ²). The paper says τ; but a batch × τ has 1 / τ of the
    variance, not 1 / τ², and drawing the B = k·b adds a variance of its own. Of systematic ones
    1 / √(1/k² + 1/τ⁴). Of c·b draws, τ² c stands for τ².

    Args:
        tau: √(B Σ p²), at least 1.
        presample: k = B / b.
        draws: How samples are drawn.
        share: c, how many are drawn over b.
    """
    q = POWERS[draws]
    return float((presample**-q + (share * tau**2) ** -q) ** (-1.0 / q))


def cost(presample: float, forward: float, share: float = 1.0, fixed: float = 0.0) -> float:
    """What a step costs in which samples are chosen, in uniform ones.

    Args:
        presample: k = B / b.
        forward: What scoring b samples takes, as a share of a step on b samples.
        share: How many are drawn over b.
        fixed: What a step takes however many samples it is on, as a share of one on b.
    """
    return presample * forward + fixed + (1.0 - fixed) * share


def progress(equivalent: float, noise: float = DROWNED) -> float:
    """How many steps on a batch one on M batches is worth: (1 + n) / (1 + n / M), and M below 1.

    So many fewer are needed to the same loss, each at the rate that its batch bears; which is as
    many times as high. (McCandlish et al. 2018, section 2.2.) A step on less than a batch would be
    worth more than M; but that speaks for a smaller batch, not for choosing what is in it.

    Args:
        equivalent: M.
        noise: n, the gradient noise scale over the batch.
    """
    return min(equivalent, (1.0 + noise) / (1.0 + noise / equivalent))


def best_share(
    tau: Any, presample: Any, forward: Any, fixed: Any, draws: Draws = "systematic"
) -> Any:
    """How many should be drawn over b: as gives the largest equivalent batch for the cost.

    The logarithm of M / cost has the derivative 0 at c^(q+1) = a k^q / τ^2q, where a =
    (k φ + f) / (1 - f) is what the step costs whatever c is, over what it costs per c.

    Args:
        tau: √(B Σ p²), a number or a tensor like all others.
        presample: As of `cost`.
        forward: As of `cost`.
        fixed: As of `cost`, below 1.
        draws: How samples are drawn.
    """
    q = POWERS[draws]
    constant = (presample * forward + fixed) / (1.0 - fixed)
    return (constant * presample**q * tau ** (-2.0 * q)) ** (1.0 / (q + 1.0))


def over_a_run(gains: Sequence[float] | Floats) -> float:
    """By how much a run is faster whose steps are, of equally much progress: the harmonic mean."""
    return len(gains) / math.fsum(1.0 / gain for gain in gains)


def variance_left(presample: Any, draws: Draws = "systematic") -> Any:
    """v, of which n draws may take b / (n τ²) if their variance is to be that of a uniform batch.

    Args:
        presample: k = B / b, a number or a tensor; of 1 nothing is left.
        draws: How samples are drawn.
    """
    q = POWERS[draws]
    return (1.0 + 1e-6 - presample**-q) ** (1.0 / q)


def paper_threshold(presample: float) -> float:
    """The paper's threshold of τ, (B + 3 b) / (3 b): below the break-even for most k."""
    return (presample + 3.0) / 3.0


def percentile_ranks(scores: Any) -> Any:
    """The share of scores that are at most as large, `(samples,)` float32 in (0, 1].

    Equal scores have equal ranks. (Equation 4.4 of the thesis; its pseudo-code begins with 0, and
    could never draw the easiest sample.)
    """
    scores = ops.cast(scores, "float32")
    at_most = ops.searchsorted(ops.sort(scores), scores, side="right")
    return ops.cast(at_most, "float32") / ops.cast(ops.size(scores), "float32")


def pareto_share(kept: float, alpha: float) -> float:
    """The share of all utility that the most useful samples hold, if it is Pareto-distributed.

    Equation 4.5 of the thesis is its distribution; 1 - (1 - F)^(1 - 1/α) is the Lorenz curve of it.

    Args:
        kept: The share of samples that is kept, in (0, 1].
        alpha: Above 1; 1.16 is the rule of 80 and 20.
    """
    return kept ** (1.0 - 1.0 / alpha)


def pareto_speed_up(presample: float, alpha: float, forward: float) -> float:
    """The thesis' prediction for selecting the best 1 / k: utility per cost, against uniform.

    Args:
        presample: k = B / b.
        alpha: As of `pareto_share`.
        forward: What scoring b samples takes, as a share of a step.
    """
    utility = presample * pareto_share(1.0 / presample, alpha)
    return utility / (1.0 + presample * forward)
