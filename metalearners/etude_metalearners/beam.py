"""Beam search over stages, each of which has one option of several, or is off.

Greedy search adds what is best by itself; two options that only help together it never finds. A
beam goes on with several, and so with some that are not better yet; and it can begin with several
stages on at once, and take away from them. What is adopted must be better, beyond chance, than the
latest that was adopted on the way to it. What is taken away again, or made weaker, need not be
missed: of two within one standard error the one with less stands (Breiman et al. 1984, section
3.4.3, of trees). That error is of the samples that are scored; it does not know that another
training would have scored otherwise, so what is known to help most problems is not given up for it,
nor for what is better by little.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from etude_metalearners import pairs

Floats = npt.NDArray[np.float64]
Config = tuple[int, ...]
"""The option of each stage; 0 is off."""


@dataclasses.dataclass(frozen=True)
class Node:
    """Something that was tried.

    Attributes:
        config: What.
        scores: Losses of the same samples for all nodes, `(samples,)`.
        base: Index of the adopted node that it is compared with; its own of the first.
        difference: From that node; `None` of the first.
        adopted: Whether it is better than that beyond `pairs.BOUND` standard errors; with less
            than that, but for the usual stages, whether it is not worse by more than one.
    """

    config: Config
    scores: Floats
    base: int
    difference: pairs.Difference | None
    adopted: bool

    @property
    def amount(self) -> int:
        """How much is on, and how strong: the sum of the options."""
        return sum(self.config)

    @property
    def mean(self) -> float:
        """Mean loss; infinite where it is not finite."""
        mean = float(self.scores.mean())
        return mean if np.isfinite(mean) else np.inf


def search(
    options: Sequence[int],
    score: Callable[[Config], Floats],
    *,
    first: Sequence[Config] = (),
    usual: Collection[int] = (),
    margin: float = 0.0,
    width: int = 2,
    enough: Callable[[Sequence[Node]], bool] = lambda nodes: False,
) -> list[Node]:
    """Tries nothing and what is known to help, then goes from stage to stage.

    Args:
        options: How many options each stage has, weakest first, off not counted.
        score: Losses of a configuration.
        first: Configurations to begin with, the likeliest to help first: each against the best
            until then.
        usual: Stages that are taken to help until something else is shown: without them, or
            with less of them, a configuration must be better beyond chance like any other, and by
            a margin.
        margin: The share of the loss by which it must be better then.
        width: How many are gone on with after each stage. The best that is adopted is always among
            them; 1 is greedy.
        enough: Says from what was tried whether there may be no more.

    Returns:
        All that was tried, in order; the first has everything off.
    """
    off = (0,) * len(options)
    nodes = [Node(off, score(off), 0, None, True)]

    def tried(parent: int, config: Config) -> int | None:
        known = next((k for k, node in enumerate(nodes) if node.config == config), None)
        if known is not None or enough(nodes):
            return known
        base = parent if nodes[parent].adopted else nodes[parent].base
        # Whoever its parent is, it must be better than a beginning of which it gives something up.
        begun = [
            k
            for k, node in enumerate(nodes)
            if node.config in first and node.adopted and _stripped(config, node.config, usual)
        ]
        base = min([base, *begun], key=lambda k: nodes[k].mean)
        nodes.append(_compared(config, score(config), nodes, base, usual, margin))
        return len(nodes) - 1

    begun = [tried(chosen(nodes, usual), config) for config in first]
    kept = [0, *(found for found in begun if found is not None)]
    for stage, count in enumerate(options):
        best = chosen(nodes, usual)
        others = sorted({*kept} - {best}, key=lambda k: nodes[k].mean)
        kept = [best, *others[: width - 1]]
        for parent in tuple(kept):
            for config in _neighbours(nodes[parent].config, stage, count):
                found = tried(parent, config)
                kept += [] if found is None else [found]
    return nodes


def chosen(nodes: Sequence[Node], usual: Collection[int] = ()) -> int:
    """Index of the adopted node of the lowest loss, or of the least within one standard error.

    Args:
        nodes: What was tried.
        usual: Stages of which the best is not stripped for that.
    """
    adopted = [k for k, node in enumerate(nodes) if node.adopted]
    best = min(adopted, key=lambda k: nodes[k].mean)

    def stands(k: int) -> bool:
        difference = pairs.difference(nodes[k].scores, nodes[best].scores)
        return difference.mean <= difference.error

    within = [
        k
        for k in adopted
        if k == best
        or (
            nodes[k].amount < nodes[best].amount
            and not _stripped(nodes[k].config, nodes[best].config, usual)
            and stands(k)
        )
    ]
    return min(within, key=lambda k: (nodes[k].amount, nodes[k].mean))


def _stripped(config: Config, other: Config, usual: Collection[int]) -> bool:
    """Whether a configuration has less of the usual than another."""
    return any(config[stage] < other[stage] for stage in usual)


def _compared(
    config: Config,
    scores: Floats,
    nodes: Sequence[Node],
    base: int,
    usual: Collection[int],
    margin: float,
) -> Node:
    other = nodes[base]
    difference = pairs.difference(scores, other.scores)
    adopted = difference.better
    if _stripped(config, other.config, usual):
        adopted = adopted and difference.mean < -margin * abs(other.mean)
    elif sum(config) < other.amount:
        adopted = difference.mean <= difference.error
    return Node(config, scores, base, difference, adopted)


def _neighbours(config: Config, stage: int, count: int) -> Iterator[Config]:
    """Configurations that differ in one stage: off first, then the other options."""
    now = config[stage]
    others = range(1, count + 1) if not now else (0, now - 1, now + 1)
    for option in dict.fromkeys(others):
        if option != now and 0 <= option <= count:
            yield (*config[:stage], option, *config[stage + 1 :])
