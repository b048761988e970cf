"""Nearest neighbours against a plain loop, and the rank of what is known."""

from __future__ import annotations

import numpy as np
import pytest

from etude.ssl.knn import effective_rank, weighted_knn


@pytest.mark.parametrize("neighbours", [1, 5, 500])
def test_votes_are_those_of_a_loop(neighbours: int) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 60)
    bank = rng.normal(size=(60, 6)) + np.eye(4, 6)[labels]
    queries = rng.normal(size=(25, 6)) + np.eye(4, 6)[rng.integers(0, 4, 25)]
    found = weighted_knn(bank, labels, queries, neighbours=neighbours, temperature=0.07)
    for query, told in zip(queries, found, strict=True):
        cosines = [q @ query / np.linalg.norm(q) / np.linalg.norm(query) for q in bank]
        votes = np.zeros(4)
        for place in np.argsort(cosines)[::-1][:neighbours]:
            votes[labels[place]] += np.exp(cosines[place] / 0.07)
        assert told == votes.argmax()


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    bank, labels, queries = (
        rng.normal(size=(40, 3)),
        rng.integers(0, 3, 40),
        rng.normal(size=(9, 3)),
    )
    whole = weighted_knn(bank, labels, queries, neighbours=7)
    monkeypatch.setattr("etude.ssl.knn.BLOCK", 4)
    np.testing.assert_array_equal(weighted_knn(bank, labels, queries, neighbours=7), whole)
    assert np.isfinite(weighted_knn(np.zeros((4, 3)), labels[:4], queries)).all()


def test_the_rank_counts_directions() -> None:
    square = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]], np.float64)
    assert effective_rank(square) == pytest.approx(2.0)
    assert effective_rank(np.outer(np.arange(9), [1.0, 2.0])) == pytest.approx(1.0)
    assert effective_rank(np.full((5, 3), 7.0)) == 0.0
