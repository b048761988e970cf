"""Geometry against SciPy, NumPy and plain loops."""

import math

import numpy as np
import pytest
from keras import ops
from scipy import ndimage

from etude.augment import geometry, names

from .hand import augmented, hand, pictures, warp_of

FRAME = (16, 16)
SHAPE = (3, *FRAME, 3)
X = pictures(*SHAPE)
FIRST, LAST = names.span("geometry")


def matrices(draw, frame=FRAME):
    return np.asarray(
        geometry.composed(draw.strength[:, FIRST:LAST], draw.uniform[:, FIRST:LAST], frame)
    )


def with_scipy(x, matrix, mode):
    """An image through (x, y) → matrix, by SciPy, which takes (line, column) from a corner."""
    height, width = x.shape[:2]
    line, column = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    places = np.stack([column - (width - 1) / 2, line - (height - 1) / 2, np.ones_like(line)])
    source = np.einsum("ij,jhw->ihw", np.asarray(matrix, np.float64), places)
    column = source[0] / source[2] + (width - 1) / 2
    line = source[1] / source[2] + (height - 1) / 2
    out = [ndimage.map_coordinates(x[..., c], (line, column), order=1, mode=mode) for c in range(3)]
    return np.stack(out, axis=-1)


def turn(degrees):
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return [[c, -s, 0], [s, c, 0], [0, 0, 1]]


CASES = {
    "rotation": (0.2, [0.9, 0, 0, 0], turn(27.0)),
    "shear_x": (0.5, [0.9, 0, 0, 0], [[1, 0.495, 0], [0, 1, 0], [0, 0, 1]]),
    "shear_y": (0.5, [0.1, 0, 0, 0], [[1, 0, 0], [-0.495, 1, 0], [0, 0, 1]]),
    "translation_x": (0.25, [0.9, 0, 0, 0], [[1, 0, 4], [0, 1, 0], [0, 0, 1]]),
    "translation_y": (0.3, [0.1, 0, 0, 0], [[1, 0, 0], [0, 1, -5], [0, 0, 1]]),
    "zoom_in": (0.5, [0, 0, 0, 0], [[0.5, 0, 0], [0, 0.5, 0], [0, 0, 1]]),
    "zoom_out": (0.5, [0, 0, 0, 0], [[2, 0, 0], [0, 2, 0], [0, 0, 1]]),
    # Half of .92 of the area goes; the ratio is 4 : 3; the part lies at the left and the bottom.
    "random_resized_crop": (
        1.0,
        [0.5, 1.0, 0.0, 1.0],
        [
            [math.sqrt(0.54 * 4 / 3), 0, -(1 - math.sqrt(0.54 * 4 / 3)) * 8],
            [0, math.sqrt(0.54 * 3 / 4), (1 - math.sqrt(0.54 * 3 / 4)) * 8],
            [0, 0, 1],
        ],
    ),
    "perspective": (0.5, [1.0, 0.25, 0, 0], [[1, 0, 0], [0, 1, 0], [0.025, -0.0125, 1]]),
}


@pytest.mark.parametrize("fill, mode", [("edge", "nearest"), ("reflect", "reflect")])
@pytest.mark.parametrize("name", CASES)
def test_against_scipy(name, fill, mode):
    strength, numbers, matrix = CASES[name]
    draw = hand(SHAPE, {name: strength}, {name: numbers})
    np.testing.assert_allclose(matrices(draw)[1], matrix, atol=1e-6)
    out = augmented(X, draw, fill)
    for k in range(len(X)):
        np.testing.assert_allclose(out[k], with_scipy(X[k], matrix, mode), atol=0.05)


def test_mirrors_act_on_their_axes():
    for name, axis in (("mirror_horizontal", 2), ("mirror_vertical", 1)):
        out = augmented(X, hand(SHAPE, {name: 0.5}, {name: [0.49, 0, 0, 0]}))
        np.testing.assert_array_equal(out, np.flip(X, axis))
        same = augmented(X, hand(SHAPE, {name: 0.5}, {name: [0.51, 0, 0, 0]}))
        np.testing.assert_array_equal(same, X)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns_are_numpys(quarters):
    numbers = [0.0, (quarters - 0.5) / 3.0, 0.0, 0.0]
    out = augmented(X, hand(SHAPE, {"quarter_turns": 1.0}, {"quarter_turns": numbers}))
    np.testing.assert_array_equal(out, np.rot90(X, quarters, axes=(1, 2)))


def test_a_quarter_turn_of_an_oblong_image_keeps_all_of_it():
    x = pictures(1, 8, 16, 1)
    draw = hand(x.shape, {"quarter_turns": 1.0}, {"quarter_turns": [0.0, 0.1, 0.0, 0.0]})
    moved = warp_of(draw, (8, 16))
    assert np.asarray(moved.inside).all()
    corners = np.asarray(moved.column)[0][[0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.max() > 14.0 and corners.min() < 1.0


def test_one_after_the_other_is_one_resampling():
    """The family's order: mirrored, turned by a quarter, then moved; all of it exact."""
    draw = hand(
        SHAPE,
        {"mirror_horizontal": 1.0, "quarter_turns": 1.0, "translation_x": 0.25},
        {"quarter_turns": [0.0, 0.1, 0, 0], "translation_x": [0.9, 0, 0, 0]},
    )
    expected = np.rot90(np.flip(X, 2), 1, axes=(1, 2))
    black = np.zeros_like(X)
    black[:, :, :-4] = expected[:, :, 4:]
    np.testing.assert_array_equal(augmented(X, draw, "black"), black)


@pytest.mark.parametrize("fill, value", [("black", 0.0), ("grey", 127.5)])
def test_what_lies_beyond_the_edges(fill, value):
    draw = hand(SHAPE, {"translation_y": 0.25}, {"translation_y": [0.1, 0, 0, 0]})
    out = augmented(X, draw, fill)
    np.testing.assert_array_equal(out[:, :4], np.full_like(out[:, :4], value))
    np.testing.assert_array_equal(out[:, 4:], X[:, :-4])


def test_reflection_is_numpys_symmetric_padding():
    places = np.arange(-20, 40, dtype=np.float32)
    expected = np.pad(np.arange(7), (20, 33), mode="symmetric")
    np.testing.assert_allclose(geometry.folded(places, 7), expected, atol=1e-5)


def test_bilinear_between_pixels_is_scipys():
    rng = np.random.default_rng(3)
    line, column = rng.uniform(-3.0, 20.0, (2, 3, 6, 5)).astype(np.float32)
    out = np.asarray(geometry.bilinear(ops.convert_to_tensor(X), column, line))
    for k in range(3):
        for c in range(3):
            expected = ndimage.map_coordinates(
                X[k, :, :, c], (line[k], column[k]), order=1, mode="nearest"
            )
            np.testing.assert_allclose(out[k, :, :, c], expected, atol=2e-3)


def test_nearest_is_a_plain_loop():
    rng = np.random.default_rng(4)
    line, column = rng.uniform(-3.0, 20.0, (2, 3, 6, 5)).astype(np.float32)
    out = np.asarray(geometry.nearest(ops.convert_to_tensor(X), column, line))
    for k, i, j in np.ndindex(3, 6, 5):
        row = int(min(max(math.floor(line[k, i, j] + 0.5), 0), 15))
        place = int(min(max(math.floor(column[k, i, j] + 0.5), 0), 15))
        np.testing.assert_array_equal(out[k, i, j], X[k, row, place])


def test_elastic_displacements_are_a_sum_of_gaussians():
    rng = np.random.default_rng(5)
    controls = rng.normal(size=(2, 5, 5, 2)).astype(np.float32)
    s = np.array([0.5, 1.0], np.float32)
    x, y = rng.uniform(-9.0, 9.0, (2, 2, 4)).astype(np.float32)
    frame = (12, 20)
    found = geometry.displacement(x, y, controls, s, frame)
    for k, p, axis in np.ndindex(2, 4, 2):
        total = 0.0
        for i, j in np.ndindex(5, 5):
            down = (y[k, p] - (i - 2) * 3.0) / 3.0
            across = (x[k, p] - (j - 2) * 5.0) / 5.0
            total += float(controls[k, i, j, axis]) * math.exp(-0.5 * (down**2 + across**2))
        expected = total * s[k] * 0.1 * 12 / math.sqrt(math.pi)
        assert float(found[axis][k, p]) == pytest.approx(expected, abs=1e-4)


def test_elastic_displacements_on_the_grid_are_those_at_its_places():
    rng = np.random.default_rng(6)
    controls = rng.normal(size=(2, 5, 5, 2)).astype(np.float32)
    s = np.array([0.4, 0.9], np.float32)
    frame = (7, 10)
    columns, lines = (np.asarray(v) for v in geometry.centred(frame))
    x, y = np.meshgrid(columns, lines)
    flat = geometry.displacement(x.reshape(1, -1), y.reshape(1, -1), controls, s, frame)
    grid = geometry.displacement_grid(controls, s, frame)
    for one, other in zip(flat, grid, strict=True):
        np.testing.assert_allclose(np.reshape(one, (2, 7, 10)), other, atol=1e-5)


def test_elastic_displacements_have_the_stated_spread():
    """In the middle, where all control points count: within 5 % over 20,000 draws."""
    controls = np.random.default_rng(7).normal(size=(20_000, 5, 5, 2)).astype(np.float32)
    zero = np.zeros((1, 1), np.float32)
    ones = np.ones(20_000, np.float32)
    dx, _ = geometry.displacement(zero, zero, controls, ones, (20, 20))
    assert float(np.std(dx)) == pytest.approx(2.0, rel=0.05)


def test_inverses():
    draw = hand(SHAPE, {"rotation": 0.3, "perspective": 0.8, "zoom_in": 0.4, "shear_x": 0.3})
    matrix = matrices(draw)
    product = np.asarray(geometry.inverse(ops.convert_to_tensor(matrix))) @ matrix
    product /= product[:, 2:, 2:]
    np.testing.assert_allclose(product, np.tile(np.eye(3), (3, 1, 1)), atol=1e-4)
