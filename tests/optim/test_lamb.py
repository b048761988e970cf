"""LAMB against the published rule, written down in plain NumPy."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from etude.optim.lamb import LAMB

from . import references
from .helpers import SHAPES, moved, path


def test_the_published_first_step() -> None:
    start, ones = np.full((2, 2), 2.0), [np.ones((2, 2))]
    np.testing.assert_allclose(moved(LAMB(0.1, weight_decay=0.5), start, ones), 1.8, rtol=1e-6)
    # Keras' own rule decays outside of the ratio. The day that this fails, it may serve.
    keras_own = keras.optimizers.Lamb(0.1, weight_decay=0.5)
    np.testing.assert_allclose(moved(keras_own, start, ones), 1.71, rtol=1e-6)


@pytest.mark.parametrize("decay", [None, 0.3])
@pytest.mark.parametrize("kind", sorted(SHAPES))
def test_many_steps_follow_a_plain_loop(kind: str, decay: float | None) -> None:
    start, gradients = path(kind)
    options: dict[str, Any] = {"beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-3}
    found = moved(LAMB(0.05, weight_decay=decay, **options), start, gradients)
    want = references.lamb(start, gradients, rate=0.05, decay=decay or 0.0, **options)[-1]
    np.testing.assert_allclose(found, want, rtol=2e-5, atol=1e-6)
    assert np.abs(want - start).max() > 0.05


def test_where_a_norm_is_zero_the_ratio_is_one() -> None:
    nothing, ones = np.zeros((2, 3)), np.ones((2, 3))
    # The first step of Adam is one rate long: the weights' norm would make it 0.
    np.testing.assert_allclose(moved(LAMB(0.1), nothing, [ones]), -0.1, rtol=1e-5)
    assert (moved(LAMB(0.1), ones, [nothing] * 3) == 1.0).all()
    assert (moved(LAMB(0.1, weight_decay=0.5), nothing, [nothing] * 3) == 0.0).all()
    # Without a gradient the decay alone is the update, as long as the weights.
    found = moved(LAMB(0.1, weight_decay=0.5), ones, [nothing])
    np.testing.assert_allclose(found, 0.9, rtol=1e-6)


def test_a_step_is_a_share_of_the_weights_whatever_the_gradient() -> None:
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=(6, 5)), rng.normal(size=(8, 6, 5))
    path, steep = (moved(LAMB(0.1), start, scale * gradients) for scale in (1.0, 1000.0))
    np.testing.assert_allclose(path, steep, rtol=1e-4)
    step = moved(LAMB(0.1), start, gradients[:1]) - start
    assert np.linalg.norm(step) == pytest.approx(0.1 * np.linalg.norm(start), rel=1e-5)
    # So it is for weights a hundred times as large, too.
    far = moved(LAMB(0.1), 100.0 * start, gradients[:1]) - 100.0 * start
    np.testing.assert_allclose(far, 100.0 * step, rtol=1e-3, atol=1e-4)
