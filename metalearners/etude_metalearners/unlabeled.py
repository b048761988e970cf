"""Images without labels: does it help to count them in the statistics of batch normalization?"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from etude.findings import Cost, Finding
from etude_metalearners import heats
from etude_metalearners._base import MetaLearner, Planned, scoring_seconds

if TYPE_CHECKING:
    from etude.recipe import Recipe
    from etude.training.studio import Studio

Floats = npt.NDArray[np.float64]

# How they may count, and how they do not. Statistics that are constants to the gradient are not
# among them: few networks learn by these.
FORMS, OFF = ("joint", "straight_through"), "labelled"
# Steps of the usual in a trial, and validation samples that trials are scored on.
LEAST_STEPS, MOST_STEPS, SAMPLES = 80, 640, 1024
# Validation samples that there must be.
LEAST_SAMPLES = 50
# Steps that are timed: as many as take so many seconds, within bounds.
TIMED_SECONDS, LEAST_TIMED, MOST_TIMED = 0.15, 8, 100
# What a step with them takes of one without, and tracing it of tracing that, for a plan.
DEARER, TRACE = 2.0, 2.0
# Images of each set whose features are compared.
COMPARED = 256


class Unlabeled(MetaLearner):
    """Learns whether images without labels should count in the statistics of batch normalization.

    Each form is timed, and trained by a short schedule on all labelled samples, in as many fewer
    steps as cost the same as one without; a part of the samples would not do, since what is gained
    grows as labels get few. The better is adopted where the validation loss of single samples is
    lower beyond 2.8 standard errors, and by one again with another order of samples.

    Beside it stands how far the features of labelled images are from those of the others before
    each normalization: where that is no further than others among themselves are, little is to be
    gained.
    """

    name: ClassVar[str] = "unlabeled"
    reads: ClassVar[tuple[str, ...]] = (
        "compute",
        "optimization.optimizer",
        "optimization.learning_rate",
        "optimization.schedule",
        "optimization.momentum",
        "optimization.weight_decay",
        "regularization",
        "augmentation",
        "semisupervised",
    )
    writes: ClassVar[str] = "semisupervised"
    sets: ClassVar[tuple[str, ...]] = ("batch_norm",)
    share: ClassVar[float] = 0.7
    gain: ClassVar[float] = 0.15

    def cost(self, studio: Studio, recipe: Recipe, planned: Planned) -> Cost:
        """Two traces, timed steps, and five trials of the same cost."""
        plan = _plan(self.allowance(planned), studio, planned)
        timed = round((1.0 + len(FORMS) * DEARER) * plan.timed)
        return Cost(plan.seconds, 5 * plan.steps + timed)

    def obstacle(self, studio: Studio, recipe: Recipe, planned: Planned) -> str | None:
        """As for every meta-learner; also where there are none, or nothing to count them in."""
        why = studio.cannot_normalize()
        if why is not None:
            return why
        if studio.trainer.reducer is not None:
            return "variance reduction has gradients of labelled samples alone"
        if studio.problem.validation.count() < LEAST_SAMPLES:
            return "too few validation samples tell trials apart"
        return super().obstacle(studio, recipe, planned)

    def learn(self, studio: Studio, recipe: Recipe, planned: Planned) -> Finding:
        """Times the forms, tries them, and the best again."""
        clock = studio.budget.clock
        start = clock()
        plan = _plan(self.allowance(planned), studio, planned)
        gaps = studio.gaps(COMPARED)
        recipes = {form: recipe.learn(self.name, semisupervised={"batch_norm": form})
                   for form in (OFF, *FORMS)}  # fmt: skip
        costs = dict.fromkeys(recipes, 1.0)
        steps = 0
        if planned.timed:
            paces = {}
            for form, other in recipes.items():
                with studio.at(other):
                    paces[form] = studio.pace(plan.timed).seconds
                steps += plan.timed
            costs = {form: max(1.0, pace / paces[OFF]) for form, pace in paces.items()}

        def trained(form: str, order: int) -> Floats:
            nonlocal steps
            count = max(1, round(plan.steps / costs[form]))
            steps += count
            return studio.attempt(recipes[form], count, samples=SAMPLES, order=order)

        tried = heats.run(trained, FORMS, OFF, trained(OFF, 0))
        changes: dict[str, Any] = {"batch_norm": tried.tried[0].of} if tried.won else {}
        return self.finding(
            studio,
            recipe,
            changes=changes,
            why=_why(tried, costs),
            evidence={
                "costs": costs,
                "forms": {h.of: [h.found.mean, h.found.error] for h in tried.tried},
                "heats": [[found.mean, found.error] for found in tried.of_best],
                "gaps": {name: dataclasses.asdict(gap) for name, gap in gaps.items()},
                "plan": dataclasses.asdict(plan),
            },
            cost=Cost(clock() - start, steps),
        )


@dataclasses.dataclass(frozen=True)
class Plan:
    """How it is studied.

    Attributes:
        steps: Of a trial without them.
        timed: Steps of a measurement of time.
        seconds: What all of it takes, about.
    """

    steps: int
    timed: int
    seconds: float


def _plan(allowance: float, studio: Studio, planned: Planned) -> Plan:
    """The longest trials that there is time for, five times; no longer than the run."""
    costs = planned.costs
    timed = int(np.clip(math.ceil(TIMED_SECONDS / costs.step), LEAST_TIMED, MOST_TIMED))
    fixed = len(FORMS) * TRACE * costs.compile + 5.0 * scoring_seconds(studio, planned, SAMPLES)
    if planned.timed:
        fixed += (1.0 + len(FORMS) * DEARER) * timed * costs.step
    most = max(1, min(MOST_STEPS, planned.steps))
    steps = int((allowance - fixed) / (5.0 * costs.step))
    steps = int(np.clip(steps, min(LEAST_STEPS, most), most))
    return Plan(steps, timed, fixed + 5.0 * steps * costs.step)


def _why(tried: heats.Heats, costs: dict[str, float]) -> str:
    """What was found, in words."""
    best = tried.tried[0].of
    cost = f"A step with them, {best.replace('_', ' ')}, costs {costs[best]:.2f} of one without"
    told = f"{cost}; at equal cost"
    if tried.won:
        return f"{told} the validation loss is lower by {-tried.sure:.1f} standard errors."
    if tried.again is not None:
        return (
            f"{told} the validation loss is lower by {-tried.sure:.1f} standard errors, but not "
            "with another order of samples."
        )
    return f"{told} the validation loss differs by {tried.sure:+.1f} standard errors."
