"""Barlow Twins: embeddings of two views correlate in each column with itself, and no other."""

from __future__ import annotations

from typing import Any

from keras import ops

from etude.ssl.objectives._base import Head, Objective, State, cosine


class BarlowTwins(Objective):
    """The distance of the cross-correlation from the identity (Zbontar et al. 2021, equation 1).

    Args:
        weight: Of what is beside the diagonal.
    """

    name = "barlow_twins"
    target = "both"
    projector = Head((512, 512, 512))
    rate = 0.1

    def __init__(self, weight: float = 5e-3) -> None:
        self.weight = weight

    def losses(self, asked: Any, target: Any, state: State) -> Any:
        """As `Objective.losses`: how far standardized embeddings point from each other."""
        return 1.0 - cosine(standardized(asked), standardized(target))

    def loss(self, asked: Any, target: Any, state: State) -> Any:
        """As `Objective.loss`."""
        found = correlation(asked, target)
        diagonal = ops.diagonal(found)
        beside = ops.sum(ops.square(found)) - ops.sum(ops.square(diagonal))
        return ops.sum(ops.square(1.0 - diagonal)) + self.weight * beside


def correlation(one: Any, other: Any) -> Any:
    """The correlation of each column of one with each of the other, `(width, width)` float32.

    Args:
        one: `(images, width)`.
        other: `(images, width)`.
    """
    count = ops.cast(ops.shape(one)[0], "float32")
    return ops.matmul(ops.transpose(standardized(one)), standardized(other)) / count


def standardized(rows: Any, epsilon: float = 1e-5) -> Any:
    """Columns of mean 0 and variance 1, float32.

    ε is within the root: of a column that is constant the root's gradient would be infinite.
    """
    rows = ops.cast(rows, "float32")
    centred = rows - ops.mean(rows, axis=0, keepdims=True)
    variance = ops.mean(ops.square(centred), axis=0, keepdims=True)
    return centred * ops.rsqrt(variance + epsilon)
