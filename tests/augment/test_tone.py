"""Tone against PIL and closed forms."""

import numpy as np
import pytest

from .hand import augmented, hand, pictures

SHAPE = (3, 12, 10, 3)
X = pictures(*SHAPE)


def pil(x, function, *arguments):
    image = pytest.importorskip("PIL.Image")
    operations = pytest.importorskip("PIL.ImageOps")
    made = [image.fromarray(one.astype("uint8")) for one in x]
    return np.stack([np.asarray(getattr(operations, function)(p, *arguments)) for p in made])


def test_equalize_is_pils():
    """Of 1,900 pixels: below 255 of them its step is 0, and nothing changes."""
    x = pictures(3, 38, 50, 3)
    out = augmented(x, hand(x.shape, {"equalize": 1.0}))
    np.testing.assert_allclose(out, pil(x, "equalize"), atol=1e-2)
    assert np.abs(out - x).mean() > 5.0
    np.testing.assert_allclose(augmented(X, hand(SHAPE, {"equalize": 1.0})), X, atol=1e-3)


def test_equalize_of_few_values_is_pils():
    """A step of 0 leaves a channel as it is."""
    x = np.zeros((3, 38, 50, 3), np.float32)
    x[0, 3:] = 200.0
    x[1] = 77.0
    x[2, :, :20] = 30.0
    x[2, :, 35:] = 90.0
    out = augmented(x, hand(x.shape, {"equalize": 1.0}))
    np.testing.assert_allclose(out, pil(x, "equalize"), atol=1e-2)


def test_auto_contrast_is_pils():
    """To 1 of 255: PIL cuts its table to whole numbers."""
    x = 40.0 + np.round(X / 2.0)
    out = augmented(x, hand(SHAPE, {"auto_contrast": 1.0}))
    np.testing.assert_allclose(out, pil(x, "autocontrast"), atol=1.01)


def test_half_of_them_lies_half_way():
    x = 40.0 + np.round(pictures(3, 38, 50, 3) / 2.0)
    for name in ("equalize", "auto_contrast"):
        whole = augmented(x, hand(x.shape, {name: 1.0}))
        half = augmented(x, hand(x.shape, {name: 0.5}))
        assert np.abs(whole - x).mean() > 5.0
        np.testing.assert_allclose(half, (x + whole) / 2.0, atol=1e-2)


def test_a_flat_channel_has_no_contrast_to_stretch():
    x = np.full(SHAPE, 77.0, np.float32)
    np.testing.assert_array_equal(augmented(x, hand(SHAPE, {"auto_contrast": 1.0})), x)


def test_solarize_is_pils():
    """Strength .5 inverts from 127.5 up, which whole numbers meet at 128."""
    out = augmented(X, hand(SHAPE, {"solarize": 0.5}))
    np.testing.assert_allclose(out, pil(X, "solarize", 128), atol=1e-3)


@pytest.mark.parametrize("strength, bits", [(0.05, 8), (0.17, 7), (0.5, 5), (1.0, 2)])
def test_posterize_is_pils(strength, bits):
    out = augmented(X, hand(SHAPE, {"posterize": strength}))
    np.testing.assert_allclose(out, pil(X, "posterize", bits), atol=1e-3)


@pytest.mark.parametrize("number, exponent", [(0.9, 2.0), (0.1, 0.5)])
def test_gamma_is_a_power(number, exponent):
    out = augmented(X, hand(SHAPE, {"gamma": 0.5}, {"gamma": [number, 0, 0, 0]}))
    np.testing.assert_allclose(out, 255.0 * (X / 255.0) ** exponent, atol=0.02)
