"""Bandit sampling of classes: outliers cannot draw a batch to themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from keras import ops

from etude.errors import RecipeError
from etude.sampling.strategies._base import Numbers, Remembering, Tables
from etude.sampling.strategies.bandit import LEAST, MOST, moves, projected


class ClassBandit(Remembering):
    """Draws a class by chances that a bandit moves, and evenly within it; weighted by 1 / (N p).

    As `Bandit`, with the mean bound of a class in the place of a sample's. (Bag of Tricks, section
    4.1.2.)
    """

    name = "class_bandit"
    score = "bound"
    unbiased = True

    def start(self, size: int, classes: npt.NDArray[Any] | None) -> dict[str, npt.NDArray[Any]]:
        """Each class by its share of the samples."""
        if classes is None:
            raise RecipeError(
                "A bandit of classes needs samples that have one class each.",
                required="labels of one class for each image",
                received="labels of another kind",
                advice="take the strategy `bandit`",
            )
        numbers = np.unique(classes, return_inverse=True)[1].reshape(-1)
        sizes = np.bincount(numbers)
        return {
            "chances": (sizes / size).astype(np.float32),
            "largest": np.zeros((), np.float32),
            "classes": numbers.astype(np.float32),
            "sizes": sizes.astype(np.float32),
        }

    def probabilities(self, tables: Tables, numbers: Numbers, share: Any) -> Any:
        """The chance of a sample's class, over the class' size."""
        each = tables["chances"] / tables["sizes"]
        return ops.take(each, ops.cast(tables["classes"], "int32"), axis=0)

    def updated(
        self, tables: Tables, drawn: Any, scores: Any, chances: Any, numbers: Numbers
    ) -> Tables:
        """A step on the chances of the drawn samples' classes, and the projection."""
        own = tables["chances"]
        count = own.shape[0]
        classes = ops.cast(ops.take(tables["classes"], drawn, axis=0), "int32")
        largest = ops.maximum(tables["largest"], ops.max(scores))
        drawn_by = ops.take(chances, drawn, axis=0) * ops.take(tables["sizes"], classes, axis=0)
        moved = moves(drawn_by, scores, largest, count, numbers.exponent)
        total = ops.segment_sum(moved, classes, count)
        logs = ops.log(own) - ops.clip(total, 0.0, MOST)
        return {**tables, "chances": projected(ops.exp(logs), LEAST / count), "largest": largest}
