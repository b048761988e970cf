"""Draws made by hand, and images to try them on."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from etude.augment import apply, geometry, names
from etude.augment._base import DRAWS
from etude.augment.drawing import COUNT, Draw, Tables
from etude.augment.policy import Policy
from etude.augment.warping import Warp, warp

RANGE = (0.0, 255.0)


def pictures(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """Smooth random images of whole numbers in 0 to 255, float32."""
    rng = np.random.default_rng(seed)
    batch, height, width, channels = shape
    coarse = rng.uniform(0.0, 255.0, (batch, 5, 5, channels))
    rows = np.linspace(0.0, 4.0, height)
    columns = np.linspace(0.0, 4.0, width)
    from scipy import ndimage

    out = np.empty(shape, np.float32)
    grid = np.meshgrid(rows, columns, indexing="ij")
    for b in range(batch):
        for c in range(channels):
            out[b, :, :, c] = ndimage.map_coordinates(coarse[b, :, :, c], grid, order=1)
    return np.round(np.clip(out + rng.normal(0.0, 6.0, shape), 0.0, 255.0)).astype(np.float32)


def hand(
    shape: tuple[int, int, int, int],
    strengths: dict[str, Any] | None = None,
    uniform: dict[str, Any] | None = None,
    seed: int = 0,
) -> Draw:
    """A draw with given strengths and uniform numbers; the other numbers are random."""
    rng = np.random.default_rng(seed)
    batch, height, width, channels = shape
    strength = np.zeros((batch, COUNT), np.float32)
    numbers = rng.uniform(size=(batch, COUNT, DRAWS)).astype(np.float32)
    for name, value in (strengths or {}).items():
        strength[:, names.INDEX[name]] = value
    for name, value in (uniform or {}).items():
        numbers[:, names.INDEX[name]] = value
    points = geometry.CONTROLS
    return Draw(
        strength=ops.convert_to_tensor(strength),
        uniform=ops.convert_to_tensor(numbers),
        controls=ops.convert_to_tensor(rng.normal(size=(batch, points, points, 2)), "float32"),
        noise=ops.convert_to_tensor(rng.normal(size=(height, width, channels)), "float32"),
    )


def tables(fill: str = "reflect") -> Tables:
    """Those of an empty policy with a fill."""
    values = Tables.of(Policy(fill=fill))
    return Tables(**{name: ops.convert_to_tensor(value) for name, value in vars(values).items()})


def warp_of(draw: Draw, frame: tuple[int, int], fill: str = "reflect") -> Warp:
    return warp(tables(fill), draw, frame)


def augmented(
    x: np.ndarray[Any, Any],
    draw: Draw,
    fill: str = "reflect",
    value_range: tuple[float, float] = RANGE,
) -> np.ndarray[Any, Any]:
    """Images after a draw."""
    moved = warp_of(draw, (x.shape[1], x.shape[2]), fill)
    out = apply.images(tables(fill), draw, moved, ops.convert_to_tensor(x), value_range)
    return np.asarray(ops.convert_to_numpy(out))
