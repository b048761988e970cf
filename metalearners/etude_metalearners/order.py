"""Which meta-learner comes first: it follows from what each reads and sets."""

from __future__ import annotations

import graphlib
from collections.abc import Sequence

from etude.findings import paths
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
    """Whether `other` has to wait for what `one` sets, since it reads it.

    Of two that read what the other sets, the one that reads by name all that it feeds the other
    only refines what was set before, and comes second.
    """
    return bool(_fed(one, other)) and not (_fed(other, one) and _fed(one, other) <= set(one.reads))


def _fed(one: MetaLearner, other: MetaLearner) -> set[str]:
    """The values that `one` sets and `other` reads."""
    return {
        path
        for path in paths(one.writes, one.sets)
        if path in other.reads or path.split(".")[0] in other.reads
    }
