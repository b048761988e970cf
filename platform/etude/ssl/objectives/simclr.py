"""SimCLR: of all views of a batch, which one is of the same image?"""

from __future__ import annotations

from typing import Any

from keras import ops

from etude.ssl.objectives._base import Head, Objective, State, unit


class SimCLR(Objective):
    """Normalized, temperature-scaled cross-entropy (Chen et al. 2020, equation 1).

    A view is to be told from the other views of the batch, of both kinds, by the cosine.

    Args:
        temperature: What cosines are divided by.
    """

    name = "simclr"
    target = "both"
    projector = Head((512, 128))

    def __init__(self, temperature: float = 0.2) -> None:
        self.temperature = temperature

    def losses(self, asked: Any, target: Any, state: State) -> Any:
        """As `Objective.losses`."""
        return nt_xent(asked, target, self.temperature)


def nt_xent(one: Any, other: Any, temperature: float) -> Any:
    """The cross-entropy of each of `one` among all of `other` and the rest of `one`, `(images,)`.

    Args:
        one: `(images, width)`.
        other: `(images, width)`, in the same order.
        temperature: Above 0.
    """
    one, other = unit(one), unit(other)
    count = ops.shape(one)[0]
    across = ops.matmul(one, ops.transpose(other)) / temperature
    within = ops.matmul(one, ops.transpose(one)) / temperature
    # Nobody is to be told from itself.
    within = ops.where(ops.eye(count, dtype="bool"), -1e9, within)
    every = ops.concatenate([across, within], axis=1)
    return ops.logsumexp(every, axis=1) - ops.diagonal(across)
