"""What a warp does to masks, depth, boxes and keypoints: they go where the pixels go."""

from __future__ import annotations

from typing import Any

from keras import ops

from etude.augment import geometry
from etude.augment.warping import Warp

ROUNDS = 8
"""Rounds of the fixed-point iteration that inverts elastic displacements."""


def masks(warped: Warp, maps: Any, ignore: int | float | None) -> Any:
    """Class masks, instance masks or dense depth: the nearest pixel's value.

    Args:
        warped: The images' geometry.
        maps: `(batch, height, width)` or `(batch, height, width, channels)`, any dtype; stacks of
            instance masks have one channel each.
        ignore: The value of pixels that come from beyond the original, whatever the image shows
            there; `None` for what it shows, or the edge's.

    Returns:
        Maps of the same shape and dtype.
    """
    maps = ops.convert_to_tensor(maps)
    flat = len(maps.shape) == 3
    found = geometry.nearest(maps[..., None] if flat else maps, warped.column, warped.line)
    if ignore is not None:
        beyond = ops.logical_not(warped.inside)[..., None]
        found = ops.where(beyond, ops.cast(ignore, maps.dtype), found)
    return found[..., 0] if flat else found


def keypoints(
    warped: Warp, points: Any, visible: Any, pairs: tuple[tuple[int, int], ...] = ()
) -> tuple[Any, Any]:
    """Places of keypoints.

    Args:
        warped: The images' geometry.
        points: `(batch, points, 2)` x and y in pixels from the upper left corner of the frame; a
            pixel's middle is at a half.
        visible: `(batch, points)` boolean.
        pairs: Indices that change places where an image is mirrored, such as those of a left
            and a right hand.

    Returns:
        Points of the same shape, float32, and which of them are visible: those that were and
        lie within the frame.
    """
    height, width = warped.frame
    points = ops.cast(points, "float32")
    x, y = _moved(warped, points[..., 0] - width / 2.0, points[..., 1] - height / 2.0)
    x, y = x + width / 2.0, y + height / 2.0
    seen = ops.logical_and(
        ops.logical_and(x >= 0.0, x <= float(width)), ops.logical_and(y >= 0.0, y <= float(height))
    )
    visible = ops.logical_and(ops.cast(visible, "bool"), seen)
    found = ops.stack([x, y], axis=-1)
    if not pairs:
        return found, visible
    order = list(range(points.shape[1]))
    for one, other in pairs:
        order[one], order[other] = other, one
    mirrored = _determinant(warped.matrix) < 0.0
    index = ops.convert_to_tensor(order, dtype="int32")
    found = ops.where(mirrored[:, None, None], ops.take(found, index, axis=1), found)
    return found, ops.where(mirrored[:, None], ops.take(visible, index, axis=1), visible)


def boxes(warped: Warp, corners: Any, valid: Any, visibility: float = 0.25) -> tuple[Any, Any]:
    """Boxes around the moved corners of boxes, cut at the frame.

    Args:
        warped: The images' geometry.
        corners: `(batch, boxes, 4)` left, top, right and bottom in pixels from the upper left
            corner of the frame.
        valid: `(batch, boxes)` boolean: which rows are boxes at all.
        visibility: Share of a moved box's area that must lie within the frame.

    Returns:
        Boxes of the same shape, float32, and which of them are still to be seen; the others
        are zeros.
    """
    height, width = warped.frame
    corners = ops.cast(corners, "float32")
    count = corners.shape[1]
    left, top, right, bottom = (corners[..., k] for k in range(4))
    x = ops.concatenate([left, right, right, left], axis=1) - width / 2.0
    y = ops.concatenate([top, top, bottom, bottom], axis=1) - height / 2.0
    x, y = _moved(warped, x, y)
    x = ops.reshape(x, (-1, 4, count)) + width / 2.0
    y = ops.reshape(y, (-1, 4, count)) + height / 2.0
    whole = (ops.min(x, 1), ops.min(y, 1), ops.max(x, 1), ops.max(y, 1))
    cut = [
        ops.clip(edge, 0.0, float(side))
        for edge, side in zip(whole, (width, height, width, height), strict=True)
    ]
    area = (whole[2] - whole[0]) * (whole[3] - whole[1])
    seen = (cut[2] - cut[0]) * (cut[3] - cut[1])
    kept = ops.logical_and(seen > 0.0, seen >= visibility * area)
    kept = ops.logical_and(ops.cast(valid, "bool"), kept)
    found = ops.stack(cut, axis=-1)
    return ops.where(kept[..., None], found, ops.zeros_like(found)), kept


def _moved(warped: Warp, x: Any, y: Any) -> tuple[Any, Any]:
    """Places of the original, from its middle, as places of the result.

    The result shows at p the place A(p + D(p)); so p = A⁻¹(q) - D(p), which a few rounds solve
    where displacements change by less than a pixel per pixel.
    """
    at_x, at_y = geometry.placed(geometry.inverse(warped.matrix), x, y)
    to_x, to_y = at_x, at_y
    for _ in range(ROUNDS):
        dx, dy = geometry.displacement(to_x, to_y, warped.controls, warped.elastic, warped.frame)
        to_x, to_y = at_x - dx, at_y - dy
    return to_x, to_y


def _determinant(matrix: Any) -> Any:
    """Of the linear part: below 0 where the image is mirrored."""
    return matrix[:, 0, 0] * matrix[:, 1, 1] - matrix[:, 0, 1] * matrix[:, 1, 0]
