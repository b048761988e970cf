"""Masks, boxes and keypoints go where the pixels go."""

import numpy as np
import pytest
from keras import ops

from etude.augment import targets

from .hand import augmented, hand, warp_of

FRAME = (24, 32)
GEOMETRY = {
    "rotation": 0.1,
    "shear_x": 0.2,
    "translation_x": 0.1,
    "zoom_in": 0.2,
    "perspective": 0.4,
    "elastic": 0.5,
    "mirror_vertical": 1.0,
}


def blob(points):
    """One image a point, bright around it, and at most 255."""
    height, width = FRAME
    line, column = np.meshgrid(np.arange(height) + 0.5, np.arange(width) + 0.5, indexing="ij")
    x, y = points[:, 0, None, None], points[:, 1, None, None]
    bright = 255.0 * np.exp(-((column - x) ** 2 + (line - y) ** 2) / 8.0)
    return bright[..., None].astype("float32")


def test_keypoints_lie_where_their_pixels_are():
    """The middle of what is bright, within half a pixel, under all geometry at once."""
    rng = np.random.default_rng(0)
    points = rng.uniform([8.0, 8.0], [24.0, 16.0], (40, 2)).astype(np.float32)
    draw = hand((40, *FRAME, 1), GEOMETRY)
    out = augmented(blob(points), draw, "black")[..., 0]
    places, seen = targets.keypoints(
        warp_of(draw, FRAME), points[:, None], np.ones((40, 1), "bool")
    )
    places, seen = np.asarray(places)[:, 0], np.asarray(seen)[:, 0]
    line, column = np.meshgrid(np.arange(24) + 0.5, np.arange(32) + 0.5, indexing="ij")
    compared = 0
    for k in range(40):
        margin = min(places[k, 0], places[k, 1], 32 - places[k, 0], 24 - places[k, 1])
        assert bool(seen[k]) == bool(margin >= 0.0)
        if margin < 6.0:
            continue  # cut, so that its middle is another
        weight = np.where(out[k] > 0.5 * out[k].max(), out[k], 0.0)
        middle = [(weight * v).sum() / weight.sum() for v in (column, line)]
        np.testing.assert_allclose(places[k], middle, atol=0.6)
        compared += 1
    assert compared >= 10


def test_mirrored_keypoints_change_names():
    points = np.array([[[4.0, 6.0], [20.0, 10.0], [1.0, 1.0]]], np.float32)
    visible = np.array([[True, False, True]])
    draw = hand((1, *FRAME, 1), {"mirror_horizontal": 1.0})
    places, seen = targets.keypoints(warp_of(draw, FRAME), points, visible, pairs=((0, 1),))
    np.testing.assert_allclose(places[0], [[12.0, 10.0], [28.0, 6.0], [31.0, 1.0]], atol=1e-4)
    np.testing.assert_array_equal(seen[0], [False, True, True])
    draw = hand((1, *FRAME, 1), {"mirror_horizontal": 1.0, "mirror_vertical": 1.0})
    places, _ = targets.keypoints(warp_of(draw, FRAME), points, visible, pairs=((0, 1),))
    np.testing.assert_allclose(places[0, 0], [28.0, 18.0], atol=1e-4)


def test_points_outside_are_not_visible():
    points = np.array([[[30.0, 6.0], [4.0, 6.0]]], np.float32)
    draw = hand((1, *FRAME, 1), {"translation_x": 0.25}, {"translation_x": [0.1, 0, 0, 0]})
    places, seen = targets.keypoints(warp_of(draw, FRAME), points, np.ones((1, 2), "bool"))
    np.testing.assert_allclose(places[0], [[38.0, 6.0], [12.0, 6.0]], atol=1e-4)
    np.testing.assert_array_equal(seen[0], [False, True])


def test_a_box_that_reaches_behind_the_horizon_does_not_turn_round():
    """The strongest tilt, four times as large: the box begins in the middle, which stays, and its
    far corner has a depth below 0, by which it would come out on the other side."""
    strengths = {"perspective": 1.0, "zoom_in": 1.0}
    draw = hand((1, *FRAME, 1), strengths, {"perspective": [1.0, 1.0, 0.0, 0.0]})
    moved = warp_of(draw, FRAME)
    corners = np.array([[[16.0, 12.0, 31.0, 23.0]]], np.float32)
    inverse = np.linalg.inv(np.asarray(moved.matrix)[0])
    assert (inverse @ [15.0, 11.0, 1.0])[2] < 0.0
    found, kept = targets.boxes(moved, corners, np.ones((1, 1), "bool"), visibility=0.0)
    np.testing.assert_allclose(found[0, 0], [16.0, 12.0, 32.0, 24.0], atol=1e-3)
    assert bool(kept[0, 0])


@pytest.mark.parametrize(
    "strengths, numbers, expected",
    [
        ({"mirror_horizontal": 1.0}, {}, [20.0, 2.0, 28.0, 12.0]),
        ({"mirror_vertical": 1.0}, {}, [4.0, 12.0, 12.0, 22.0]),
        # A source four columns to the left: everything goes right.
        ({"translation_x": 0.125}, {"translation_x": [0.1, 0, 0, 0]}, [8.0, 2.0, 16.0, 12.0]),
        # Twice as large about the middle (16, 12), and cut at the frame.
        ({"zoom_in": 0.5}, {}, [0.0, 0.0, 8.0, 12.0]),
        # Half as large.
        ({"zoom_out": 0.5}, {}, [10.0, 7.0, 14.0, 12.0]),
    ],
)
def test_boxes_by_hand(strengths, numbers, expected):
    draw = hand((1, *FRAME, 1), strengths, numbers)
    corners = np.array([[[4.0, 2.0, 12.0, 12.0], [0.0, 0.0, 0.0, 0.0]]], np.float32)
    found, kept = targets.boxes(
        warp_of(draw, FRAME), corners, np.array([[True, False]]), visibility=0.1
    )
    np.testing.assert_allclose(found[0, 0], expected, atol=1e-3)
    np.testing.assert_array_equal(found[0, 1], np.zeros(4))
    np.testing.assert_array_equal(kept[0], [True, False])


def test_all_corners_of_a_box_move():
    """Turned by 27 degrees about the middle, the box around a centred square is wider by
    cos + sin."""
    draw = hand((1, *FRAME, 1), {"rotation": 0.2})
    corners = np.array([[[12.0, 8.0, 20.0, 16.0]]], np.float32)
    found, _ = targets.boxes(warp_of(draw, FRAME), corners, np.ones((1, 1), "bool"))
    half = 4.0 * (np.cos(np.radians(27.0)) + np.sin(np.radians(27.0)))
    np.testing.assert_allclose(found[0, 0], [16 - half, 12 - half, 16 + half, 12 + half], atol=1e-3)


def test_boxes_of_which_little_is_seen_go():
    """A quarter of the box stays in the frame."""
    draw = hand((1, *FRAME, 1), {"translation_x": 0.25}, {"translation_x": [0.9, 0, 0, 0]})
    corners = np.array([[[2.0, 2.0, 10.0, 12.0]]], np.float32)
    valid = np.ones((1, 1), "bool")
    moved = warp_of(draw, FRAME)
    for visibility, expected in ((0.24, True), (0.26, False)):
        found, kept = targets.boxes(moved, corners, valid, visibility)
        assert bool(kept[0, 0]) is expected
        np.testing.assert_allclose(found[0, 0], np.array([0, 2, 2, 12]) * expected, atol=1e-3)


def test_masks_take_the_nearest_pixel_and_ignore_what_is_beyond():
    """Classes are never blended; where the image is black the mask says so."""
    rng = np.random.default_rng(1)
    classes = rng.integers(0, 4, (5, *FRAME)).astype(np.int32)
    draw = hand((5, *FRAME, 1), GEOMETRY)
    moved = warp_of(draw, FRAME, "black")
    found = np.asarray(targets.masks(moved, classes, 255))
    assert found.dtype == np.int32
    column, line = np.asarray(moved.column), np.asarray(moved.line)
    beyond = 0
    for k, i, j in np.ndindex(5, *FRAME):
        p, q = line[k, i, j], column[k, i, j]
        if not (-0.5 <= p < 23.5 and -0.5 <= q < 31.5):
            beyond += 1
            if not (-0.502 <= p < 23.502 and -0.502 <= q < 31.502):
                assert found[k, i, j] == 255
        elif max(abs(p % 1 - 0.5), abs(q % 1 - 0.5)) < 0.499:
            assert found[k, i, j] == classes[k, int(np.floor(p + 0.5)), int(np.floor(q + 0.5))]
    assert beyond > 50


def test_masks_ignore_reflections_too():
    draw = hand((1, *FRAME, 1), {"translation_x": 0.25}, {"translation_x": [0.1, 0, 0, 0]})
    found = np.asarray(
        targets.masks(warp_of(draw, FRAME, "reflect"), np.ones((1, *FRAME, 2), "uint8"), 0)
    )
    np.testing.assert_array_equal(found[:, :, :8], 0)
    np.testing.assert_array_equal(found[:, :, 8:], 1)
    assert found.dtype == np.uint8 and found.shape == (1, *FRAME, 2)


def test_depth_keeps_its_values():
    depth = np.random.default_rng(2).uniform(0.5, 9.0, (2, *FRAME, 1)).astype(np.float32)
    draw = hand((2, *FRAME, 1), GEOMETRY)
    found = np.asarray(targets.masks(warp_of(draw, FRAME), ops.convert_to_tensor(depth), 0.0))
    assert set(np.unique(found)) <= {0.0, *np.unique(depth)}
