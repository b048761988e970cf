"""Which evaluation's weights are the best: by means, for a single evaluation may be lucky.

Of hundreds of evaluations on few samples the best figure belongs to a lucky one, often from before
the learning rate has fallen. Means of some follow the course and not the luck, as long as both that
are compared are of equally many: of a mean that grows with the run, early ones would be the
luckiest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

SHARE = 20
"""An evaluation is judged together with so many before it: one in `SHARE` of those so far."""


class Best(NamedTuple):
    """The best evaluation so far.

    Attributes:
        place: Among the evaluations.
        step: Steps done then.
        row: Its place in the history, where segments without evaluation have rows too.
    """

    place: int
    step: int
    row: int


def is_better(errors: Sequence[float], best: int | None) -> bool:
    """Whether the latest evaluation is better than the best one before it.

    Both are means over the evaluation and those before it, of equally many: one in 20 of those
    so far, so that up to 20 evaluations are judged by themselves. The best one's is taken anew
    each time; where fewer came before it, over the first ones of the run.

    Args:
        errors: Of all evaluations so far, lower is better, the latest last.
        best: Place of the best one before the latest; `None` where there is none.
    """
    if best is None:
        return True
    window = 1 + (len(errors) - 1) // SHARE
    start = max(0, best + 1 - window)
    return sum(errors[-window:]) < sum(errors[start : start + window])
