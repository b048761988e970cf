"""How good features are, without training on them: weighted nearest neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]

BLOCK = 1024
"""Queries whose neighbours are found at once."""


def weighted_knn(
    bank: Floats,
    labels: npt.NDArray[np.integer[Any]],
    queries: Floats,
    *,
    neighbours: int = 200,
    temperature: float = 0.1,
) -> npt.NDArray[np.int64]:
    """The class of each query by its nearest neighbours in a bank (Wu et al. 2018, section 3.4).

    Each of them votes by exp(cosine / temperature). There are as many classes as the bank has.

    Args:
        bank: `(samples, features)`.
        labels: `(samples,)`, classes from 0.
        queries: `(queries, features)`.
        neighbours: How many vote, or all of the bank where it has fewer.
        temperature: Above 0.

    Returns:
        `(queries,)`.
    """
    bank, queries = _unit(bank), _unit(queries)
    count, classes = min(neighbours, len(bank)), int(labels.max()) + 1
    found = []
    for start in range(0, len(queries), BLOCK):
        cosines = queries[start : start + BLOCK] @ bank.T
        nearest = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
        near = np.take_along_axis(cosines, nearest, axis=1)
        # Less the largest of each, so that no exponential overflows.
        weights = np.exp((near - near.max(axis=1, keepdims=True)) / temperature)
        votes = np.zeros((len(cosines), classes))
        rows = np.broadcast_to(np.arange(len(cosines))[:, None], nearest.shape)
        np.add.at(votes, (rows, labels[nearest]), weights)
        found.append(votes.argmax(axis=1))
    return np.concatenate(found).astype(np.int64)


def _unit(rows: Floats) -> Floats:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0.0, lengths, 1.0))


def effective_rank(features: Floats) -> float:
    """The exponential of the entropy of the features' singular values, over their sum.

    As many as there are directions where all are as long, and 1 where all features lie on a line
    (Roy & Vetterli 2007). Of centred features: 0 where all are the same. NaN where any is not
    finite.

    Args:
        features: `(samples, features)`.
    """
    if not np.isfinite(features).all():
        return float("nan")
    values = np.linalg.svd(features - features.mean(axis=0), compute_uv=False)
    total = values.sum()
    if total <= 1e-12 * max(1.0, float(np.abs(features).max())):
        return 0.0
    shares = values[values > 0.0] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))
