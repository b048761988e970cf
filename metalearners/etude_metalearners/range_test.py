"""The learning-rate range test: pure functions from rates and losses to a suggestion.

A range test trains a few dozen steps while the rate rises exponentially, and reads from the
losses where training starts to work and where it stops working (Smith 2017, "Cyclical
Learning Rates for Training Neural Networks", section 3.3). Everything here is NumPy in
float64, draws nothing at random, and works on the logarithm of the rate: scaling all rates
by a factor scales every answer by that factor.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from etude.errors import EtudeError

Floats = npt.NDArray[np.float64]

LEAST_POINTS = 20
"""Fewest points of a curve from which a rate is suggested."""

BANDWIDTH = 0.25
"""Standard deviation of the smoothing kernel, in decades of the rate."""

MARGIN = 2.0
"""How far below the minimum of the curve the suggestion stays."""

_DROP = 0.1  # leading share of the curve that no answer is read from
_EVIDENCE = 4.0  # standard errors by which the smoothed loss must fall


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """What a range test says.

    Attributes:
        rate: The suggested peak rate, or `None` when the curve shows no learning.
        why: One sentence.
        steepest: The rate at which the smoothed loss falls fastest per decade, or `None`.
        minimum: The rate of the lowest smoothed loss, or `None`.
        divergence: The first rate at which training diverged, or `None` if it did not.
        reliable: Whether `rate` may be used. When not, keep the rate that there was.
        extend: `"up"` or `"down"` when the range of rates missed the answer on that side
            and a second test there would help, else `""`.
        fall: How far the smoothed loss fell, in units of the loss.
        noise: Standard error of `fall`, from the spread between neighbouring steps.
    """

    rate: float | None
    why: str
    steepest: float | None
    minimum: float | None
    divergence: float | None
    reliable: bool
    extend: str = ""
    fall: float = 0.0
    noise: float = 0.0


def ramp(low: float, high: float, steps: int) -> Floats:
    """Rates that rise exponentially from `low` to `high`, both included.

    Args:
        low: First rate, above 0.
        high: Last rate, above `low`.
        steps: Number of rates, at least 2.

    Returns:
        Rates, shape `(steps,)`, equally spaced in their logarithm.

    Raises:
        EtudeError: The range is empty or not finite, or there are fewer than two steps.

    Example:
        >>> ramp(0.001, 1.0, 4).round(4).tolist()
        [0.001, 0.01, 0.1, 1.0]
    """
    if not (0.0 < low < high < np.inf) or steps < 2:
        raise EtudeError(
            "The range of learning rates is empty.",
            required="0 < low < high, both finite, and at least 2 steps",
            received=f"low={low!r}, high={high!r}, steps={steps!r}",
            advice="widen the range, for example 1e-5 to 1 for Adam",
        )
    return np.geomspace(low, high, int(steps), dtype=np.float64)


def span(adaptive: bool, momentum: float = 0.9) -> tuple[float, float]:
    """The range of rates that a test covers: four decades.

    The top is above what trains well, on purpose: the minimum of the curve is found only if
    the loss rises behind it. More decades in as many steps would leave too few steps to
    each: the loss then falls late, and the minimum is read too high.

    Args:
        adaptive: Whether the length of the optimizer's step does not grow with the gradient
            (Adam, RMSprop, Lion, LAMB, LARS); else SGD.
        momentum: SGD's momentum, in [0, 1); what counts there is rate / (1 - momentum).

    Returns:
        The lowest and the highest rate.
    """
    if not 0.0 <= momentum < 1.0:
        raise EtudeError(
            "The momentum is out of range.",
            required="0 <= momentum < 1",
            received=repr(momentum),
            advice="mend the recipe's momentum",
        )
    return (1e-4, 1.0) if adaptive else (1e-2 * (1.0 - momentum), 1e2 * (1.0 - momentum))


def ewma(losses: Sequence[float] | Floats, beta: float = 0.98) -> Floats:
    """Exponentially weighted mean with bias correction, shape `(n,)`, as in Adam.

    It looks only backwards, so it serves a test that decides whether to go on. From the
    first non-finite loss on, the mean is non-finite too.
    """
    mean, means = 0.0, []
    for count, loss in enumerate(np.asarray(losses, dtype=np.float64), start=1):
        mean = beta * mean + (1.0 - beta) * loss
        means.append(mean / (1.0 - beta**count))
    return np.asarray(means, dtype=np.float64)


def smooth(
    rates: Sequence[float] | Floats, losses: Sequence[float] | Floats, bandwidth: float = BANDWIDTH
) -> tuple[Floats, Floats]:
    """Smoothed loss and its slope per decade, by local linear regression in log₁₀ rate.

    At each point a line is fitted to all points, weighted by a Gaussian of their distance in
    decades; the line's height is the smoothed loss and its gradient the slope. The fit looks
    both ways, so the curve is not shifted to higher rates as a running mean shifts it, and a
    straight line comes out unchanged up to both ends.

    Args:
        rates: Positive rates, shape `(n,)`, not all equal.
        losses: Finite losses, shape `(n,)`.
        bandwidth: Standard deviation of the Gaussian, in decades.

    Returns:
        The smoothed losses and the slopes, each of shape `(n,)`.
    """
    decades = np.log10(np.asarray(rates, dtype=np.float64))
    values = np.asarray(losses, dtype=np.float64)
    distance = decades[None, :] - decades[:, None]
    weight = _kernel(decades, bandwidth)
    first = (weight * distance).sum(axis=1)  # the weights sum to 1
    second = (weight * distance**2).sum(axis=1)
    mean, moment = weight @ values, (weight * distance) @ values
    spread = second - first**2
    return (second * mean - first * moment) / spread, (moment - first * mean) / spread


def diverged(losses: Sequence[float] | Floats, factor: float = 4.0, beta: float = 0.9) -> int:
    """Index of the first step at which training had diverged; `len(losses)` if it had not.

    A loss that is not finite counts as divergence. So does a running mean (`ewma`) beyond
    `factor` times the best one so far. Where the loss comes near or below 0 that product
    means nothing, so the mean must also exceed the best by `factor - 1` times what has been
    gained since the first step.
    """
    values = np.asarray(losses, dtype=np.float64)
    broken = np.flatnonzero(~np.isfinite(values))
    end = int(broken[0]) if broken.size else len(values)
    if end == 0:
        return 0
    means = ewma(values[:end], beta)
    best = np.minimum.accumulate(means)
    scale = np.maximum(np.abs(best), means[0] - best)
    beyond = np.flatnonzero(means > best + (factor - 1.0) * scale)
    return int(beyond[0]) if beyond.size else end


def suggest(
    rates: Sequence[float] | Floats,
    losses: Sequence[float] | Floats,
    *,
    bandwidth: float = BANDWIDTH,
) -> Suggestion:
    """The peak learning rate that a range test's losses speak for.

    The suggestion is the rate of the lowest smoothed loss, divided by `MARGIN`. Above the
    minimum a step disturbs more than it teaches, and the final loss of a whole run soon rises
    steeply: without batch normalization by a third within half a decade. Below it that loss
    is flat over most of a decade. The margin keeps the suggestion on that plateau: noise moves
    the minimum by about a fifth of a decade. The rate of the steepest fall is told too, but
    as a derivative it is noisier, and it is too low for a run that ends annealed. The first
    tenth of the curve and all from the divergence on are left out.

    Known limit: the test sees the beginning of training only, and `reliable` speaks of noise
    and of the range, not of the optimum. Where the loss starts far above chance level, much of
    its fall only undoes the initial outputs, small rates do that as well, and under SGD the
    suggestion is about half a decade too low.

    Args:
        rates: Rates in rising order, shape `(n,)`.
        losses: The training loss of the step at each rate, shape `(n,)`; entries from a
            divergence on may be NaN or infinite.
        bandwidth: Smoothing, in decades.

    Returns:
        The suggestion. It is never an error that a curve tells nothing: then `reliable` is
        false, and `why` says what was seen.

    Raises:
        EtudeError: The rates do not rise, are not positive, or do not match the losses.
    """
    rate, loss = _checked(rates, losses)
    end = diverged(loss)
    divergence = float(rate[end]) if end < len(rate) else None
    if end < LEAST_POINTS:
        if divergence is None:
            return _nothing(f"only {end} steps, where {LEAST_POINTS} are needed", None, "")
        return _nothing(
            f"training diverged at {divergence:.3g}, after {end} steps, where "
            f"{LEAST_POINTS} are needed below the divergence",
            divergence,
            "down",
        )
    level, slope, clipped = _curve(rate[:end], loss[:end], bandwidth)
    head = max(1, int(_DROP * end))
    lowest = head + int(np.argmin(level[head:]))
    start = float(np.mean(clipped[:head]))
    fall = start - float(level[lowest])
    noise = _standard_error(rate[:end], clipped, lowest, head, bandwidth)
    if not fall > _EVIDENCE * noise or fall <= 1e-9 * max(1.0, abs(start)):
        risen = float(level[-1]) - start > _EVIDENCE * noise + 1e-9 * max(1.0, abs(start))
        return _nothing(
            f"the loss fell by {max(fall, 0.0):.3g} with a standard error of {noise:.2g}",
            divergence,
            "down" if risen else "up" if divergence is None else "",
            fall,
            noise,
        )
    return _read(rate[:end], slope, lowest, head, divergence, fall, noise)


# -- parts ---------------------------------------------------------------------------


def _checked(
    rates: Sequence[float] | Floats, losses: Sequence[float] | Floats
) -> tuple[Floats, Floats]:
    rate = np.asarray(rates, dtype=np.float64)
    loss = np.asarray(losses, dtype=np.float64)
    sound = rate.ndim == 1 and rate.shape == loss.shape and bool(np.isfinite(rate).all())
    if not sound or not ((rate > 0.0).all() and (np.diff(rate) > 0.0).all()):
        raise EtudeError(
            "The curve of the range test is not usable.",
            required="positive, finite, rising rates of shape (n,), and as many losses",
            received=f"rates of shape {rate.shape}, losses of shape {loss.shape}",
            advice="take the rates from `ramp` and record one loss a step",
        )
    return rate, loss


def _kernel(decades: Floats, bandwidth: float) -> Floats:
    """Gaussian weights between all pairs of points, rows summing to 1, shape `(n, n)`.

    Where points lie farther apart than the bandwidth it is widened to their spacing, since
    one point alone has no slope.
    """
    width = max(bandwidth, float(np.max(np.diff(decades))))
    weight = np.exp(-0.5 * ((decades[None, :] - decades[:, None]) / width) ** 2)
    return np.asarray(weight / weight.sum(axis=1, keepdims=True))


def _curve(rate: Floats, loss: Floats, bandwidth: float) -> tuple[Floats, Floats, Floats]:
    """Smoothed loss, slope, and the clipped losses that they were made from.

    Losses explode within a few steps; unclipped, the kernel would carry that back to rates
    that train well. The ceiling is as far above the start as the lowest loss is below it.
    """
    start = float(np.median(loss[: max(1, int(_DROP * len(loss)))]))
    clipped = np.minimum(loss, 2.0 * start - float(loss.min()))
    level, slope = smooth(rate, clipped, bandwidth)
    return level, slope, clipped


def _standard_error(rate: Floats, loss: Floats, lowest: int, head: int, bandwidth: float) -> float:
    """Standard error of start minus minimum, for independent noise of constant spread.

    The spread is the median absolute difference of neighbouring losses, as a normal
    distribution's (1.4826 makes it a standard deviation, √2 is for the difference).
    """
    steps = np.abs(np.diff(loss[: max(lowest + 1, head + 1)]))
    spread = 1.4826 * float(np.median(steps)) / np.sqrt(2.0)
    weight = _kernel(np.log10(rate), bandwidth)[lowest]
    return float(spread * np.sqrt((weight**2).sum() + 1.0 / head))


def _read(
    rate: Floats,
    slope: Floats,
    lowest: int,
    head: int,
    divergence: float | None,
    fall: float,
    noise: float,
) -> Suggestion:
    steepest = head + int(np.argmin(slope[head : lowest + 1]))
    minimum = float(rate[lowest])
    extend = ""
    why = f"the loss is lowest at {minimum:.3g}, in a test from {rate[0]:.3g} to {rate[-1]:.3g}"
    if divergence is None and lowest == len(rate) - 1:
        extend = "up"
        why = f"the loss was still falling at the highest rate of the test, {minimum:.3g}"
    return Suggestion(
        rate=minimum / MARGIN,
        why=why,
        steepest=float(rate[steepest]),
        minimum=minimum,
        divergence=divergence,
        reliable=not extend,
        extend=extend,
        fall=fall,
        noise=noise,
    )


def _nothing(
    seen: str, divergence: float | None, extend: str, fall: float = 0.0, noise: float = 0.0
) -> Suggestion:
    return Suggestion(
        rate=None,
        why=f"the range test tells nothing ({seen}): the default rate is kept",
        steepest=None,
        minimum=None,
        divergence=divergence,
        reliable=False,
        extend=extend,
        fall=fall,
        noise=noise,
    )
