"""Fréchet distances against SciPy's matrix root, and groups against all ways to cut."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import linalg

from etude_metalearners import frechet


def reference(one: np.ndarray, other: np.ndarray) -> float:
    """The formula, written down: the root of the product of both covariances."""
    first, second = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    mean = one.mean(axis=0) - other.mean(axis=0)
    root = linalg.sqrtm(first @ second)
    return float(mean @ mean + np.trace(first + second - 2.0 * root.real))


def sets(samples: int, features: int, others: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(samples + features)
    mix = rng.normal(size=(features, features))
    one = rng.normal(size=(samples, features))
    other = rng.normal(0.3, 1.4, size=(others or samples, features)) @ mix / np.sqrt(features)
    return one, other


@pytest.mark.parametrize(("samples", "features"), [(300, 8), (500, 40), (128, 128), (2000, 128)])
def test_the_full_distance_is_that_of_the_matrix_root(samples: int, features: int) -> None:
    one, other = sets(samples, features)
    assert frechet.full(one, other) == pytest.approx(reference(one, other), rel=1e-6)


def test_fewer_samples_than_features_come_to_the_same() -> None:
    """There the root comes from singular values of samples, not of covariances."""
    one, other = sets(20, 30)
    assert frechet.full(one, other) == pytest.approx(reference(one, other), rel=1e-6)
    one, other = sets(20, 30, others=90)
    assert frechet.full(one, other) == pytest.approx(reference(one, other), rel=1e-6)


def test_normal_distributions_in_one_dimension_have_a_closed_form() -> None:
    one = np.array([[-1.0], [1.0]]) * np.sqrt(0.5)  # mean 0, variance 1
    other = 3.0 + 2.0 * one
    assert float(frechet.full(one, other)) == pytest.approx(9.0 + (2.0 - 1.0) ** 2)
    assert frechet.diagonal(one, other) == pytest.approx(9.0 + (2.0 - 1.0) ** 2)


def test_a_set_is_at_no_distance_from_itself() -> None:
    for samples in (20, 300):
        one, _ = sets(samples, 64)
        assert abs(frechet.full(one, one)) < 1e-9
        assert frechet.diagonal(one, one) == 0.0


def test_the_diagonal_form_is_the_full_one_of_independent_features() -> None:
    rng = np.random.default_rng(0)
    signs = linalg.hadamard(16)[:, 1:7].astype(float)  # columns without any correlation
    one, other = signs * rng.uniform(1, 3, 6), signs * rng.uniform(1, 3, 6) + rng.normal(size=6)
    assert frechet.diagonal(one, other) == pytest.approx(frechet.full(one, other), rel=1e-9)


def test_the_diagonal_form_is_a_sum_over_features() -> None:
    one, other = sets(300, 8)
    by_hand = 0.0
    for feature in range(8):
        a, b = one[:, feature].astype(np.float64), other[:, feature].astype(np.float64)
        by_hand += (a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2
    assert frechet.diagonal(one, other) == pytest.approx(by_hand, rel=1e-9)


def test_many_pairs_are_taken_at_once() -> None:
    rng = np.random.default_rng(1)
    one, others = rng.normal(size=(50, 7)), rng.normal(size=(3, 4, 50, 7))
    for form in (frechet.diagonal, frechet.full):
        found = form(one, others)
        assert found.shape == (3, 4)
        assert found[2, 1] == pytest.approx(float(form(one, others[2, 1])))
    few = frechet.full(one[:5], others[:, :, :5])
    assert few[2, 1] == pytest.approx(float(frechet.full(one[:5], others[2, 1, :5])))


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_groups_are_the_best_of_all_cuts(count: int) -> None:
    rng = np.random.default_rng(count)
    for _ in range(10):
        values = rng.normal(size=9) ** 3
        found = frechet.groups(values, count)

        def loss(labels: np.ndarray, values: np.ndarray = values) -> float:
            kept = [values[labels == k] for k in np.unique(labels)]
            return float(sum(((part - part.mean()) ** 2).sum() for part in kept))

        order = np.argsort(values)
        losses = []
        for cuts in itertools.combinations(range(1, 9), count - 1):
            labels = np.empty(9, int)
            labels[order] = np.searchsorted(cuts, np.arange(9), side="right")
            losses.append(loss(labels))
        assert loss(found) == pytest.approx(min(losses), abs=1e-12)
        assert sorted(set(found)) == list(range(count))
        assert all(np.diff(found[order]) >= 0)  # the smallest are group 0


def test_there_are_no_more_groups_than_distances_that_differ() -> None:
    assert frechet.groups([2.0, 2.0, 1.0], 5).tolist() == [1, 1, 0]
