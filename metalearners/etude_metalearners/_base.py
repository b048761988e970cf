"""What every meta-learner is: it learns one part of a recipe, and leaves no trace."""

from __future__ import annotations

import abc
import dataclasses
from typing import TYPE_CHECKING, ClassVar

from etude.findings import Cost, Finding, finding_key
from etude.training.isolation import isolated

if TYPE_CHECKING:
    from etude.recipe import Recipe
    from etude.training.studio import Studio

__all__ = ["STUDY_SHARE", "MetaLearner", "Planned", "isolated"]

# The share of a run that its studies may take together.
STUDY_SHARE = 0.15


@dataclasses.dataclass(frozen=True)
class Planned:
    """The run that a study is for.

    Attributes:
        steps: Its steps, as planned now.
        allowance: Seconds that studies may still take.
        timed: Whether time ends it, and not epochs.
    """

    steps: int
    allowance: float
    timed: bool = False


class MetaLearner(abc.ABC):
    """Learns one part of a recipe.

    Attributes:
        name: The name in findings and marks.
        reads: Recipe groups that what it learns depends on, or single values of them as
            `group.name`; the order of studies follows from it.
        writes: The one group that it changes.
        sets: The names within that group that it may set.
        share: What it may take of the time that is left for studies; the rest is for those
            after it.
    """

    name: ClassVar[str]
    reads: ClassVar[tuple[str, ...]]
    writes: ClassVar[str]
    sets: ClassVar[tuple[str, ...]]
    share: ClassVar[float] = 1.0

    @abc.abstractmethod
    def cost(self, studio: Studio, recipe: Recipe, planned: Planned) -> Cost:
        """What learning will take, predicted before it begins.

        Args:
            studio: Where trials run; its costs are measured.
            recipe: The recipe so far.
            planned: The run that it is for.
        """

    @abc.abstractmethod
    def learn(self, studio: Studio, recipe: Recipe, planned: Planned) -> Finding:
        """Learns. Every variable, generator and position is afterwards as it was before.

        Args:
            studio: Where trials run; its Trainer is restored after each.
            recipe: The recipe so far.
            planned: The run that it is for.

        Returns:
            A finding whose recipe differs only in values of `sets` that are not given.
        """

    def obstacle(self, studio: Studio, recipe: Recipe, planned: Planned) -> str | None:
        """Why there is nothing to learn or it cannot pay, in words; `None` when it may."""
        if all(recipe.is_given(f"{self.writes}.{name}") for name in self.sets):
            return "all that it could find is fixed by you"
        seconds = self.cost(studio, recipe, planned).seconds
        if seconds > self.share * planned.allowance * (1.0 + 1e-9):
            return (
                f"it would take {seconds:.1f} s, and {max(0.0, self.share * planned.allowance):.1f}"
                f" s are left for it of the {STUDY_SHARE:.0%} of a run that studies may take"
            )
        return None

    def key(self, studio: Studio, recipe: Recipe) -> str:
        """Hash of all that the finding depends on."""
        fingerprint = f"{studio.problem.fingerprint()} {studio.seed}"
        return finding_key(recipe, self.reads, self.writes, fingerprint, self.sets)

    def skipped(self, studio: Studio, recipe: Recipe, why: str) -> Finding:
        """The finding of a meta-learner that did not run."""
        return Finding(
            learner=self.name,
            reads=self.reads,
            writes=self.writes,
            changes={},
            why=f"Not studied: {why}.",
            evidence={},
            predicted=Cost(),
            true=Cost(),
            key=self.key(studio, recipe),
        )
