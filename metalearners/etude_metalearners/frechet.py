"""The Fréchet distance between two sets of features, and groups of like distances.

Heusel et al. 2017 ("GANs trained by a two time-scale update rule"): both sets taken for normal,

    d² = |μ₁ - μ₂|² + tr Σ₁ + tr Σ₂ - 2 tr (Σ₁ Σ₂)^½

The estimate is biased by the number of samples: only distances at equal numbers compare. All of
this is NumPy in float64.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def diagonal(first: npt.ArrayLike, second: npt.ArrayLike) -> Floats:
    """d² with diagonal covariances: |μ₁ - μ₂|² + Σ (σ₁ - σ₂)².

    Args:
        first: Features `(…, samples, features)`.
        second: As `first`; leading axes broadcast.

    Returns:
        Squared distances, of the leading axes' shape.
    """
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    mean = one.mean(axis=-2) - other.mean(axis=-2)
    spread = one.std(axis=-2, ddof=1) - other.std(axis=-2, ddof=1)
    return np.asarray((mean**2).sum(axis=-1) + (spread**2).sum(axis=-1))


def full(first: npt.ArrayLike, second: npt.ArrayLike) -> Floats:
    """d² with full covariances.

    With fewer samples than features tr (Σ₁ Σ₂)^½ is the sum of the singular values of X₁ X₂ᵀ, of
    centred features over √(n - 1); otherwise of the roots of the eigenvalues of Σ₁^½ Σ₂ Σ₁^½.

    Args:
        first: Features `(samples, features)`; their root is taken once for all of the second.
        second: Features `(…, samples, features)`, as many.

    Returns:
        Squared distances, of the leading axes' shape.
    """
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    mean = one.mean(axis=-2) - other.mean(axis=-2)
    one, other = _scaled(one), _scaled(other)
    if min(one.shape[-2], other.shape[-2]) < one.shape[-1]:
        products = one @ other.swapaxes(-1, -2)
        cross = np.linalg.svd(products, compute_uv=False).sum(axis=-1)
    else:
        values, vectors = np.linalg.eigh(one.T @ one)
        root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
        inner = np.linalg.eigvalsh(root @ (other.swapaxes(-1, -2) @ other) @ root)
        cross = np.sqrt(np.maximum(inner, 0.0)).sum(axis=-1)
    spread = (one**2).sum() + (other**2).sum(axis=(-2, -1))
    return np.asarray((mean**2).sum(axis=-1) + spread - 2.0 * cross)


def groups(distances: npt.ArrayLike, count: int) -> npt.NDArray[np.int64]:
    """Cuts distances into groups of like ones: least squares in one dimension, exactly.

    Args:
        distances: `(n,)`, such as logarithms of distances.
        count: How many groups at most.

    Returns:
        `(n,)` the group of each, 0 for the smallest.
    """
    values = np.asarray(distances, np.float64)
    order = np.argsort(values, kind="stable")
    cuts = _cuts(values[order], min(count, len(np.unique(values))))
    found = np.empty(len(values), np.int64)
    found[order] = np.searchsorted(cuts, np.arange(len(values)), side="right")
    return found


def _scaled(features: Floats) -> Floats:
    centred = features - features.mean(axis=-2, keepdims=True)
    return np.asarray(centred / np.sqrt(features.shape[-2] - 1))


def _cuts(values: Floats, count: int) -> npt.NDArray[np.int64]:
    """Indices at which groups of sorted values begin, but the first (dynamic programming)."""
    n = len(values)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    squares = np.concatenate([[0.0], np.cumsum(values**2)])
    start, end = np.arange(n)[:, None], np.arange(1, n + 1)[None]
    size = np.maximum(end - start, 1)
    inside = squares[end] - squares[start] - (sums[end] - sums[start]) ** 2 / size
    inside = np.where(end > start, np.maximum(inside, 0.0), np.inf)  # of values[start:end]
    cost = inside[0]
    begins = []
    for _ in range(count - 1):
        # The last group begins at `start`; all before it cost what they cost at best.
        before = np.concatenate([[np.inf], cost[:-1]])
        total = before[:, None] + inside
        begins.append(total.argmin(axis=0))
        cost = total.min(axis=0)
    cuts, last = [], n - 1
    for begin in reversed(begins):
        cuts.append(int(begin[last]))
        last = cuts[-1] - 1
    return np.asarray(cuts[::-1], np.int64)
