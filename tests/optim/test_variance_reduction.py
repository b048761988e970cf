"""Variance reduction: least squares, where optimum, gradients and variances are known."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from etude.optim import variance_reduction as vr

RNG = np.random.default_rng(0)
A = RNG.normal(size=(64, 3))
B = A @ np.array([1.0, -2.0, 0.5]) + 0.3 * RNG.normal(size=64)
BEST = np.linalg.lstsq(A, B, rcond=None)[0]


def gradient(w: Any, ids: Any = slice(None)) -> Any:
    """Of the mean of half the squared errors."""
    return A[ids].T @ (A[ids] @ w - B[ids]) / len(A[ids])


def test_at_the_anchor_there_is_no_variance_and_elsewhere_no_bias() -> None:
    w, anchor = np.array([0.5, 0.0, 1.0]), np.array([0.4, 0.1, 0.9])
    mean = gradient(anchor)
    found = []
    for start in range(0, 64, 8):
        ids = slice(start, start + 8)
        (at_anchor,) = vr.corrected([gradient(anchor, ids)], [gradient(anchor, ids)], [mean])
        np.testing.assert_allclose(at_anchor, mean, atol=1e-6)
        (elsewhere,) = vr.corrected([gradient(w, ids)], [gradient(anchor, ids)], [mean])
        found.append(elsewhere)
    np.testing.assert_allclose(np.mean(found, axis=0), gradient(w), atol=1e-6)
    plain = [gradient(w, slice(s, s + 8)) for s in range(0, 64, 8)]
    assert np.var(found, axis=0).sum() < 0.1 * np.var(plain, axis=0).sum()


@pytest.mark.parametrize("accelerated", [False, True])
def test_it_comes_to_the_optimum_at_a_constant_rate(accelerated: bool) -> None:
    """Where plain stochastic gradients hover about it; and the sign is the right one."""
    rng = np.random.default_rng(1)
    w = y = z = np.zeros(3)
    plain = np.zeros(3)
    for _ in range(60):
        anchor = w.copy()
        mean = gradient(anchor)
        for _ in range(16):
            ids = rng.integers(0, 64, 4)
            (found,) = vr.corrected([gradient(w, ids)], [gradient(anchor, ids)], [mean])
            g = np.asarray(found)
            if accelerated:
                w, y, z = map(np.asarray, vr.coupled(w, y, z, anchor, g, 0.03))
            else:
                w = w - 0.1 * g
            plain = plain - 0.1 * gradient(plain, ids)
    assert np.linalg.norm(w - BEST) < 1e-3
    assert np.linalg.norm(plain - BEST) > 1e-2


def test_weights_without_a_gradient_stay_without() -> None:
    assert vr.corrected([None], [None], [np.zeros(2)]) == [None]


def test_a_random_part_grows_up_to_the_set() -> None:
    scsg, svrg = vr.REDUCTIONS["scsg"], vr.REDUCTIONS["svrg"]
    sizes = [int(vr.large_batch(scsg, 1_000, 16, times, 10.0)) for times in (0, 1, 5, 50)]
    assert sizes == [160, 192, round(160 * 1.2**5), 1_000]
    assert int(vr.large_batch(svrg, 1_000, 16, 3, 10.0)) == 1_000


def test_steps_between_see_as_many_samples_on_average() -> None:
    svrg, scsg = vr.REDUCTIONS["svrg"], vr.REDUCTIONS["scsg"]
    assert int(vr.steps_between(svrg, 1_000, 64, 0.5)) == 16
    uniform = keras.ops.convert_to_tensor(RNG.random(40_000).astype("float32"))
    found = np.asarray(vr.steps_between(scsg, 160, 16, uniform))
    assert found.min() == 1
    assert found.mean() == pytest.approx(10.0, rel=0.03)
    assert np.mean(found > 10) == pytest.approx(0.9**10, rel=0.05)
