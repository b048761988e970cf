"""MoCo: tell the other view from a queue of what was seen before."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
from keras import ops

from etude.ssl.objectives._base import Head, Objective, State, unit, unit_rows


class MoCo(Objective):
    """Cross-entropy of the other view's key among keys of earlier images (He et al. 2020, eq. 1).

    With a projector of two layers and both views asked, as in v2+.

    Args:
        temperature: What cosines are divided by.
        queue: Keys that are kept.
        seed: Of the keys before there were any.
    """

    name = "moco"
    target = "momentum"
    projector = Head((512, 128))

    def __init__(self, temperature: float = 0.2, queue: int = 4096, seed: int = 0) -> None:
        self.temperature, self.queue, self.seed = temperature, queue, seed

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """The queue: random directions, which are as far from all images."""
        return {"queue": unit_rows(self.queue, self.projector.widths[-1], self.seed)}

    def losses(self, asked: Any, target: Any, state: State) -> Any:
        """As `Objective.losses`."""
        return among_keys(asked, target, state["queue"], self.temperature)

    def updated(self, state: State, target: Any) -> dict[str, Any]:
        """As `Objective.updated`: the latest keys come first, the oldest go."""
        keys = ops.concatenate([unit(target), state["queue"]], axis=0)
        return {"queue": keys[: self.queue]}


def among_keys(asked: Any, target: Any, queue: Any, temperature: float) -> Any:
    """The cross-entropy of each target among itself and all of a queue, `(images,)`.

    Args:
        asked: `(images, width)`.
        target: `(images, width)`, in the same order.
        queue: `(keys, width)` of length 1.
        temperature: Above 0.
    """
    asked = unit(asked)
    right = ops.sum(asked * unit(target), axis=-1, keepdims=True)
    wrong = ops.matmul(asked, ops.transpose(queue))
    every = ops.concatenate([right, wrong], axis=1) / temperature
    return ops.logsumexp(every, axis=1) - every[:, 0]
