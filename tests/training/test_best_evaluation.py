"""Which evaluation is the best: against plain arithmetic, and that luck does not decide."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from etude.training.best_evaluation import is_better


def picked(errors: Sequence[float]) -> int:
    """The place that a whole run ends with."""
    best: int | None = None
    for place in range(len(errors)):
        if is_better(errors[: place + 1], best):
            best = place
    assert best is not None
    return best


def test_of_up_to_twenty_evaluations_the_least_is_the_best() -> None:
    for seed in range(20):
        errors = np.random.default_rng(seed).uniform(size=20).tolist()
        for count in range(1, 21):
            assert picked(errors[:count]) == int(np.argmin(errors[:count]))


def test_of_equals_the_first_is_kept() -> None:
    assert picked([0.5, 0.25, 0.25, 0.25]) == 1


@pytest.mark.parametrize(("count", "window"), [(21, 2), (40, 2), (41, 3), (250, 13)])
def test_of_more_means_of_equally_many_are_compared(count: int, window: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        errors = rng.uniform(size=count)
        best = int(rng.integers(count - 1))
        now = errors[count - window :].mean()
        start = 0 if best < window else best - window + 1
        then = errors[start : start + window].mean()
        assert is_better(errors.tolist(), best) == (now < then)


@pytest.mark.parametrize(
    ("name", "true", "within"),
    [
        ("falls at the end", np.repeat([0.16, 0.14], [200, 50]), 0.002),
        ("falls", np.linspace(0.3, 0.14, 250), 0.005),
        ("overfits", np.r_[np.linspace(0.3, 0.14, 50), np.linspace(0.14, 0.2, 200)], 0.01),
    ],
)
def test_luck_does_not_decide(name: str, true: np.ndarray, within: float) -> None:
    """With 300 samples to validate: the true error of what is picked, over 50 courses."""
    single, found = [], []
    for seed in range(50):
        errors = np.random.default_rng(seed).binomial(300, true) / 300
        single.append(true[int(np.argmin(errors))])
        found.append(true[picked(errors.tolist())])
    assert np.mean(found) - true.min() < within
    assert np.mean(found) < np.mean(single) + 0.001
