"""Geometry: every transform is a 3×3 matrix, and all of an image's matrices are one resampling.

A place is (x, y) in pixels from the image's middle, x to the right and y down. A matrix takes a
place of the result to the place of the original that it shows: results of matrices A and then B,
applied to an image in this order, show the place A·B·p. Each function here takes

    s: `(batch,)` strength in [0, 1]; 0 is the identity matrix, to the bit.
    u: `(batch, 4)` uniform draws.
    frame: (height, width) of the images.

and returns matrices `(batch, 3, 3)`, float32. Elastic distortion comes before all matrices, as a
smooth field of displacements whose value at any place is known in closed form, so that boxes and
keypoints go where the pixels go.
"""

from __future__ import annotations

import math
from typing import Any

from keras import ops

from etude.augment._base import by_name, sign

Frame = tuple[int, int]

MOST_DEGREES = 135.0
MOST_SHEAR = 0.99
MOST_ZOOM = 4.0
LEAST_AREA = 0.08
MOST_TILT = 0.4
MOST_SHIFT = 0.1
"""What strength 1 is: degrees, slope, factor, share of the area (a crop's), the tilt by which
perspective scales one edge 1 / 0.6 and the other 1 / 1.4, and the standard deviation of elastic
displacements as a share of the shorter side."""

NEAREST = 1e-3
"""Least depth of a tilted image: what lies behind the horizon is very far in its direction, and not
mirrored to the other side."""

CONTROLS = 5
"""Points along a side at which elastic displacements are drawn."""


def mirror_horizontal(s: Any, u: Any, frame: Frame) -> Any:
    """Left and right change places in a share `s` of the images."""
    return _matrix(a=ops.where(u[:, 0] < s, -1.0, 1.0))


def mirror_vertical(s: Any, u: Any, frame: Frame) -> Any:
    """Top and bottom change places in a share `s` of the images."""
    return _matrix(e=ops.where(u[:, 0] < s, -1.0, 1.0))


def quarter_turns(s: Any, u: Any, frame: Frame) -> Any:
    """A share `s` of the images turns by 90, 180 or 270 degrees; the shape stays.

    An oblong image is stretched, so that nothing of it leaves the frame.
    """
    turned = ops.cast(u[:, 0] < s, "int32")
    quarter = turned * (1 + ops.minimum(ops.cast(u[:, 1] * 3.0, "int32"), 2))
    cosine = ops.cast(quarter == 0, "float32") - ops.cast(quarter == 2, "float32")
    sine = ops.cast(quarter == 1, "float32") - ops.cast(quarter == 3, "float32")
    tall, wide = float(frame[0]), float(frame[1])
    return _matrix(a=cosine, b=-sine * (wide / tall), d=sine * (tall / wide), e=cosine)


def rotation(s: Any, u: Any, frame: Frame) -> Any:
    """Turns by up to 135 degrees either way."""
    angle = s * sign(u[:, 0]) * math.radians(MOST_DEGREES)
    cosine, sine = ops.cos(angle), ops.sin(angle)
    return _matrix(a=cosine, b=-sine, d=sine, e=cosine)


def shear_x(s: Any, u: Any, frame: Frame) -> Any:
    """Rows slide along x by up to .99 of their height above the middle, either way."""
    return _matrix(b=s * sign(u[:, 0]) * MOST_SHEAR)


def shear_y(s: Any, u: Any, frame: Frame) -> Any:
    """Columns slide along y by up to .99 of their distance from the middle, either way."""
    return _matrix(d=s * sign(u[:, 0]) * MOST_SHEAR)


def translation_x(s: Any, u: Any, frame: Frame) -> Any:
    """Moves by up to the width either way, in whole pixels, which blur nothing."""
    return _matrix(c=ops.round(s * sign(u[:, 0]) * float(frame[1])))


def translation_y(s: Any, u: Any, frame: Frame) -> Any:
    """Moves by up to the height either way, in whole pixels."""
    return _matrix(f=ops.round(s * sign(u[:, 0]) * float(frame[0])))


def zoom_in(s: Any, u: Any, frame: Frame) -> Any:
    """Enlarges by up to 4 about the middle."""
    scale = ops.exp(-s * math.log(MOST_ZOOM))
    return _matrix(a=scale, e=scale)


def zoom_out(s: Any, u: Any, frame: Frame) -> Any:
    """Shrinks by up to 4 about the middle."""
    scale = ops.exp(s * math.log(MOST_ZOOM))
    return _matrix(a=scale, e=scale)


def random_resized_crop(s: Any, u: Any, frame: Frame) -> Any:
    """Enlarges a part of 1 - .92 `s` of the area or more, its sides' ratio up to 4 : 3 off.

    At strength 1 this is the crop of Szegedy et al. 2014 ("Going Deeper with Convolutions",
    section 6).
    """
    area = 1.0 - s * (1.0 - LEAST_AREA) * u[:, 0]
    ratio = ops.exp(s * math.log(4.0 / 3.0) * (2.0 * u[:, 1] - 1.0))
    wide = ops.minimum(ops.sqrt(area * ratio), 1.0)
    tall = ops.minimum(ops.sqrt(area / ratio), 1.0)
    return _matrix(
        a=wide,
        c=(1.0 - wide) * (u[:, 2] - 0.5) * float(frame[1]),
        e=tall,
        f=(1.0 - tall) * (u[:, 3] - 0.5) * float(frame[0]),
    )


def perspective(s: Any, u: Any, frame: Frame) -> Any:
    """Tilts the image about both axes."""
    return _matrix(
        g=s * (2.0 * u[:, 0] - 1.0) * (MOST_TILT * 2.0 / frame[1]),
        h=s * (2.0 * u[:, 1] - 1.0) * (MOST_TILT * 2.0 / frame[0]),
    )


TRANSFORMS = by_name("geometry", globals())


# -- elastic -------------------------------------------------------------------------


def displacement(x: Any, y: Any, controls: Any, s: Any, frame: Frame) -> tuple[Any, Any]:
    """Elastic displacements (Simard et al. 2003) at places, as a sum of Gaussians.

    Args:
        x: `(batch or 1, points)` places from the middle.
        y: As `x`.
        controls: `(batch, 5, 5, 2)` standard normal draws, by row and column of the control
            points, which span the image.
        s: `(batch,)` strength.
        frame: (height, width).

    Returns:
        The displacements along x and along y, `(batch, points)`.
    """
    across, down = _basis(x, frame[1]), _basis(y, frame[0])
    size = s * (MOST_SHIFT * min(frame))
    # (batch, points, 5, 1) over rows, times (batch, points, 5) over columns.
    flat = ops.reshape(controls, (-1, CONTROLS, CONTROLS * 2))
    partial = ops.reshape(ops.matmul(down, flat), (-1, ops.shape(y)[1], CONTROLS, 2))
    moved = ops.sum(partial * ops.expand_dims(across, -1), axis=2) * ops.reshape(size, (-1, 1, 1))
    return moved[..., 0], moved[..., 1]


def displacement_grid(controls: Any, s: Any, frame: Frame) -> tuple[Any, Any]:
    """`displacement` at every pixel: two products of matrices; `(batch, height, width)` each."""
    columns, lines = centred(frame)
    across, down = _basis(columns[None], frame[1])[0], _basis(lines[None], frame[0])[0]
    size = ops.reshape(s * (MOST_SHIFT * min(frame)), (-1, 1, 1))
    flat = ops.reshape(controls, (-1, CONTROLS, CONTROLS * 2))
    rows_ = ops.reshape(ops.matmul(down[None], flat), (-1, frame[0], CONTROLS, 2))
    both = [ops.matmul(rows_[..., k], ops.transpose(across)[None]) * size for k in (0, 1)]
    return both[0], both[1]


def _basis(places: Any, side: int) -> Any:
    """Gaussians around the control points of one axis, `(…, 5)`; one spacing is one deviation.

    They are scaled so that the sum over a row and a column of standard normal draws has a
    standard deviation of about 1.
    """
    spacing = side / (CONTROLS - 1)
    centres = (ops.arange(CONTROLS, dtype="float32") - (CONTROLS - 1) / 2.0) * spacing
    distance = (ops.expand_dims(places, -1) - centres) / spacing
    # Σ exp(-d²) over points one apart is √π.
    return ops.exp(-0.5 * ops.square(distance)) * (math.pi**-0.25)


# -- the one resampling --------------------------------------------------------------


def composed(s: Any, u: Any, frame: Frame) -> Any:
    """The product of all transforms' matrices, in the family's order, `(batch, 3, 3)`.

    Args:
        s: `(batch, transforms)`.
        u: `(batch, transforms, 4)`.
        frame: (height, width).
    """
    product: Any = None
    draws = zip(ops.unstack(s, axis=1), ops.unstack(u, axis=1), strict=True)
    for function, (strength, uniform) in zip(TRANSFORMS.values(), draws, strict=True):
        matrix = function(strength, uniform, frame)
        product = matrix if product is None else ops.matmul(product, matrix)
    return product


def centred(frame: Frame) -> tuple[Any, Any]:
    """Places of the columns and of the lines of pixels, `(width,)` and `(height,)`."""
    height, width = frame
    columns = ops.arange(width, dtype="float32") - (width - 1) / 2.0
    lines = ops.arange(height, dtype="float32") - (height - 1) / 2.0
    return columns, lines


def sources(matrix: Any, moved: tuple[Any, Any] | None, frame: Frame) -> tuple[Any, Any]:
    """Where each pixel of the result comes from, as indices of columns and of lines.

    Args:
        matrix: `(batch, 3, 3)`.
        moved: Elastic displacements `(batch, height, width)` along x and y, or `None`.
        frame: (height, width).

    Returns:
        Fractional column and line of the original, `(batch, height, width)`, unbounded.
    """
    columns, lines = centred(frame)
    x, y = columns[None, None, :], lines[None, :, None]
    if moved is not None:
        x, y = x + moved[0], y + moved[1]
    out = [
        _entry(matrix, row, 0) * x + _entry(matrix, row, 1) * y + _entry(matrix, row, 2)
        for row in range(3)
    ]
    depth = ops.maximum(out[2], NEAREST)
    return out[0] / depth + (frame[1] - 1) / 2.0, out[1] / depth + (frame[0] - 1) / 2.0


def folded(place: Any, side: int) -> Any:
    """Indices beyond the image, reflected at its edges: `dcba | abcd | dcba`."""
    period = 2.0 * side
    offset = ops.mod(place + 0.5, period)
    return ops.minimum(offset, period - offset) - 0.5


def inside(column: Any, line: Any, frame: Frame) -> Any:
    """Whether a place lies in the original's frame; boolean, of the places' shape."""
    across = ops.logical_and(column > -0.5001, column < frame[1] - 0.4999)
    return ops.logical_and(across, ops.logical_and(line > -0.5001, line < frame[0] - 0.4999))


def bilinear(images: Any, column: Any, line: Any) -> Any:
    """Images at fractional places, by the four pixels around each; edges go on beyond the image.

    Args:
        images: `(batch, height, width, channels)`, float.
        column: `(batch, height', width')`.
        line: As `column`.

    Returns:
        `(batch, height', width', channels)`; pixels themselves, to the bit, at whole places.
    """
    height, width, channels = images.shape[1:]
    column = ops.clip(column, 0.0, width - 1.0)
    line = ops.clip(line, 0.0, height - 1.0)
    left, top = ops.floor(column), ops.floor(line)
    wx, wy = ops.expand_dims(column - left, -1), ops.expand_dims(line - top, -1)
    left, top = ops.cast(left, "int32"), ops.cast(top, "int32")
    right, bottom = ops.minimum(left + 1, width - 1), ops.minimum(top + 1, height - 1)
    pixels = ops.reshape(images, (-1, channels))

    def at(line: Any, column: Any) -> Any:
        return _gathered(pixels, line * width + column, height * width)

    upper = at(top, left) * (1.0 - wx) + at(top, right) * wx
    lower = at(bottom, left) * (1.0 - wx) + at(bottom, right) * wx
    return upper * (1.0 - wy) + lower * wy


def nearest(maps: Any, column: Any, line: Any) -> Any:
    """Maps at the pixels nearest to places; `(batch, height', width', channels)`, any dtype."""
    height, width, channels = maps.shape[1:]
    # Half a pixel goes up, as in most resizers; `round` would go to the even one.
    left = ops.clip(ops.floor(column + 0.5), 0.0, width - 1.0)
    top = ops.clip(ops.floor(line + 0.5), 0.0, height - 1.0)
    index = ops.cast(top * width + left, "int32")
    return _gathered(ops.reshape(maps, (-1, channels)), index, height * width)


def inverse(matrix: Any) -> Any:
    """Inverses of 3×3 matrices, by the adjugate, `(batch, 3, 3)`."""
    a, b, c = (matrix[:, 0, k] for k in range(3))
    d, e, f = (matrix[:, 1, k] for k in range(3))
    g, h, i = (matrix[:, 2, k] for k in range(3))
    entries = [
        *(e * i - f * h, c * h - b * i, b * f - c * e),
        *(f * g - d * i, a * i - c * g, c * d - a * f),
        *(d * h - e * g, b * g - a * h, a * e - b * d),
    ]
    determinant = a * entries[0] + b * entries[3] + c * entries[6]
    return ops.reshape(ops.stack(entries, axis=1), (-1, 3, 3)) / determinant[:, None, None]


def placed(matrix: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """Places `(batch, points)` taken through matrices `(batch, 3, 3)`."""
    out = [
        _entry(matrix, row, 0)[:, 0] * x
        + _entry(matrix, row, 1)[:, 0] * y
        + _entry(matrix, row, 2)[:, 0]
        for row in range(3)
    ]
    depth = ops.maximum(out[2], NEAREST)
    return out[0] / depth, out[1] / depth


# -- parts ---------------------------------------------------------------------------


def _matrix(
    a: Any = 1.0,
    b: Any = 0.0,
    c: Any = 0.0,
    d: Any = 0.0,
    e: Any = 1.0,
    f: Any = 0.0,
    g: Any = 0.0,
    h: Any = 0.0,
) -> Any:
    """[[a, b, c], [d, e, f], [g, h, 1]] from numbers and `(batch,)` tensors."""
    entries = (a, b, c, d, e, f, g, h, 1.0)
    like = next(entry for entry in entries if not isinstance(entry, float))
    # Every operation takes time to trace: these two serve all entries.
    known = {0.0: ops.zeros_like(like), 1.0: ops.ones_like(like)}
    rows = [known[entry] if isinstance(entry, float) else entry for entry in entries]
    return ops.reshape(ops.stack(rows, axis=1), (-1, 3, 3))


def _entry(matrix: Any, row: int, column: int) -> Any:
    return matrix[:, row, column][:, None, None]


def _gathered(rows: Any, index: Any, pixels: int) -> Any:
    """Rows of `(batch · pixels, channels)` at indices within each image, `(batch, …)`."""
    batch = ops.shape(index)[0]
    first = ops.arange(batch, dtype="int32") * pixels
    first = ops.reshape(first, (-1,) + (1,) * (len(index.shape) - 1))
    return ops.take(rows, index + first, axis=0)
