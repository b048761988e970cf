"""Balanced weight decay: closed forms, plain loops, and where constant decay comes to rest."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from etude.errors import RecipeError
from etude.optim import balanced_decay
from etude.recipe import Recipe
from etude.training import checks
from etude.training.trainer import Trainer

from ..training import helpers


def across(w: np.ndarray, length: float, rng: np.random.Generator) -> np.ndarray:
    """An update of a given length at right angles to the weights."""
    update = rng.normal(size=w.shape)
    update -= w * np.vdot(update, w) / np.vdot(w, w)
    return np.asarray(update * length / np.linalg.norm(update))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([3.0, 4.0], [3.0, 5.0], 0.5 * 1.0 / 25.0),
        ([3.0, 4.0], [3.0, 4.0], 0.0),
        ([0.0, 0.0], [1.0, 1.0], 0.0),
        ([0.1, 0.0], [5.0, 5.0], balanced_decay.MOST),
    ],
)
def test_the_share_is_half_of_the_squared_ratio(
    before: list[float], after: list[float], expected: float
) -> None:
    found = balanced_decay.share(np.float32(before), np.float32(after))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_updates_at_right_angles_leave_the_norm_as_it_is() -> None:
    """|w'|² = |w|² (1 + r² / 4) with r = |Δ|² / |w|²; without decay it would be (1 + r)."""
    rng = np.random.default_rng(0)
    w, ratio = rng.normal(size=(5, 8)).astype(np.float32), 0.01
    first = np.linalg.norm(w)
    for _ in range(200):
        length = np.sqrt(ratio) * np.linalg.norm(w)
        w = np.asarray(balanced_decay.decayed(w, w + across(w, length, rng).astype(np.float32)))
    assert np.linalg.norm(w) / first == pytest.approx((1 + ratio**2 / 4) ** 100, rel=1e-3)


def test_it_is_the_decay_at_which_constant_decay_comes_to_rest() -> None:
    rng = np.random.default_rng(1)
    w, decay = rng.normal(size=50), 0.02  # η λ
    for _ in range(600):
        w = (w + across(w, 0.3, rng)) - decay * w
    share = float(balanced_decay.share(w, w + across(w, 0.3, rng)))
    assert share == pytest.approx(decay, rel=0.03)


def test_halves_are_squared_in_full_precision() -> None:
    """A thousand squares of 300 are more than a half can hold."""
    w = np.full(1000, 300.0, np.float16)
    found = np.asarray(balanced_decay.decayed(w, w + np.float16(30.0)))
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, 330.0 - 0.005 * 300.0, rtol=1e-3)


@pytest.mark.parametrize("own", [None, 0.3])
def test_a_step_is_the_optimizers_without_its_decay_and_then_balanced(own: float | None) -> None:
    x, y = helpers.images(32)
    recipe = Recipe().give(regularization={"decay": "balanced"})

    def trained(decay: float | None, recipe: Recipe) -> tuple[list[Any], list[Any]]:
        model = helpers.functional()
        optimizer = keras.optimizers.SGD(0.5, momentum=0.9, weight_decay=decay)
        trainer = Trainer(model, recipe)
        trainer.compile(optimizer, helpers.loss())
        before = [np.array(w) for w in model.trainable_weights]
        trainer.fit(x, y, batch_size=32, epochs=1, shuffle=False, verbose=0)
        return before, [np.array(w) for w in model.trainable_weights]

    before, plain = trained(None, Recipe())
    again, found = trained(own, recipe)
    moved = 0
    for w, start, after, new in zip(before, again, plain, found, strict=True):
        np.testing.assert_array_equal(w, start)
        expected = after.astype(np.float64)
        if w.ndim >= 2:
            delta = expected - w
            expected = expected - 0.5 * np.sum(delta**2) / np.sum(w.astype(np.float64) ** 2) * w
            moved += np.abs(expected - after).max() > 1e-5
        np.testing.assert_allclose(new, expected, rtol=1e-4, atol=1e-6)
    assert moved >= 2


def test_a_constraint_holds_after_the_decay() -> None:
    rng = np.random.default_rng(2)
    weight = keras.Variable(rng.normal(size=(4, 3)).astype(np.float32))
    weight.constraint = keras.constraints.UnitNorm()
    weight.assign(weight.constraint(weight.value))
    with balanced_decay.balancing([weight]):
        weight.assign(weight.constraint(weight + rng.normal(size=(4, 3)).astype(np.float32)))
    np.testing.assert_allclose(np.linalg.norm(np.asarray(weight), axis=0), 1.0, rtol=1e-5)


def test_where_it_cannot_be_it_is_refused() -> None:
    with pytest.raises(RecipeError, match="several devices"):
        checks.check_balanced(keras.optimizers.SGD(), distributed=True)

    class Own(keras.optimizers.SGD):
        pass

    checks.check_balanced(Own(), distributed=False)
    with pytest.raises(RecipeError, match="not known here"):
        checks.check_balanced(Own(weight_decay=0.1), distributed=False)
    with pytest.raises(RecipeError, match="one of"):
        Recipe().give(regularization={"decay": "dynamic"})
