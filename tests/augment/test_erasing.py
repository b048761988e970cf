"""Erasing against plain loops and areas."""

import numpy as np
import pytest

from etude.augment import erasing

from .hand import augmented, hand, pictures

FRAME = (16, 20)
SHAPE = (4, *FRAME, 3)
X = pictures(*SHAPE)


def test_cutout_covers_a_square_with_the_mean_also_across_the_edge():
    numbers = [[0.5, 0.5, 0, 0], [0.0, 0.0, 0, 0], [0.999, 0.5, 0, 0], [0.25, 0.75, 0, 0]]
    out = augmented(X, hand(SHAPE, {"cutout": 0.5}, {"cutout": numbers}))
    for k, (down, across, *_) in enumerate(numbers):
        expected = X[k].copy()
        for i, j in np.ndindex(FRAME):
            if abs(i + 0.5 - down * 16) < 4.0 and abs(j + 0.5 - across * 20) < 4.0:
                expected[i, j] = X[k].mean(axis=(0, 1))
        np.testing.assert_allclose(out[k], expected, atol=1e-3)


def test_random_erasing_covers_the_stated_area():
    """Strength .5 is a quarter; sides are whole pixels. Where a side is as long as the image, the
    rectangle is smaller than that."""
    rng = np.random.default_rng(0)
    u = rng.uniform(size=(2_000, 4)).astype(np.float32)
    lines, columns = erasing.random_erasing(np.full(2_000, 0.5, "float32"), u, (64, 64))
    tall, wide = np.asarray(lines).sum(1), np.asarray(columns).sum(1)
    assert (tall * wide).mean() / 64**2 == pytest.approx(0.25, abs=0.005)
    ratio = tall / wide
    assert ratio.min() > 0.27 and ratio.max() < 3.7
    assert ratio.min() < 0.4 and ratio.max() > 2.5
    first = np.asarray(lines).argmax(1)
    assert first.min() == 0 and (first + tall).max() == 64


def test_random_erasing_has_a_colour_of_its_own():
    draw = hand(
        SHAPE,
        {"random_erasing": 1.0},
        {"random_erasing": [[0.5, 0.5, 0.5, 0.1 * k] for k in range(4)]},
    )
    out = augmented(X, draw)
    for k in range(4):
        expected = 255.0 * np.mod(0.1 * k + np.array([0.0, 1.0, 2.0]) / 3.0, 1.0)
        np.testing.assert_allclose(out[k, 8, 10], expected, atol=0.1)


def test_the_grid_covers_the_stated_share():
    """Strength .5 covers .4 of each period: .16 of the area, on the mean over phases."""
    rng = np.random.default_rng(1)
    u = rng.uniform(size=(2_000, 4)).astype(np.float32)
    lines, columns = erasing.grid_mask(np.full(2_000, 0.5, "float32"), u, (64, 64))
    area = np.asarray(lines).mean(1) * np.asarray(columns).mean(1)
    assert area.mean() == pytest.approx(0.16, abs=0.005)
    # A period of 16 to 32 pixels shows 2 to 5 stripes.
    starts = (np.diff(np.asarray(lines).astype(int), axis=1) == 1).sum(1)
    assert starts.min() >= 1 and starts.max() <= 5
