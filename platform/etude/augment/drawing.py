"""A policy as tensors, and one draw from it, which serves an image and all of its targets."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from keras import ops, random

from etude.augment import geometry
from etude.augment._base import DRAWS
from etude.augment.names import INDEX, index_of
from etude.augment.policy import IDENTITY, MOST_CHOICES, MOST_SLOTS, Policy

COUNT = len(INDEX)
QUANTILES = 257


@dataclasses.dataclass(frozen=True)
class Tables:
    """A policy as arrays of fixed shapes, so that a compiled step takes any policy.

    Attributes:
        edges: `(slots, choices)` float32, cumulative chances within a slot; unused choices lie
            beyond 1, and a slot that draws nothing has only those.
        transform: `(slots, choices)` int32, the index in `names.INDEX`, or the number of transforms
            for the identity.
        low: `(slots, choices)` float32, in [0, 1].
        high: As `low`.
        fill: `(3,)` float32: whether reflected, whether constant, and the constant in [0, 1].
        alternating: `()` float32, 0 or 1.
        mixing: `(2,)` float32, shares of mixup and of cutmix.
        beta: `(257,)` float32, quantiles of λ.
    """

    edges: Any
    transform: Any
    low: Any
    high: Any
    fill: Any
    alternating: Any
    mixing: Any
    beta: Any

    @classmethod
    def of(cls, policy: Policy) -> Tables:
        """The arrays of a policy, NumPy."""
        from scipy import stats

        shape = (MOST_SLOTS, MOST_CHOICES)
        edges = np.full(shape, 2.0, np.float32)
        transform = np.full(shape, COUNT, np.int32)
        low, high = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        at = 0
        for slot in policy.slots:
            weights = np.array([choice.weight for choice in slot.choices])
            ends = np.cumsum(weights / weights.sum()) * slot.probability
            for _ in range(slot.draws):
                edges[at, : len(ends)] = ends
                for k, choice in enumerate(slot.choices):
                    if choice.transform != IDENTITY:
                        transform[at, k] = index_of(choice.transform)
                    low[at, k], high[at, k] = choice.low / 100.0, choice.high / 100.0
                at += 1
        mixing = policy.mixing
        beta = stats.beta.ppf(np.linspace(0.0, 1.0, QUANTILES), mixing.alpha, mixing.alpha)
        constant = {"black": 0.0, "grey": 0.5}.get(policy.fill)
        return cls(
            edges=edges,
            transform=transform,
            low=low,
            high=high,
            fill=np.array(
                [policy.fill == "reflect", constant is not None, constant or 0.0], np.float32
            ),
            alternating=np.float32(policy.alternating_flip),
            mixing=np.array([mixing.mixup, mixing.cutmix], np.float32),
            beta=beta.astype(np.float32),
        )


@dataclasses.dataclass(frozen=True)
class Draw:
    """Everything random about the augmentation of a batch.

    Attributes:
        strength: `(batch, transforms)` float32 in [0, 1], 0 for what is not done.
        uniform: `(batch, transforms, 4)` float32 in [0, 1).
        controls: `(batch, 5, 5, 2)` float32, standard normal, for elastic distortion.
        noise: `(height, width, channels)` float32, standard normal.
    """

    strength: Any
    uniform: Any
    controls: Any
    noise: Any


def draw(
    tables: Tables,
    shape: tuple[Any, int, int, int],
    seed: Any,
    *,
    ids: Any = None,
    epoch: Any = None,
) -> Draw:
    """Draws for a batch.

    Args:
        tables: The policy.
        shape: (batch, height, width, channels) of the images; the batch may be a tensor.
        seed: A `keras.random.SeedGenerator`.
        ids: `(batch,)` integers that name the samples, or `None`.
        epoch: Number of the epoch, an integer tensor; needed with `ids`.
    """
    batch, height, width, channels = shape
    picks = random.uniform((batch, MOST_SLOTS, 2), seed=seed)
    uniform = random.uniform((batch, COUNT, DRAWS), seed=seed)
    points = geometry.CONTROLS
    drawn = Draw(
        strength=strengths(tables, picks),
        uniform=uniform,
        controls=random.normal((batch, points, points, 2), seed=seed),
        noise=random.normal((height, width, channels), seed=seed),
    )
    return alternated(tables, drawn, ids, epoch)


def strengths(tables: Tables, picks: Any) -> Any:
    """What each image does, and how strongly.

    Args:
        tables: The policy.
        picks: `(batch, slots, 2)` uniform draws: of the choice, and of the magnitude.

    Returns:
        `(batch, transforms)` in [0, 1]; the sum, at most 1, where one is drawn twice.
    """
    # How many edges lie at or below the draw is the index of the choice.
    passed = ops.sum(ops.cast(picks[:, :, :1] >= tables.edges[None], "int32"), axis=2)
    # Beyond a slot's last edge nothing is drawn; the last column is kept for that.
    index = ops.minimum(passed, MOST_CHOICES - 1)
    first = ops.arange(MOST_SLOTS, dtype="int32") * MOST_CHOICES
    index = index + first[None]

    def of(table: Any) -> Any:
        return ops.take(ops.reshape(table, (-1,)), index, axis=0)

    drawn = ops.cast(picks[:, :, 0] < of(tables.edges), "float32")
    low, high = of(tables.low), of(tables.high)
    magnitude = (low + (high - low) * picks[:, :, 1]) * drawn
    chosen = ops.one_hot(of(tables.transform), COUNT + 1, dtype="float32")
    total = ops.sum(chosen * magnitude[:, :, None], axis=1)[:, :COUNT]
    return ops.minimum(total, 1.0)


def alternated(tables: Tables, drawn: Draw, ids: Any, epoch: Any) -> Draw:
    """The draw with the alternating flip in the place of a drawn one, where the policy has it."""
    at = INDEX["mirror_horizontal"]
    if ids is None or epoch is None:
        turned = drawn.uniform[:, at, 1] < 0.5
    else:
        turned = ops.equal((_hashed(ids) + ops.cast(epoch, "int32")) % 2, 0)
    column = ops.one_hot(ops.convert_to_tensor([at]), COUNT, dtype="float32")
    forced = tables.alternating * column
    strength = drawn.strength * (1.0 - forced) + forced * ops.cast(turned, "float32")[:, None]
    return dataclasses.replace(drawn, strength=strength)


def _hashed(ids: Any) -> Any:
    """A bit of each id that looks random: the lowest of MurmurHash3's finalizer (Appleby 2011)."""

    def word(value: int) -> Any:
        return ops.convert_to_tensor(value, "uint32")

    mixed = ops.cast(ids, "uint32")
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        mixed = ops.bitwise_xor(mixed, ops.right_shift(mixed, word(shift))) * word(factor)
    return ops.cast(ops.bitwise_and(mixed, word(1)), "int32")
