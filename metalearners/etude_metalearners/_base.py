"""What every meta-learner is: it learns one part of a recipe, and leaves no trace."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, ClassVar

from etude.findings import Cost, Finding, finding_key
from etude.training.isolation import isolated

if TYPE_CHECKING:
    from etude.recipe import Recipe
    from etude.training.studio import Studio

__all__ = ["STUDY_SHARE", "MetaLearner", "isolated"]

# The share of a run that its studies may take together.
STUDY_SHARE = 0.15


class MetaLearner(abc.ABC):
    """Learns one part of a recipe.

    Attributes:
        name: The name in findings and marks.
        reads: Recipe groups that what it learns depends on.
        writes: The one group that it changes.
        sets: The names within that group that it may set.
    """

    name: ClassVar[str]
    reads: ClassVar[tuple[str, ...]]
    writes: ClassVar[str]
    sets: ClassVar[tuple[str, ...]]

    @abc.abstractmethod
    def cost(self, studio: Studio, recipe: Recipe, steps: int) -> Cost:
        """What learning will take, predicted before it begins.

        Args:
            studio: Where trials run; its costs are measured.
            recipe: The recipe so far.
            steps: Steps of the run that is planned.
        """

    @abc.abstractmethod
    def learn(self, studio: Studio, recipe: Recipe, steps: int) -> Finding:
        """Learns. Every variable, generator and position is afterwards as it was before.

        Args:
            studio: Where trials run; its Trainer is restored after each.
            recipe: The recipe so far.
            steps: Steps of the run that is planned.

        Returns:
            A finding whose recipe differs only in values of `sets` that are not given.
        """

    def obstacle(self, studio: Studio, recipe: Recipe, steps: int) -> str | None:
        """Why there is nothing to learn or it cannot pay, in words; `None` when it may."""
        if all(recipe.is_given(f"{self.writes}.{name}") for name in self.sets):
            return "all that it could find is fixed by you"
        cost = self.cost(studio, recipe, steps)
        if cost.steps > STUDY_SHARE * steps:
            return (
                f"it would take {cost.steps:,} steps, more than {STUDY_SHARE:.0%} of the "
                f"{steps:,} steps of the run"
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
