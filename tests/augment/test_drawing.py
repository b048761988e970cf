"""Draws follow the policy, within stated bounds at fixed seeds."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

from etude.augment import drawing, names, policy
from etude.augment.drawing import Tables
from etude.augment.policy import Choice, Policy, Slot

BATCH = 20_000


def strengths(given, seed=0, batch=BATCH):
    picks = np.random.default_rng(seed).uniform(size=(batch, policy.MOST_SLOTS, 2))
    return np.asarray(drawing.strengths(Tables.of(given), picks.astype("float32")))


def test_choices_have_their_weights():
    """χ² over the choices of a slot that draws half the time, p > .001."""
    weights = {"rotation": 1.0, "hue": 2.0, "cutout": 5.0}
    slot = Slot(tuple(Choice(n, 10.0, 10.0, w) for n, w in weights.items()), probability=0.5)
    found = strengths(Policy((slot,)))
    counts = [(found[:, names.INDEX[name]] > 0.0).sum() for name in weights]
    counts.append(BATCH - sum(counts))
    expected = [0.5 * BATCH * w / 8.0 for w in weights.values()] + [0.5 * BATCH]
    assert stats.chisquare(counts, expected).pvalue > 1e-3
    others = [k for name, k in names.INDEX.items() if name not in weights]
    assert not found[:, others].any()


def test_magnitudes_are_even_between_their_ends():
    found = strengths(Policy((Slot((Choice("gamma", 20.0, 70.0),)),)))[:, names.INDEX["gamma"]]
    assert stats.kstest(found, stats.uniform(0.2, 0.5).cdf).pvalue > 1e-3


def test_what_is_drawn_twice_adds_up_to_at_most_all():
    twice = Slot((Choice("hue", 30.0, 30.0),), draws=2)
    assert strengths(Policy((twice,)), batch=5)[:, names.INDEX["hue"]] == pytest.approx(0.6)
    four = Slot((Choice("hue", 30.0, 30.0),), draws=4)
    assert strengths(Policy((four,)), batch=5)[:, names.INDEX["hue"]] == pytest.approx(1.0)


def test_slots_draw_independently():
    """Two slots of one half: both in a quarter of the images, within 4 standard errors."""
    slots = [Slot((Choice(name, 50.0, 50.0),), probability=0.5) for name in ("hue", "cutout")]
    found = strengths(Policy(tuple(slots)))
    both = (found[:, names.INDEX["hue"]] > 0) & (found[:, names.INDEX["cutout"]] > 0)
    assert both.mean() == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / BATCH) ** 0.5)


def test_a_slot_as_large_as_can_be_draws_its_last_choice():
    others = [name for name in names.INDEX if name != "hue"]
    filling = tuple(Choice(others[k % len(others)], 1.0, 1.0) for k in range(63))
    found = strengths(
        Policy(
            (
                Slot(
                    (*filling, Choice("hue", 50.0, 50.0)),
                ),
            )
        )
    )
    share = (found[:, names.INDEX["hue"]] > 0).mean()
    assert share == pytest.approx(1 / 64, abs=4 * (1 / 64 / BATCH) ** 0.5)


def flips(given, ids, epoch, seed=0):
    tables = Tables.of(given)
    drawn = drawing.draw(
        tables, (len(ids), 8, 8, 1), keras.random.SeedGenerator(seed), ids=ids, epoch=epoch
    )
    return np.asarray(drawn.strength)[:, names.INDEX["mirror_horizontal"]]


def test_alternating_flips_turn_every_image_every_other_epoch():
    ids = ops.arange(10_000, dtype="int64")
    given = Policy(alternating_flip=True)
    epochs = [flips(given, ids, epoch, seed=epoch) for epoch in range(4)]
    np.testing.assert_array_equal(epochs[0], 1.0 - epochs[1])
    np.testing.assert_array_equal(epochs[0], epochs[2])
    np.testing.assert_array_equal(epochs[1], epochs[3])
    # Half of them in each, and those 1 to 8 apart are neither alike nor unlike: within 4 standard
    # errors.
    assert epochs[0].mean() == pytest.approx(0.5, abs=4 * 0.005)
    for lag in range(1, 9):
        found = np.corrcoef(epochs[0][:-lag], epochs[0][lag:])[0, 1]
        assert found == pytest.approx(0.0, abs=4 * 0.01)


def test_without_ids_flips_are_drawn():
    tables = Tables.of(Policy(alternating_flip=True))
    drawn = drawing.draw(tables, (BATCH, 8, 8, 1), keras.random.SeedGenerator(1))
    found = np.asarray(drawn.strength)[:, names.INDEX["mirror_horizontal"]]
    assert set(np.unique(found)) == {0.0, 1.0}
    assert found.mean() == pytest.approx(0.5, abs=4 * (0.25 / BATCH) ** 0.5)


def test_without_alternating_nothing_is_forced():
    assert not flips(Policy(), ops.arange(100), 0).any()
