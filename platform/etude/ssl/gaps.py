"""How far the features of labelled samples are from those of unlabelled ones: pure functions.

Where a few labelled samples have other statistics than the many without labels, those of the few
are wrong for what the network will see (Koçyiğit 2023, section 2.3.3.1 and table 2.1). Everything
here is NumPy and SciPy, channel by channel; unpaired samples have no correlation, which is left
out.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]

BINS = 32
"""Of a histogram, between the ends of both sets together."""

SIGNIFICANT = 0.05
"""The p below which a channel counts as of another distribution; so do as many by chance."""


@dataclasses.dataclass(frozen=True)
class Gap:
    """How far the features of one set are from those of another, in one layer: means of channels.

    Attributes:
        wasserstein: The mean way that a value goes to make the one of the other, in standard
            deviations of the other.
        control: The same between two halves of the other set.
        divergence: Kullback-Leibler, of the one from the other, in nats.
        reverse: Of the other from the one.
        different: The share of channels that a Kolmogorov-Smirnov test finds different.
    """

    wasserstein: float
    control: float
    divergence: float
    reverse: float
    different: float


def gap(one: Floats, other: Floats, seed: int = 0) -> Gap:
    """How far the features of one set are from those of another.

    Args:
        one: `(samples, channels)`, of labelled samples.
        other: `(samples, channels)`, of unlabelled ones.
        seed: Of the split of the other set into halves.
    """
    half = len(other) // 2
    order = np.random.default_rng(seed).permutation(len(other))
    parts = other[order[:half]], other[order[half : 2 * half]]
    return Gap(
        float(np.mean(wasserstein(one, other))),
        float(np.mean(wasserstein(*parts))),
        float(np.mean(divergence(one, other))),
        float(np.mean(divergence(other, one))),
        float(np.mean(p_values(one, other) < SIGNIFICANT)),
    )


def wasserstein(one: Floats, other: Floats) -> Floats:
    """The 1-Wasserstein distance of every channel, in standard deviations of `other`.

    Args:
        one: `(samples, channels)`.
        other: `(samples, channels)`.

    Returns:
        `(channels,)`; 0 where the other is constant and the one as well.
    """
    scale = other.std(axis=0)
    found = [stats.wasserstein_distance(a, b) for a, b in zip(one.T, other.T, strict=True)]
    return np.asarray(found) / np.where(scale > 0.0, scale, 1.0)


def divergence(one: Floats, other: Floats) -> Floats:
    """The Kullback-Leibler divergence of every channel of `one` from `other`, in nats.

    Of histograms over common bins, to each of which one sample is added: a bin that is empty in
    the other would make it infinite.

    Args:
        one: `(samples, channels)`.
        other: `(samples, channels)`.
    """

    def shares(values: Floats, edges: Floats) -> Floats:
        counts, _ = np.histogram(values, edges)
        return np.asarray((counts + 1.0) / (counts.sum() + BINS))

    found = []
    for a, b in zip(one.T, other.T, strict=True):
        edges = np.histogram_bin_edges(np.concatenate([a, b]), BINS)
        found.append(float(stats.entropy(shares(a, edges), shares(b, edges))))
    return np.asarray(found)


def p_values(one: Floats, other: Floats) -> Floats:
    """The p of a two-sample Kolmogorov-Smirnov test of every channel, `(channels,)`."""
    pairs = zip(one.T, other.T, strict=True)
    return np.asarray([float(stats.ks_2samp(a, b).pvalue) for a, b in pairs])
