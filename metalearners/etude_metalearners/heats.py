"""Something that may be better than what there is: tried, and tried again in another order."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from etude_metalearners import pairs

Floats = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Heat:
    """A trial against one of the usual, of the same cost.

    Attributes:
        found: How losses of single validation samples differ; below 0 where it is better.
        of: What was tried.
    """

    found: pairs.Difference
    of: Any


@dataclasses.dataclass(frozen=True)
class Heats:
    """What came of all of them.

    Attributes:
        tried: One for each candidate, the best first.
        again: The best once more, in another order of samples, where it was better.
    """

    tried: tuple[Heat, ...] = ()
    again: Heat | None = None

    @property
    def of_best(self) -> list[pairs.Difference]:
        """What the best was in each order of samples."""
        return [heat.found for heat in (*self.tried[:1], self.again) if heat is not None]

    @property
    def won(self) -> bool:
        """Whether it was better again."""
        return self.again is not None and self.again.found.mean < -self.again.found.error

    @property
    def sure(self) -> float:
        """Standard errors by which the best differs in the first heat; below 0 if better."""
        first = self.tried[0].found
        return first.mean / max(first.error, 1e-12)


def run(
    trained: Callable[[Any, int], Floats], candidates: Sequence[Any], usual: Any, losses: Floats
) -> Heats:
    """Tries all candidates, and the best again if it is better.

    Args:
        trained: Losses after a trial of a candidate, or of the usual, in an order of samples.
        candidates: At least one.
        usual: What they are held against.
        losses: Of the usual in the first order.
    """

    def heat(candidate: Any, order: int, losses: Floats) -> Heat:
        return Heat(pairs.difference(trained(candidate, order), losses), candidate)

    tried = sorted((heat(one, 0, losses) for one in candidates), key=lambda one: one.found.mean)
    if not tried[0].found.better:
        return Heats(tuple(tried))
    return Heats(tuple(tried), heat(tried[0].of, 1, trained(usual, 1)))
