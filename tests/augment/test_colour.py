"""Linear colour against PIL and closed forms."""

import itertools

import numpy as np
import pytest

from etude.augment import colour

from .hand import augmented, hand, pictures

SHAPE = (3, 12, 10, 3)
X = pictures(*SHAPE)
LUMA = np.array([0.299, 0.587, 0.114])

# What PIL's factor is for strength .6 of each.
ENHANCED = {
    "brightness_up": ("Brightness", 1.594),
    "brightness_down": ("Brightness", 0.406),
    "contrast_up": ("Contrast", 1.594),
    "contrast_down": ("Contrast", 0.406),
    "saturation_up": ("Color", 1.594),
    "saturation_down": ("Color", 0.406),
}


@pytest.mark.parametrize("name", ENHANCED)
def test_against_pil(name):
    """To 2 of 255: PIL rounds greys and results."""
    image = pytest.importorskip("PIL.Image")
    enhance = pytest.importorskip("PIL.ImageEnhance")
    kind, factor = ENHANCED[name]
    out = augmented(X, hand(SHAPE, {name: 0.6}))
    for k in range(len(X)):
        picture = image.fromarray(X[k].astype("uint8"))
        expected = np.asarray(getattr(enhance, kind)(picture).enhance(factor), np.float32)
        np.testing.assert_allclose(out[k], expected, atol=2.0)


def test_invert_and_grayscale_are_done_or_not():
    draw = hand(SHAPE, {"invert": 0.5}, {"invert": [[0.4] * 4, [0.6] * 4, [0.1] * 4]})
    expected = np.stack([255.0 - X[0], X[1], 255.0 - X[2]])
    np.testing.assert_allclose(augmented(X, draw), expected, atol=1e-3)
    draw = hand(SHAPE, {"grayscale": 0.5}, {"grayscale": [[0.4] * 4, [0.6] * 4, [0.1] * 4]})
    grey = np.repeat((X * LUMA).sum(-1, keepdims=True), 3, axis=-1)
    expected = np.stack([grey[0], X[1], grey[2]])
    np.testing.assert_allclose(augmented(X, draw), expected, atol=1e-3)


@pytest.mark.parametrize("which", range(5))
def test_channels_change_places(which):
    numbers = [0.0, (which + 0.5) / 5.0, 0.0, 0.0]
    draw = hand(SHAPE, {"channel_shuffle": 1.0}, {"channel_shuffle": numbers})
    order = list(itertools.permutations(range(3)))[1 + which]
    np.testing.assert_array_equal(augmented(X, draw), X[..., list(order)])


def test_turning_hues_keeps_luma_and_chroma():
    """A rotation of (I, Q) by 54 degrees in float64."""
    mean = np.full((1, 3), 0.5, np.float32)
    matrix = np.asarray(colour.hue(np.float32([0.3]), np.float32([[0.9, 0, 0, 0]]), mean))[0]
    yiq = np.linalg.inv(
        [[1.0, 0.9563, 0.6210], [1.0, -0.2721, -0.6474], [1.0, -1.1070, 1.7046]]
    )  # the published inverse, to four digits
    c, s = np.cos(np.radians(54.0)), np.sin(np.radians(54.0))
    rotated = np.linalg.inv(yiq) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ yiq
    np.testing.assert_allclose(matrix[:, :3], rotated, atol=2e-3)
    np.testing.assert_allclose(LUMA @ matrix[:, :3], LUMA, atol=1e-6)
    np.testing.assert_array_equal(matrix[:, 3], np.zeros(3))


def test_one_after_the_other_is_one_matrix():
    """Brightness, then contrast around the mean that brightness left, then saturation."""
    x = X / 255.0 * 0.4 + 0.2  # nothing is cut
    names = ("brightness_up", "contrast_down", "saturation_up")
    step = x
    for name in names:
        step = augmented(step, hand(SHAPE, {name: 0.2}), value_range=(0.0, 1.0))
    at_once = augmented(x, hand(SHAPE, dict.fromkeys(names, 0.2)), value_range=(0.0, 1.0))
    np.testing.assert_allclose(at_once, step, atol=1e-5)


def test_without_three_channels_contrast_is_around_the_mean_of_all():
    x = pictures(2, 8, 8, 1)
    out = augmented(x, hand(x.shape, {"contrast_down": 0.5}))
    mean = x.mean(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(out, mean + 0.505 * (x - mean), atol=1e-2)
