"""Filters against PIL, plain loops and statistics."""

import math

import numpy as np
import pytest
from keras import ops

from etude.augment import filters

from .hand import augmented, hand, pictures

SHAPE = (3, 12, 18, 3)
X = pictures(*SHAPE)


def test_sharpen_is_pils():
    """To 2 of 255: PIL rounds the smoothed image."""
    image = pytest.importorskip("PIL.Image")
    enhance = pytest.importorskip("PIL.ImageEnhance")
    out = augmented(X, hand(SHAPE, {"sharpen": 1.0}))
    for k in range(len(X)):
        picture = image.fromarray(X[k].astype("uint8"))
        expected = np.asarray(enhance.Sharpness(picture).enhance(1.99), np.float32)
        np.testing.assert_allclose(out[k], expected, atol=2.0)


def test_blur_is_a_plain_loop():
    out = np.asarray(filters.gaussian_blur(X / 255.0, np.float32([0.3, 0.6, 1.0]), None))
    for k, strength in enumerate((0.3, 0.6, 1.0)):
        sigma = strength * 12 / 12.0
        for i, j in ((0, 0), (6, 9), (11, 5)):
            total, weights = np.zeros(3), 0.0
            for p, q in np.ndindex(12, 18):
                weight = math.exp(-((p - i) ** 2 + (q - j) ** 2) / (2.0 * sigma**2))
                total += weight * X[k, p, q] / 255.0
                weights += weight
            np.testing.assert_allclose(out[k, i, j], total / weights, atol=1e-5)


def noise(batch, seed):
    rng = np.random.default_rng(seed)
    x = np.full((batch, 16, 16, 3), 0.5, np.float32)
    u = rng.uniform(size=(batch, 4)).astype(np.float32)
    table = rng.normal(size=(16, 16, 3)).astype(np.float32)
    out = filters.gaussian_noise(ops.convert_to_tensor(x), np.full(batch, 0.4, "float32"), u, table)
    return np.asarray(out) - 0.5


def test_noise_has_the_stated_spread():
    """Strength .4 is .1: within 4 standard errors over 600 tables, and normal in its tails."""
    values = np.concatenate([noise(1, seed).ravel() for seed in range(600)])
    assert values.std() == pytest.approx(0.1, abs=4 * 0.1 / math.sqrt(2 * len(values)))
    assert values.mean() == pytest.approx(0.0, abs=4 * 0.1 / math.sqrt(len(values)))
    assert (np.abs(values) > 0.2).mean() == pytest.approx(0.0455, abs=0.002)


def test_noise_of_two_images_hardly_correlates():
    """One table, but other places and signs: as many pairs go together as go apart."""
    values = noise(400, 1).reshape(400, -1)
    found = np.corrcoef(values)[np.triu_indices(400, 1)]
    # Two in 256 pairs are at the same place, and half of them have the same sign.
    assert np.median(np.abs(found)) < 2.0 / math.sqrt(768)
    assert abs(found.mean()) < 0.01
    assert (np.abs(found) > 0.9).mean() < 0.01


def test_neighbouring_pixels_have_noise_of_their_own():
    values = noise(1, 2)[0]
    assert abs(np.corrcoef(values[:, :-1].ravel(), values[:, 1:].ravel())[0, 1]) < 0.12
