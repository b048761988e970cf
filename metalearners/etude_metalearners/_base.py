"""What every meta-learner is: it learns one part of a recipe, and leaves no trace."""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from etude.budget import CostModel
from etude.findings import Cost, Finding, finding_key, paths
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
        costs: What steps, evaluations and compilation cost. Where epochs end the run these are
            nominal, a second a step: no clock may change what such a run ends with.
        timed: Whether time ends it, and not epochs.
        findings: What was found so far.
    """

    steps: int
    allowance: float
    costs: CostModel
    timed: bool = False
    findings: tuple[Finding, ...] = ()

    @property
    def seconds(self) -> float:
        """How long its steps will take."""
        return self.steps * self.costs.step

    def found(self, learner: str) -> Finding | None:
        """What the named meta-learner found; `None` where it did not study."""
        return next((f for f in self.findings if f.learner == learner and f.evidence), None)


class MetaLearner(abc.ABC):
    """Learns one part of a recipe.

    Attributes:
        name: The name in findings and marks.
        reads: Recipe groups that what it learns depends on, or single values of them as
            `group.name`; the order of studies follows from it.
        writes: The group that it changes.
        sets: The names within that group that it may set; values of other groups by their paths,
            `group.name`.
        share: What it may take of the time that is left for studies; the rest is for those
            after it.
        gain: The share of the training time that its finding may be worth, expected before
            anything is known of the problem. A study that costs more is not begun.
    """

    name: ClassVar[str]
    reads: ClassVar[tuple[str, ...]]
    writes: ClassVar[str]
    sets: ClassVar[tuple[str, ...]]
    share: ClassVar[float] = 1.0
    gain: ClassVar[float] = 1.0

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

    def allowance(self, planned: Planned) -> float:
        """Seconds that it may take."""
        return max(0.0, min(self.share * planned.allowance, self.gain * planned.seconds))

    def obstacle(self, studio: Studio, recipe: Recipe, planned: Planned) -> str | None:
        """Why there is nothing to learn or it cannot pay, in words; `None` when it may."""
        if all(recipe.is_given(path) for path in paths(self.writes, self.sets)):
            return "all that it could find is fixed by you"
        seconds = self.cost(studio, recipe, planned).seconds
        unit = "s" if planned.timed else "steps"  # nominal costs count these
        if seconds > self.gain * planned.seconds:
            return (
                f"it would take {seconds:.1f} {unit}, and what it finds is worth about "
                f"{self.gain:.0%} of {planned.seconds:.1f} {unit} of training"
            )
        seconds -= self.needed_anyway(studio, planned)
        if seconds > self.allowance(planned) * (1.0 + 1e-9):
            return (
                f"it would take {seconds:.1f} {unit}, and {self.allowance(planned):.1f} {unit} are "
                f"left for it of the {STUDY_SHARE:.0%} of a run that studies may take"
            )
        return None

    def needed_anyway(self, studio: Studio, planned: Planned) -> float:
        """Seconds of its cost that a run which takes over its finding needs without it too."""
        return 0.0

    def options(self) -> str:
        """What it was told when it was made, if that makes a difference to what it finds."""
        return ""

    def identity(self) -> str:
        """What tells it from others of its kind: its class, and what it was told."""
        return f"{type(self).__module__}.{type(self).__qualname__} {self.options()}".strip()

    def mark(self) -> str:
        """What else tells its findings from others', where options may say the same of two."""
        return ""

    def key(self, studio: Studio, recipe: Recipe) -> str:
        """Hash of all that the finding depends on."""
        own = f"{self.identity()} {self.mark()}".strip()
        fingerprint = f"{own} {studio.problem.fingerprint()} {studio.seed}"
        return finding_key(recipe, self.reads, self.writes, fingerprint, self.sets)

    def finding(
        self,
        studio: Studio,
        recipe: Recipe,
        *,
        changes: Mapping[str, Any],
        why: str,
        evidence: Mapping[str, Any],
        cost: Cost,
    ) -> Finding:
        """What was found; changes of values that are given, or would change nothing, left out."""
        now = recipe.values()
        kept = {
            name: value
            for path, (name, value) in zip(
                paths(self.writes, changes), changes.items(), strict=True
            )
            if not recipe.is_given(path) and now[path] != value
        }
        return Finding(
            learner=self.name,
            reads=self.reads,
            writes=self.writes,
            changes=kept,
            why=why,
            evidence=evidence,
            predicted=Cost(),
            true=cost,
            key=self.key(studio, recipe),
            gain=self.gain,
        )

    def skipped(self, studio: Studio, recipe: Recipe, why: str) -> Finding:
        """The finding of a meta-learner that did not run."""
        return self.finding(
            studio, recipe, changes={}, why=f"Not studied: {why}.", evidence={}, cost=Cost()
        )


def scoring_seconds(studio: Studio, planned: Planned, samples: int) -> float:
    """What it takes to score a trial on so many validation samples, or on all that there are."""
    count = studio.problem.validation.count()
    scored = math.ceil(count / max(1, count // samples))  # of these every so manieth
    return scored / count * planned.costs.evaluation
