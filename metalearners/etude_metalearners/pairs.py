"""Two trials compared score by score: is one better, beyond what chance would do?

A score is the loss of a sample, or the mean loss of a batch of them.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]

BOUND = 2.8
"""Standard errors by which a trial must be better: of ten things tried, none is by chance."""

LEAST = 8
"""Scores below which trials are not compared."""


@dataclasses.dataclass(frozen=True)
class Difference:
    """Mean loss of one trial minus that of another.

    Attributes:
        mean: Negative where the first is better.
        error: Standard error of the mean, from the spread over scores.
        bound: Standard errors that are as unlikely with so many scores as 2.8 with very many.
    """

    mean: float
    error: float
    bound: float = BOUND

    @property
    def better(self) -> bool:
        """Whether the first trial is better beyond doubt."""
        return self.mean < -self.bound * self.error


def difference(one: Floats, other: Floats) -> Difference:
    """Paired difference of two trials' losses on the same samples or batches.

    Args:
        one: Losses of the first trial, `(scores,)`, at least 2.
        other: Losses of the second.

    Returns:
        The mean difference and its standard error; an infinite mean where one trial's losses are
        not finite, and an infinite error where a single score tells nothing.
    """
    if not np.all(np.isfinite(one)):
        return Difference(math.inf, 0.0)
    if not np.all(np.isfinite(other)):
        return Difference(-math.inf, 0.0)
    differences = np.asarray(one, np.float64) - np.asarray(other, np.float64)
    if len(differences) < 2:
        return Difference(float(differences.mean()), math.inf)
    error = float(differences.std(ddof=1) / math.sqrt(len(differences)))
    bound = float(stats.t.isf(stats.norm.sf(BOUND), len(differences) - 1))
    return Difference(float(differences.mean()), error, bound)
