"""LARS against the published rule, written down in plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from etude.optim.lars import LARS

from . import references
from .helpers import SHAPES, moved, path


def test_the_first_step_by_hand() -> None:
    # ‖w‖ = 4 and ‖g‖ = 6: local = 0.1 · 4 / (6 + 0.5 · 4) = 0.05, and g + λw = 3 + 1.
    optimizer = LARS(0.5, trust_coefficient=0.1, weight_decay=0.5)
    found = moved(optimizer, np.full((2, 2), 2.0), [np.full((2, 2), 3.0)])
    np.testing.assert_allclose(found, 2.0 - 0.5 * 0.05 * 4.0, rtol=1e-6)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decay", [None, 0.3])
@pytest.mark.parametrize("kind", sorted(SHAPES))
def test_many_steps_follow_a_plain_loop(kind: str, decay: float | None, nesterov: bool) -> None:
    start, gradients = path(kind)
    optimizer = LARS(0.4, 0.8, trust_coefficient=0.02, weight_decay=decay, nesterov=nesterov)
    want = references.lars(
        start, gradients, rate=0.4, momentum=0.8, trust=0.02, decay=decay or 0.0, nesterov=nesterov
    )[-1]
    np.testing.assert_allclose(moved(optimizer, start, gradients), want, rtol=2e-5, atol=1e-5)
    assert np.abs(want - start).max() > 0.05


def test_without_momentum_it_is_scaled_gradient_descent() -> None:
    rng = np.random.default_rng(1)
    start, gradients = rng.normal(size=(4, 3)), rng.normal(size=(10, 4, 3))
    optimizer = LARS(2.0, 0.0, weight_decay=0.1)
    want = references.lars(start, gradients, rate=2.0, momentum=0.0, decay=0.1)[-1]
    np.testing.assert_allclose(moved(optimizer, start, gradients), want, rtol=1e-5)
    assert len(optimizer.variables) == 2  # the count and the rate: no velocity


def test_where_a_norm_is_zero_the_local_rate_is_one() -> None:
    nothing, ones = np.zeros((2, 3)), np.ones((2, 3))
    np.testing.assert_allclose(moved(LARS(0.1), nothing, [ones]), -0.1, rtol=1e-6)
    assert (moved(LARS(0.1), ones, [nothing] * 3) == 1.0).all()
    assert (moved(LARS(0.1, weight_decay=0.5), nothing, [nothing] * 3) == 0.0).all()
    found = moved(LARS(0.1, weight_decay=0.5), ones, [nothing])
    np.testing.assert_allclose(found, 1.0 - 0.1 * 0.5, rtol=1e-6)


def test_without_decay_the_gradients_length_is_nothing_to_a_matrix() -> None:
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=(6, 5)), rng.normal(size=(8, 6, 5))
    path, steep = (moved(LARS(10.0), start, scale * gradients) for scale in (1.0, 1000.0))
    np.testing.assert_allclose(path, steep, rtol=1e-5)
    step = moved(LARS(10.0), start, gradients[:1]) - start
    assert np.linalg.norm(step) == pytest.approx(10.0 * 1e-3 * np.linalg.norm(start), rel=1e-4)
    # To a bias it is, as in SGD.
    steps = [moved(LARS(10.0), start[0], scale * gradients[:1, 0]) - start[0] for scale in (1, 2)]
    np.testing.assert_allclose(2.0 * steps[0], steps[1], rtol=1e-5)
