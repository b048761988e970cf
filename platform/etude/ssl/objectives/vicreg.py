"""VICReg: views say the same, no column is constant, and no two of them say the same."""

from __future__ import annotations

from typing import Any

from keras import ops

from etude.ssl.objectives._base import Head, Objective, State


class VICReg(Objective):
    """Invariance, variance and covariance (Bardes et al. 2022, equations 1, 3 and 5).

    Args:
        invariance: Weight of the squared distance of the views.
        variance: Weight of what columns lack of a standard deviation of 1.
        covariance: Weight of squared covariances of columns.
    """

    name = "vicreg"
    target = "both"
    projector = Head((512, 512, 512))
    rate = 0.02

    def __init__(
        self, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0
    ) -> None:
        self.invariance, self.variance, self.covariance = invariance, variance, covariance

    def losses(self, asked: Any, target: Any, state: State) -> Any:
        """As `Objective.losses`: the squared distance, over the width."""
        asked, target = ops.cast(asked, "float32"), ops.cast(target, "float32")
        return ops.mean(ops.square(asked - target), axis=-1)

    def loss(self, asked: Any, target: Any, state: State) -> Any:
        """As `Objective.loss`; of both views in turn, each has the terms of its own columns."""
        distance = ops.mean(self.losses(asked, target, state))
        spread = self.variance * lack(asked) + self.covariance * redundancy(asked)
        # The mean of both turns is to be the sum of both views' terms.
        return self.invariance * distance + 2.0 * spread


def lack(rows: Any, epsilon: float = 1e-4) -> Any:
    """What columns' standard deviations lack of 1, on average."""
    rows = ops.cast(rows, "float32")
    deviation = ops.sqrt(_covariance_diagonal(rows) + epsilon)
    return ops.mean(ops.relu(1.0 - deviation))


def redundancy(rows: Any) -> Any:
    """The sum of squared covariances of different columns, over the width."""
    rows = ops.cast(rows, "float32")
    centred = rows - ops.mean(rows, axis=0, keepdims=True)
    count = ops.cast(ops.shape(rows)[0], "float32")
    covariance = ops.matmul(ops.transpose(centred), centred) / (count - 1.0)
    squares = ops.square(covariance)
    beside = ops.sum(squares) - ops.sum(ops.diagonal(squares))
    return beside / float(rows.shape[-1])


def _covariance_diagonal(rows: Any) -> Any:
    """The variance of each column, over one less than there are rows."""
    centred = rows - ops.mean(rows, axis=0, keepdims=True)
    count = ops.cast(ops.shape(rows)[0], "float32")
    return ops.sum(ops.square(centred), axis=0) / (count - 1.0)
