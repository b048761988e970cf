"""Draws: frequencies against closed forms."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import tensorflow as tf
from scipy import stats

from etude.sampling import drawing

CHANCES = np.array([0.5, 0.0, 0.2, 0.3], np.float32)


def test_independent_draws_have_their_chances() -> None:
    rng = np.random.default_rng(0)
    uniform = rng.random(50_000).astype(np.float32)
    found = np.asarray(drawing.with_replacement(keras.ops.convert_to_tensor(CHANCES), uniform))
    counts = np.bincount(found, minlength=4)
    assert counts[1] == 0
    some = CHANCES > 0
    assert stats.chisquare(counts[some], 50_000 * CHANCES[some].astype(np.float64)).pvalue > 1e-3
    assert stats.chisquare(counts[some], np.full(3, 50_000 / 3)).pvalue < 1e-9


def test_the_ends_of_the_interval_are_samples_of_some_chance() -> None:
    chances = keras.ops.convert_to_tensor(np.array([0.0, 0.7, 0.3, 0.0], np.float32))
    ends = np.array([0.0, np.nextafter(np.float32(1), np.float32(0)), 1.0], np.float32)
    assert np.asarray(drawing.with_replacement(chances, ends)).tolist() == [1, 2, 2]


def test_systematic_draws_are_as_many_as_their_chances_up_to_rounding() -> None:
    """Counts are count · p rounded up or down, and count · p on average."""
    rng = np.random.default_rng(0)
    p = rng.lognormal(0.0, 1.2, 40).astype(np.float32)
    p[[3, 17]] = 0.0
    wanted = 12 * p.astype(np.float64) / p.sum()
    assert wanted.max() > 1.2
    counts = []
    draw = tf.function(
        lambda uniform: drawing.systematic(keras.ops.convert_to_tensor(p), 12, uniform)
    )
    for uniform in ((np.arange(4_000) + 0.5) / 4_000).astype(np.float32):
        drawn = draw(keras.ops.convert_to_tensor(uniform))
        assert np.asarray(drawn).dtype == np.int32
        counts.append(np.bincount(np.asarray(drawn), minlength=40))
    found = np.stack(counts)
    assert (found.sum(axis=1) == 12).all()
    assert (found >= np.floor(wanted)).all() and (found <= np.ceil(wanted)).all()
    # All places of the one number in turn: the mean is exact up to their distance.
    np.testing.assert_allclose(found.mean(axis=0), wanted, atol=12 / 4_000)
    even = np.asarray(drawing.systematic(keras.ops.ones(8), 8, 0.999))
    assert even.tolist() == list(range(8))


def test_draws_without_replacement_are_sequential() -> None:
    """The chance of each ordered pair in closed form."""
    rng = np.random.default_rng(1)
    p = np.array([0.6, 0.1, 0.3])
    times = 6_000
    pairs = []
    chances = keras.ops.convert_to_tensor(p.astype(np.float32))
    draw = tf.function(lambda uniform: drawing.without_replacement(chances, 2, uniform))
    for uniform in rng.random((times, 3)).astype(np.float32):
        drawn = np.asarray(draw(keras.ops.convert_to_tensor(uniform)))
        pairs.append(tuple(drawn.tolist()))
    orders = list(itertools.permutations(range(3), 2))
    expected = [times * p[i] * p[j] / (1 - p[i]) for i, j in orders]
    counts = [pairs.count(order) for order in orders]
    assert sum(counts) == times
    assert stats.chisquare(counts, expected).pvalue > 1e-3


def test_the_highest_come_in_falling_order() -> None:
    values = keras.ops.convert_to_tensor(np.array([0.1, 3.0, -1.0, 2.0], np.float32))
    assert np.asarray(drawing.highest(values, 3)).tolist() == [1, 3, 0]
