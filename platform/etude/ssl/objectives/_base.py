"""What a self-supervised objective is: what two views of an image are to say of each other."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from keras import ops

State = Mapping[str, Any]
"""What is kept from step to step: tensors by their names."""


@dataclasses.dataclass(frozen=True)
class Head:
    """A stack of dense layers, each but the last normalized and rectified.

    Attributes:
        widths: Of the layers.
        normalized: Whether the last is normalized too, without scale and shift.
        cosines: Whether its outputs are cosines: the layer before it is linear, its rows have a
            length of 1, and so have the last one's columns, which have no bias.
    """

    widths: tuple[int, ...]
    normalized: bool = False
    cosines: bool = False


class Objective(abc.ABC):
    """A loss of two views of the same images.

    Each view is asked in turn, and a step takes the mean of both losses.

    Attributes:
        name: In the registry.
        target: Who gives the other view's embeddings: the network itself, with a gradient
            (`"both"`); itself without one (`"stopped"`); or its moving average (`"momentum"`).
        projector: From the backbone's features to embeddings.
        predictor: From embeddings of the view that is asked to those of the other; or `None`.
        keep: What the moving average keeps of itself in a step.
        rate: The learning rate for a batch of 128 where none is given, of SGD with momentum. It
            suits runs of minutes and up; a loss that is a large sum takes a smaller one.
    """

    name: ClassVar[str]
    target: ClassVar[Literal["both", "stopped", "momentum"]]
    projector: ClassVar[Head]
    predictor: ClassVar[Head | None] = None
    keep: ClassVar[float] = 0.99
    rate: ClassVar[float] = 0.3

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """What is kept from step to step, before the first."""
        return {}

    @abc.abstractmethod
    def losses(self, asked: Any, target: Any, state: State) -> Any:
        """How badly each image's view says the other, `(images,)` float32.

        Where a loss is of all images together, that by which the hardest of several pairs of views
        can be found.

        Args:
            asked: `(images, width)`, of one view; predictions where there is a predictor.
            target: `(images, width)`, of the other view.
            state: From `state` or `updated`.
        """

    def loss(self, asked: Any, target: Any, state: State) -> Any:
        """The loss of one view, a float32 scalar. Arguments as of `losses`."""
        return ops.mean(self.losses(asked, target, state))

    def updated(self, state: State, target: Any) -> dict[str, Any]:
        """What is kept after a step.

        Args:
            state: As it was.
            target: `(views · images, width)`, the embeddings of all views.
        """
        return dict(state)


def cosine(one: Any, other: Any) -> Any:
    """The cosine between rows, `(rows,)` float32."""
    return ops.sum(unit(one) * unit(other), axis=-1)


def unit(rows: Any) -> Any:
    """Rows of length 1, float32."""
    return ops.normalize(ops.cast(rows, "float32"), axis=-1)


def unit_rows(count: int, width: int, seed: int) -> npt.NDArray[np.float32]:
    """Random rows of length 1, `(count, width)`."""
    rows = np.random.default_rng(seed).normal(size=(count, width))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)
