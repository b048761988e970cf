"""Applies a draw to images: geometry, linear colour, tone, filters, erasing, in this order."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from keras import ops

from etude.augment import colour, erasing, filters, geometry, tone
from etude.augment._base import DRAWS, per_image
from etude.augment._fused import fused, shared
from etude.augment.drawing import COUNT, Draw, Tables
from etude.augment.names import INDEX, span
from etude.augment.warping import Filled, Fills, Warp, warp, warped

CHUNK = 16
"""Images for which a costly transform is computed at a time."""


@functools.cache
def traced(
    shape: tuple[int, int, int], value_range: tuple[float, float]
) -> Callable[[Tables, Draw, Any], tuple[Any, Warp]]:
    """A function that augments images and gives the draw's geometry, traced once.

    To trace all transforms takes seconds; a training step and whoever else transforms images of
    that shape share one trace and its kernels.

    Args:
        shape: (height, width, channels).
        value_range: Lowest and highest value that a pixel can have.
    """
    frame = shape[:2]

    def function(fill: Any, strength: Any, uniform: Any, controls: Any, noise: Any, x: Any) -> Any:
        tables = Filled(fill)
        drawn = Draw(strength, uniform, controls, noise)
        moved = warp(tables, drawn, frame)
        changed = images(tables, drawn, moved, x, value_range)
        return changed, moved.matrix, moved.column, moved.line, moved.inside, moved.moved

    points = geometry.CONTROLS
    batched = ((COUNT,), (COUNT, DRAWS), (points, points, 2))
    open_ = tuple((None, *rest) for rest in batched)
    once = shared(function, ((3,), *open_, shape, (None, *shape)))

    def called(tables: Tables, drawn: Draw, x: Any) -> tuple[Any, Warp]:
        given = (drawn.strength, drawn.uniform, drawn.controls, drawn.noise)
        changed, matrix, column, line, inside, moved = once(tables.fill, *given, x)
        elastic = drawn.strength[:, INDEX["elastic"]]
        return changed, Warp(matrix, column, line, inside, drawn.controls, elastic, moved, frame)

    return called


def images(
    tables: Fills, drawn: Draw, moved: Warp, x: Any, value_range: tuple[float, float]
) -> Any:
    """Augmented images.

    Args:
        tables: The policy.
        drawn: The draw.
        moved: The draw's geometry.
        x: `(batch, height, width, channels)` float32.
        value_range: Lowest and highest value that a pixel can have.

    Returns:
        Float32 images of the same shape, within the range wherever anything but geometry was
        done. An image with a draw of no strength comes out to the bit.
    """
    x = warped(tables, moved, x, value_range)
    first, last = span("colour")
    s, u = drawn.strength[:, first:last], drawn.uniform[:, first:last]
    x = _where_any(s, x, lambda: _coloured(x, s, u, *value_range))
    x = _chunked(drawn, x, value_range)
    first, last = span("erasing")
    s, u = drawn.strength[:, first:last], drawn.uniform[:, first:last]
    return _where_any(s, x, lambda: _erased(x, s, u, *value_range))


def _where_any(strength: Any, x: Any, function: Callable[[], Any]) -> Any:
    """The function's images if any image of the batch has any strength, else `x`."""
    return ops.cond(ops.any(strength > 0.0), function, lambda: x)


@fused
def _coloured(x: Any, s: Any, u: Any, low: float, high: float) -> Any:
    """Images through the one matrix of their linear colour, cut at the range."""
    mean = (ops.mean(x, axis=(1, 2)) - low) / (high - low)
    turned = colour.applied(x, colour.composed(s, u, mean), low, high)
    return ops.where(per_image(ops.any(s > 0.0, axis=1)), ops.clip(turned, low, high), x)


@fused
def _erased(x: Any, s: Any, u: Any, low: float, high: float) -> Any:
    """Images with parts covered: by the image's mean, and by a drawn colour."""
    frame = (x.shape[1], x.shape[2])
    mean = ops.mean(x, axis=(1, 2), keepdims=True)
    out = x
    for k, function in enumerate(erasing.TRANSFORMS.values()):
        hidden = erasing.covered(*function(s[:, k], u[:, k], frame))
        shade = mean
        if function is erasing.random_erasing:
            # The fourth draw is a colour: its channels are parts of a turn apart.
            turn = ops.arange(x.shape[3], dtype="float32") / x.shape[3]
            part = ops.mod(u[:, k, 3][:, None] + turn[None], 1.0)[:, None, None, :]
            shade = low + (high - low) * part
        out = ops.where(hidden, shade, out)
    return out


def _chunked(drawn: Draw, x: Any, value_range: tuple[float, float]) -> Any:
    """Tone and filters, each computed for those images only that drew it."""
    first, last = span("tone")[0], span("filters")[1]

    def each() -> Any:
        out = x
        for name, function in _SOME.items():
            extra = (drawn.noise,) if name == "gaussian_noise" else ()
            s, u = drawn.strength[:, INDEX[name]], drawn.uniform[:, INDEX[name]]
            out = _for_some(out, s, u, functools.partial(function, *value_range, *extra))
        return out

    return _where_any(drawn.strength[:, first:last], x, each)


def _ranged(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of images in [0, 1] as one of images in a range; what has no strength stays."""

    def inner(low: float, high: float, *rest: Any) -> Any:
        *extra, x, s, u = rest
        new = function((x - low) / (high - low), s, u, *extra)
        new = low + (high - low) * ops.clip(new, 0.0, 1.0)
        return ops.where(per_image(s > 0.0), new, x)

    return fused(inner)


# Made once: each is compiled once for every shape.
_SOME = {name: _ranged(f) for name, f in {**tone.TRANSFORMS, **filters.TRANSFORMS}.items()}


def _for_some(x: Any, s: Any, u: Any, function: Callable[..., Any]) -> Any:
    """The function's images where `s` is above 0, a chunk at a time, and the others as they are.

    What a few images do is not paid for by all, and shapes stay fixed: a chunk's rest is filled
    up with other images, which the function leaves as they are.
    """
    batch = ops.shape(x)[0]
    count = ops.sum(ops.cast(s > 0.0, "int32"))
    order = ops.argsort(ops.cast(s <= 0.0, "int32"))

    def more(done: Any, images_: Any) -> Any:
        return done < count

    def chunk(done: Any, images_: Any) -> tuple[Any, Any]:
        places = ops.minimum(done + ops.arange(CHUNK, dtype="int32"), batch - 1)
        # An image may be here twice, at the end of a batch; both of its results are the same.
        taken = ops.take(order, places, axis=0)
        some = [ops.take(values, taken, axis=0) for values in (images_, s, u)]
        return done + CHUNK, ops.scatter_update(images_, taken[:, None], function(*some))

    start = ops.convert_to_tensor(0, dtype="int32")
    return ops.while_loop(more, chunk, (start, x))[1]
