"""The length: how many steps the time that is left pays for."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from etude.findings import Cost, Finding
from etude_metalearners._base import MetaLearner, Planned

if TYPE_CHECKING:
    from etude.recipe import Recipe
    from etude.training.studio import Studio


class Length(MetaLearner):
    """Learns how long the run is, from its time budget and the measured costs.

    It takes no time. The schedule itself is mended as the run goes, by the pace that it really
    has; what is learned here is what a recipe needs to know to be trained again without a budget.
    """

    name: ClassVar[str] = "length"
    reads: ClassVar[tuple[str, ...]] = (
        "compute",
        "optimization",
        "regularization",
        "sampling",
        "augmentation",
        "semisupervised",
    )
    writes: ClassVar[str] = "optimization"
    sets: ClassVar[tuple[str, ...]] = ("epochs",)

    def cost(self, studio: Studio, recipe: Recipe, planned: Planned) -> Cost:
        """Nothing."""
        return Cost()

    def obstacle(self, studio: Studio, recipe: Recipe, planned: Planned) -> str | None:
        """Where no time was given the number of epochs was."""
        if not planned.timed:
            return "the run ends by epochs"
        return super().obstacle(studio, recipe, planned)

    def learn(self, studio: Studio, recipe: Recipe, planned: Planned) -> Finding:
        """Counts."""
        costs = planned.costs
        epochs = planned.steps / studio.steps_per_epoch
        left = max(0.0, studio.budget.remaining())
        training = planned.steps * costs.step
        return self.finding(
            studio,
            recipe,
            changes={"epochs": epochs},
            why=f"{left:.0f} s are left: {planned.steps:,} steps of {1e3 * costs.step:.1f} ms, "
            f"{epochs:.2f} epochs, with evaluations and the end.",
            evidence={
                "steps": planned.steps,
                "epochs": epochs,
                "seconds": left,
                "step_seconds": costs.step,
                "evaluation_seconds": costs.evaluation,
                "shares": {
                    "study": studio.budget.spent(),
                    "training": training,
                    "finish": costs.finish,
                    "evaluation": max(0.0, left - training - costs.finish),
                },
            },
            cost=Cost(),
        )
