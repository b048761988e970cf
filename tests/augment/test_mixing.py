"""Mixing against closed forms, counted pixels and the Beta distribution."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

from etude.augment import mixing
from etude.augment.drawing import Tables
from etude.augment.policy import Mixing, Policy

from .hand import pictures

FRAME = (12, 16)
X = pictures(6, *FRAME, 3)
Y = np.eye(6, dtype=np.float32)
PARTNER = np.array([3, 0, 4, 1, 2, 5], np.int32)


def tables(**values):
    return Tables.of(Policy(mixing=Mixing(**values)))


def uniform(*row, batch=6):
    return np.tile(np.float32(row), (batch, 1))


def test_mixup_blends_images_and_targets():
    mix = mixing.mix_of(tables(mixup=1.0), PARTNER, uniform(0.0, 0.2, 0.5, 0.5), FRAME)
    # The quantile .2 of an even λ is .2; the larger part stays.
    np.testing.assert_allclose(mix.lam, np.full(6, 0.8), atol=1e-6)
    np.testing.assert_allclose(
        mixing.mixed_images(ops.convert_to_tensor(X), mix), 0.8 * X + 0.2 * X[PARTNER], atol=1e-3
    )
    np.testing.assert_allclose(
        mixing.mixed_targets(ops.convert_to_tensor(Y), mix, FRAME),
        0.8 * Y + 0.2 * Y[PARTNER],
        atol=1e-6,
    )


@pytest.mark.parametrize("down, across", [(0.5, 0.5), (0.0, 0.9), (0.1, 0.3)])
def test_cutmix_counts_the_pixels_that_it_pastes(down, across):
    """λ is 3/4: a rectangle of half the sides, cut where it crosses the edge."""
    mix = mixing.mix_of(tables(cutmix=1.0), PARTNER, uniform(0.9, 0.75, down, across), FRAME)
    out = np.asarray(mixing.mixed_images(ops.convert_to_tensor(X), mix))
    for k in range(6):
        expected = X[k].copy()
        pasted = 0
        for i, j in np.ndindex(FRAME):
            if round(down * 12 - 3) <= i < round(down * 12 + 3) and (
                round(across * 16 - 4) <= j < round(across * 16 + 4)
            ):
                expected[i, j] = X[PARTNER[k], i, j]
                pasted += 1
        np.testing.assert_array_equal(out[k], expected)
        assert float(mix.share(FRAME)[k]) == pytest.approx(1.0 - pasted / 192.0)
    targets = np.asarray(mixing.mixed_targets(ops.convert_to_tensor(Y), mix, FRAME))
    np.testing.assert_allclose(targets.sum(axis=1), np.ones(6), atol=1e-6)


def test_without_mixing_nothing_changes_to_the_bit():
    mix = mixing.draw(tables(), 6, FRAME, keras.random.SeedGenerator(0))
    np.testing.assert_array_equal(mixing.mixed_images(ops.convert_to_tensor(X), mix), X)
    np.testing.assert_array_equal(mixing.mixed_targets(ops.convert_to_tensor(Y), mix, FRAME), Y)


def test_partners_are_a_permutation_and_kinds_have_their_shares():
    """Within 4 standard errors over 20,000 images."""
    batch = 20_000
    mix = mixing.draw(tables(mixup=0.3, cutmix=0.5), batch, FRAME, keras.random.SeedGenerator(1))
    np.testing.assert_array_equal(np.sort(mix.partner), np.arange(batch))
    blended = np.asarray(mix.lam) < 1.0
    box = np.asarray(mix.box)
    pasted = (box[:, 2] > box[:, 0]) & (box[:, 3] > box[:, 1])
    assert blended.mean() == pytest.approx(0.3, abs=4 * (0.21 / batch) ** 0.5)
    assert not (blended & pasted).any()
    # A rectangle of less than half a pixel may be empty.
    assert 0.4 < pasted.mean() < 0.5 + 4 * (0.25 / batch) ** 0.5


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_what_is_pasted_may_be_more_than_half(alpha):
    """The side's square is 1 - λ, with λ from all of Beta(α, α) (Yun et al. 2019)."""
    frame = (512, 512)
    tall = []
    for seed in range(4):
        drawn = keras.random.SeedGenerator(seed)
        mix = mixing.draw(tables(cutmix=1.0, alpha=alpha), 20_000, frame, drawn)
        box = np.asarray(mix.box)
        inside = (box[:, 0] > 0) & (box[:, 2] < frame[0])  # not cut at the border
        # Boxes are cut the likelier the taller they are: a side of s stays whole with 1 - s.
        tall.append((box[:, 2] - box[:, 0])[inside] / frame[0])
    sides = np.concatenate(tall)
    assert (sides > 0.75).any()
    lam = stats.beta.ppf((np.arange(100_000) + 0.5) / 100_000, alpha, alpha)
    known = np.sqrt(1.0 - lam)
    chance = (1.0 - known) / (1.0 - known).sum()
    for place in (0.3, 0.5, 0.75, 0.9):
        expected = chance[known <= place].sum()
        allowed = 4.0 * (expected * (1.0 - expected) / len(sides)) ** 0.5 + 0.01
        assert (sides <= place).mean() == pytest.approx(expected, abs=allowed)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_lambda_follows_the_beta_distribution(alpha):
    """The larger of λ and 1 - λ, against SciPy: within 4 standard errors over 20,000."""
    mix = mixing.draw(tables(mixup=1.0, alpha=alpha), 20_000, FRAME, keras.random.SeedGenerator(2))
    for place in (0.55, 0.7, 0.9, 0.98, 0.998):
        expected = 2.0 * stats.beta.cdf(place, alpha, alpha) - 1.0
        found = (np.asarray(mix.lam) <= place).mean()
        # Quantiles are linear between the table's points.
        allowed = 4.0 * (expected * (1.0 - expected) / 20_000) ** 0.5 + 0.002
        assert found == pytest.approx(expected, abs=allowed)
