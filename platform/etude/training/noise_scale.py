"""The gradient noise scale and the batch size that it speaks for: pure functions.

McCandlish et al. 2018, "An Empirical Model of Large-Batch Training", appendix A.1. From the squared
norms of gradients of small batches and of the large batch that they make up follow, without bias,
the squared norm of the true gradient and the trace of the per-sample covariance; the simple noise
scale is their ratio. Everything here is NumPy in float64 and draws nothing at random.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from etude.errors import EtudeError
from etude.training.gradient_meter import WINDOW

Floats = npt.NDArray[np.float64]

CONFIDENCE = 0.95
"""Of the interval of a noise scale."""


@dataclasses.dataclass(frozen=True)
class NoiseScale:
    """A gradient noise scale, in samples.

    Attributes:
        value: tr(Σ) / |G|²; `None` where the estimate of |G|² is not positive: the gradient
            drowns in its noise, and all that is known is `low`.
        low: Lower end of the interval, at least 0.
        high: Upper end, infinite where |G|² cannot be told from 0.
        gradient: The estimate of |G|², of either sign.
        trace: The estimate of tr(Σ), of either sign.
        rounds: Large batches that were measured.
    """

    value: float | None
    low: float
    high: float
    gradient: float
    trace: float
    rounds: int


def components(
    small: Sequence[float] | Floats, large: Sequence[float] | Floats, batch: int, parts: int
) -> tuple[Floats, Floats]:
    """Unbiased |G|² and tr(Σ) of every round (the report's equations 9 and 10).

    Args:
        small: Mean squared norm of the round's small gradients, shape `(n,)`: the mean over all
            parts has several times less spread than one part's.
        large: Squared norm of the mean of these gradients, shape `(n,)`.
        batch: Samples in a small batch.
        parts: Small batches in a large one, at least 2.

    Returns:
        |G|² and tr(Σ), each of shape `(n,)`; single values may be negative.

    Raises:
        EtudeError: The shapes differ, or there are fewer than 2 parts.
    """
    s, b = np.asarray(small, np.float64), np.asarray(large, np.float64)
    if s.shape != b.shape or s.ndim != 1 or parts < 2 or batch < 1:
        raise EtudeError(
            "The norms of the gradients do not make a noise scale.",
            required="two arrays of the same shape (n,), at least 2 parts of at least 1 sample",
            received=f"shapes {s.shape} and {b.shape}, {parts} parts of {batch}",
            advice="measure every round with all of its parts",
        )
    gradient = (parts * b - s) / (parts - 1)
    trace = (s - b) * (batch * parts) / (parts - 1)
    return gradient, trace


def estimate(
    small: Sequence[float] | Floats, large: Sequence[float] | Floats, batch: int, parts: int
) -> NoiseScale:
    """The noise scale with its interval, as the ratio of means over rounds.

    The mean of ratios would be useless: a round's |G|² is often near 0 or below. The interval is
    Fieller's for a ratio of two means; unlike one from a standard error it is unbounded where the
    denominator cannot be told from 0.

    Args:
        small: As for `components`; at least 3 rounds.
        large: As for `components`.
        batch: Samples in a small batch.
        parts: Small batches in a large one.

    Raises:
        EtudeError: Fewer than 3 rounds, or what `components` refuses.
    """
    gradients, traces = components(small, large, batch, parts)
    count = len(gradients)
    if count < 3:
        raise EtudeError(
            "Too few rounds for a noise scale with an interval.",
            required="at least 3",
            received=f"{count}",
            advice="measure more rounds",
        )
    g, s = float(gradients.mean()), float(traces.mean())
    covariance = np.cov(traces, gradients, ddof=1) / count
    low, high = _fieller(s, g, covariance, float(stats.t.ppf(0.5 + CONFIDENCE / 2, count - 1)))
    return NoiseScale(s / g if g > 0 else None, low, high, g, s, count)


def measured(
    small: Sequence[float] | Floats, large: Sequence[float] | Floats, batch: int
) -> float | None:
    """The noise scale from the windows of a `GradientMeter`; `None` where they do not tell it.

    Args:
        small: Mean squared norm of each window's gradients, `(windows,)`.
        large: Squared norm of their mean, `(windows,)`.
        batch: Samples in a step's batch.
    """
    if len(small) < 3:
        return None
    return estimate(small, large, batch, WINDOW).value


def relative_time(noise: float, batch: float, seconds: float) -> float:
    """Time to a fixed loss at a batch size, up to a factor: (1 + noise / N) · t(N).

    The number of steps falls with N as 1 + noise / N (the paper's equation 2.11); an infinite
    noise scale leaves t(N) / N.
    """
    return seconds / batch if np.isinf(noise) else (1.0 + noise / batch) * seconds


def fastest(noise: float, batches: Sequence[int], seconds: Sequence[float]) -> int:
    """The batch size, of those measured, with the least predicted time.

    Args:
        noise: The noise scale; may be infinite.
        batches: Batch sizes in rising order.
        seconds: Seconds of a step at each.
    """
    predicted = [relative_time(noise, n, t) for n, t in zip(batches, seconds, strict=True)]
    return batches[int(np.argmin(predicted))]


def _fieller(
    numerator: float, denominator: float, covariance: Floats, quantile: float
) -> tuple[float, float]:
    """Ends of Fieller's interval of a ratio, cut at 0: the roots of a θ² - 2 b θ + c = 0."""
    q = quantile**2
    a = denominator**2 - q * covariance[1, 1]
    b = numerator * denominator - q * covariance[0, 1]
    c = numerator**2 - q * covariance[0, 0]
    root = float(np.sqrt(max(b * b - a * c, 0.0)))
    if a > 0 and denominator > 0:
        return max(0.0, (b - root) / a), max(0.0, (b + root) / a)
    # Unbounded: all beyond the positive root, or everything where that says nothing.
    return (max(0.0, (b - root) / a) if a < 0 < c else 0.0), float("inf")
