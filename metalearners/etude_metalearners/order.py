"""Which meta-learner comes first: it follows from what each reads and sets."""

from __future__ import annotations

import graphlib
from collections.abc import Sequence

from etude_metalearners._base import MetaLearner


def in_order(learners: Sequence[MetaLearner]) -> list[MetaLearner]:
    """The meta-learners in an order in which no finding makes an earlier one stale.

    Args:
        learners: One of each; the order is kept where nothing depends on it.

    Raises:
        graphlib.CycleError: Two read what the other sets.
    """
    sorter: graphlib.TopologicalSorter[int] = graphlib.TopologicalSorter()
    for index, reader in enumerate(learners):
        needed = [i for i, other in enumerate(learners) if i != index and feeds(other, reader)]
        sorter.add(index, *needed)
    return [learners[index] for index in sorter.static_order()]


def feeds(one: MetaLearner, other: MetaLearner) -> bool:
    """Whether what `one` sets is among what `other` reads."""
    return one.writes in other.reads or any(
        f"{one.writes}.{name}" in other.reads for name in one.sets
    )
