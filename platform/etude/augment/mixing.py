"""Mixing images with a partner from their batch, and their targets in the same proportion.

    mixed = λ · image + (1 - λ) · partner

With mixup λ is the same for all pixels (Zhang et al. 2017); with cutmix a rectangle is the
partner's (Yun et al. 2019), and λ is the share of the area that is left after the rectangle has
been cut at the frame.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from keras import ops, random

from etude.augment.drawing import QUANTILES, Tables


@dataclasses.dataclass(frozen=True)
class Mix:
    """How each image of a batch is mixed.

    Attributes:
        partner: `(batch,)` int32, a permutation.
        lam: `(batch,)` λ of mixup, in [1/2, 1]; 1 where there is none.
        box: `(batch, 4)` int32: first line, first column, and those after the last, of what is
            the partner's; empty where there is none.
    """

    partner: Any
    lam: Any
    box: Any

    def share(self, frame: tuple[int, int]) -> Any:
        """`(batch,)`: which part of the targets is the image's own."""
        tall, wide = self.box[:, 2] - self.box[:, 0], self.box[:, 3] - self.box[:, 1]
        pasted = ops.cast(tall * wide, "float32") / float(frame[0] * frame[1])
        return self.lam * (1.0 - pasted)


def draw(tables: Tables, batch: Any, frame: tuple[int, int], seed: Any) -> Mix:
    """Draws partners, λ and rectangles for a batch.

    Args:
        tables: The policy.
        batch: Number of images, an integer or a tensor.
        frame: (height, width).
        seed: A `keras.random.SeedGenerator`.
    """
    uniform = random.uniform((batch, 5), seed=seed)
    partner = ops.cast(ops.argsort(uniform[:, 0]), "int32")
    return mix_of(tables, partner, uniform[:, 1:], frame)


def mix_of(tables: Tables, partner: Any, uniform: Any, frame: tuple[int, int]) -> Mix:
    """What uniform draws `(batch, 4)` mean: which kind, λ, and the rectangle's middle."""
    lam = _quantile(tables.beta, uniform[:, 1])
    blended = uniform[:, 0] < tables.mixing[0]
    pasted = ops.logical_and(
        ops.logical_not(blended), uniform[:, 0] < tables.mixing[0] + tables.mixing[1]
    )
    side = ops.sqrt(1.0 - lam) * ops.cast(pasted, "float32")
    edges = []
    for axis in (0, 1):
        length, centre = side * frame[axis], uniform[:, 2 + axis] * frame[axis]
        edges.append(
            [
                ops.cast(ops.clip(ops.round(end), 0.0, frame[axis]), "int32")
                for end in (centre - length / 2.0, centre + length / 2.0)
            ]
        )
    box = ops.stack([edges[0][0], edges[1][0], edges[0][1], edges[1][1]], axis=1)
    # Of a blend it makes no difference which is which: the larger part stays. What is pasted into
    # the middle of another image is not the other around the one.
    return Mix(partner, ops.where(blended, ops.maximum(lam, 1.0 - lam), 1.0), box)


def mixed_images(x: Any, mix: Mix) -> Any:
    """Images, or float soft targets of their pixels, `(batch, height, width, channels)`, mixed."""
    other = ops.take(x, mix.partner, axis=0)
    lam = ops.cast(mix.lam, x.dtype)[:, None, None, None]
    hidden = pasted(mix, (x.shape[1], x.shape[2]))[..., None]
    return ops.where(hidden, other, lam * x + (1.0 - lam) * other)


def mixed_targets(target: Any, mix: Mix, frame: tuple[int, int]) -> Any:
    """Soft targets or weights `(batch, …)` of whole images, float, mixed by `Mix.share`."""
    share = ops.cast(mix.share(frame), target.dtype)
    share = ops.reshape(share, (-1,) + (1,) * (len(target.shape) - 1))
    return share * target + (1.0 - share) * ops.take(target, mix.partner, axis=0)


def pasted(mix: Mix, frame: tuple[int, int]) -> Any:
    """`(batch, height, width)`: which pixels are the partner's."""
    lines, columns = ops.arange(frame[0]), ops.arange(frame[1])
    down = ops.logical_and(lines[None] >= mix.box[:, :1], lines[None] < mix.box[:, 2:3])
    across = ops.logical_and(columns[None] >= mix.box[:, 1:2], columns[None] < mix.box[:, 3:4])
    return ops.logical_and(down[:, :, None], across[:, None, :])


def _quantile(table: Any, u: Any) -> Any:
    """Quantiles of a tabulated distribution, linear between the table's points."""
    place = u * (QUANTILES - 1.0)
    below = ops.minimum(ops.cast(place, "int32"), QUANTILES - 2)
    part = place - ops.cast(below, "float32")
    return ops.take(table, below) * (1.0 - part) + ops.take(table, below + 1) * part
