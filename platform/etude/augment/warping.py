"""The geometry of a draw, computed once for an image and everything that belongs to it."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

from keras import ops

from etude.augment import geometry
from etude.augment._fused import fused
from etude.augment.drawing import Draw
from etude.augment.names import INDEX, span


class Fills(Protocol):
    """A policy's tables, or what of them the transforms themselves read."""

    @property
    def fill(self) -> Any:
        """As in `Tables`."""


@dataclasses.dataclass(frozen=True)
class Filled:
    """What of a policy's tables the transforms themselves read.

    Attributes:
        fill: As in `Tables`.
    """

    fill: Any


@dataclasses.dataclass(frozen=True)
class Warp:
    """Where each image's pixels come from, and where its places go.

    Attributes:
        matrix: `(batch, 3, 3)`, from places of the result to places of the original.
        column: `(batch, height, width)` source of each pixel; reflected, if the policy says so.
        line: As `column`.
        inside: `(batch, height, width)` whether the source lies within the original.
        controls: The elastic displacements' draws.
        elastic: `(batch,)` strength of elastic distortion.
        moved: `()` boolean: whether any image of the batch has any geometry.
        frame: (height, width).
    """

    matrix: Any
    column: Any
    line: Any
    inside: Any
    controls: Any
    elastic: Any
    moved: Any
    frame: tuple[int, int]


def warp(tables: Fills, drawn: Draw, frame: tuple[int, int]) -> Warp:
    """The warp of a draw.

    Args:
        tables: The policy, which says what lies beyond the edges.
        drawn: The draw.
        frame: (height, width).
    """
    first, last = span("geometry")
    elastic = drawn.strength[:, INDEX["elastic"]]
    matrix, column, line, inside = _coordinates(
        drawn.strength[:, first:last],
        drawn.uniform[:, first:last],
        drawn.controls,
        elastic,
        tables.fill,
        frame,
    )
    moved = ops.any(drawn.strength[:, first:last] > 0.0) | ops.any(elastic > 0.0)
    return Warp(matrix, column, line, inside, drawn.controls, elastic, moved, frame)


def warped(tables: Fills, warp_: Warp, x: Any, value_range: tuple[float, float]) -> Any:
    """Images `(batch, height, width, channels)`, float32, resampled once."""
    low, high = value_range

    def resampled() -> Any:
        constant = low + (high - low) * tables.fill[2]
        shown = ops.logical_or(tables.fill[1] < 0.5, warp_.inside)
        return _resampled(x, warp_.column, warp_.line, shown, constant)

    return ops.cond(warp_.moved, resampled, lambda: x)


@fused
def _coordinates(
    s: Any, u: Any, controls: Any, elastic: Any, fill: Any, frame: tuple[int, int]
) -> tuple[Any, Any, Any, Any]:
    matrix = geometry.composed(s, u, frame)
    moved = geometry.displacement_grid(controls, elastic, frame)
    column, line = geometry.sources(matrix, moved, frame)
    inside = geometry.inside(column, line, frame)
    reflect = fill[0] > 0.5
    column = ops.where(reflect, geometry.folded(column, frame[1]), column)
    line = ops.where(reflect, geometry.folded(line, frame[0]), line)
    return matrix, column, line, inside


@fused
def _resampled(x: Any, column: Any, line: Any, shown: Any, constant: Any) -> Any:
    return ops.where(shown[..., None], geometry.bilinear(x, column, line), constant)
