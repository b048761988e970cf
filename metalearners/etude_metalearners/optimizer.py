"""The optimizer: a race of short, whole, paired schedules, each with its own rate."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from etude.findings import Cost, Finding
from etude.optim._registry import COMPILED
from etude_metalearners import pairs
from etude_metalearners._base import MetaLearner, Planned, scoring_seconds
from etude_metalearners.learning_rate import MOST_STEPS as TEST_STEPS
from etude_metalearners.learning_rate import RangeTest, span

if TYPE_CHECKING:
    from etude.recipe import Recipe
    from etude.training.studio import Studio

# Who may challenge what the recipe has, in the order in which they are asked, with the weight
# decay of each: decoupled, times the rate. The papers' 5e-4 within SGD's momentum of 0.9 acts ten
# times as strongly as the same number outside of it.
CHALLENGERS: dict[str, float] = {"nesterov": 5e-3, "adamw": 5e-2, "lamb": 1e-2, "lars": 1e-4}
# Steps of each schedule.
LEAST_STEPS, MOST_STEPS = 100, 600
# Validation samples that each is scored on, at most.
SAMPLES = 2048


class Optimizer(MetaLearner):
    """Learns which optimizer to use, with its rate.

    A race at constant rate favours fast starters, so each optimizer runs the recipe's schedule as a
    whole, annealed to its end but short, at the rate of its own range test; from the same weights,
    in the same order of samples. A challenger wins only where its validation loss is lower beyond
    2.8 standard errors of the paired difference, and lower again in a second heat with another
    order, since the spread over validation samples says nothing of luck with the order. Ties stay
    with what there is.
    """

    name: ClassVar[str] = "optimizer"
    reads: ClassVar[tuple[str, ...]] = (
        "compute.precision",
        "compute.xla",
        "compute.steps_per_execution",
        "compute.accumulate",
        "optimization.schedule",
        "optimization.cycle_momentum",
        "regularization.clip_norm",
        "regularization.decay",
        "regularization.ema_decay",
        "sampling",
    )
    writes: ClassVar[str] = "optimization"
    sets: ClassVar[tuple[str, ...]] = ("optimizer", "learning_rate", "momentum", "weight_decay")
    share: ClassVar[float] = 0.4
    gain: ClassVar[float] = 0.15

    def cost(self, studio: Studio, recipe: Recipe, planned: Planned) -> Cost:
        """A range test, a schedule and a compilation for each in the race, half a second heat.

        There is time for both of its runs; whether they are needed nobody knows before.
        """
        count, steps = self._race(studio, recipe, planned)
        total = (1 + count) * (TEST_STEPS + steps) + steps
        scoring = (2 + count) * scoring_seconds(studio, planned, SAMPLES)
        seconds = total * planned.costs.step + count * planned.costs.compile + scoring
        return Cost(seconds, total)

    def obstacle(self, studio: Studio, recipe: Recipe, planned: Planned) -> str | None:
        """As for every meta-learner; also where the optimizer is not ours to choose."""
        if recipe.is_given("optimization.optimizer"):
            return "the optimizer is fixed by you"
        if recipe.optimization.optimizer == COMPILED:
            return "the model was compiled with an optimizer"
        if recipe.is_given("optimization.learning_rate"):
            return "the learning rate is fixed, and it belongs to the optimizer"
        if studio.score_batches(SAMPLES)[1] < pairs.LEAST:
            return "too few validation samples tell optimizers apart"
        return super().obstacle(studio, recipe, planned)

    def learn(self, studio: Studio, recipe: Recipe, planned: Planned) -> Finding:
        """Runs the race: what there is first, then as many challengers as there is time for."""
        clock = studio.budget.clock
        start = clock()
        count, steps = self._race(studio, recipe, planned)
        runners = [_Runner.run(studio, recipe, {}, steps, planned.steps)]
        for name in list(challengers(recipe))[:count]:
            # The first said what one takes; another that would not fit is not begun.
            spent = clock() - start
            if planned.timed and spent + spent / len(runners) > 1.1 * self.allowance(planned):
                break
            changes: dict[str, Any] = {"optimizer": name}
            if recipe.regularization.decay == "constant":
                changes["weight_decay"] = CHALLENGERS[name]
            runners.append(_Runner.run(studio, recipe, changes, steps, planned.steps))
        best, heat = runners[0], None
        first = min(runners, key=lambda runner: runner.score)
        if pairs.difference(first.scores, best.scores).better:
            heat = pairs.difference(
                *(runner.again(studio, recipe, steps, planned.steps) for runner in (first, best))
            )
            if heat.mean < 0.0:
                best = first
        changes = dict(best.changes)
        if best.rate is not None:
            changes["learning_rate"] = best.rate
        return self.finding(
            studio,
            recipe,
            changes=changes,
            why=_why(runners, first, best),
            evidence={
                "race": [runner.row(best) for runner in runners],
                "chosen": best.name,
                "second_heat": None if heat is None else heat.mean,
                "batch_size": recipe.compute.batch_size,
            },
            cost=Cost(
                clock() - start,
                sum(runner.steps for runner in runners) + (2 * steps if heat else 0),
            ),
        )

    def _race(self, studio: Studio, recipe: Recipe, planned: Planned) -> tuple[int, int]:
        """How many challengers, over how many steps: as many as can run long enough."""
        costs = planned.costs
        for count in range(len(challengers(recipe)), 1, -1):
            left = self.allowance(planned) - count * costs.compile
            left -= (3 + count) * scoring_seconds(studio, planned, SAMPLES)
            left -= (1 + count) * TEST_STEPS * costs.step
            steps = int(left / (3 + count) / costs.step)
            if steps >= LEAST_STEPS:
                return count, min(MOST_STEPS, steps)
        return 2, LEAST_STEPS


@dataclasses.dataclass(frozen=True)
class _Runner:
    """One optimizer's race."""

    name: str
    changes: dict[str, Any]
    rate: float | None
    losses: np.ndarray[Any, Any]
    scores: np.ndarray[Any, Any]
    steps: int

    @classmethod
    def run(
        cls, studio: Studio, recipe: Recipe, changes: dict[str, Any], steps: int, run_steps: int
    ) -> _Runner:
        """A range test, and a short schedule at the rate that it found."""
        tried = recipe.learn("optimizer", optimization=changes)
        with studio.at(tried):
            low, high = span(studio.trainer.optimizer)
            test = RangeTest.run(studio, low, high, TEST_STEPS)
            rate = test.found.rate if test.found.reliable else None
            trial = studio.trial(steps, rate=rate, score_samples=SAMPLES, run_steps=run_steps)
        return cls(
            tried.optimization.optimizer,
            changes,
            rate,
            trial.losses,
            trial.scores,
            test.spent + len(trial.losses),
        )

    def again(
        self, studio: Studio, recipe: Recipe, steps: int, run_steps: int
    ) -> np.ndarray[Any, Any]:
        """The scores of a second heat, with another order of samples."""
        with studio.at(recipe.learn("optimizer", optimization=self.changes)):
            return studio.trial(
                steps, rate=self.rate, score_samples=SAMPLES, order=1, run_steps=run_steps
            ).scores

    @property
    def score(self) -> float:
        """Mean validation loss; infinite where it is not finite."""
        mean = float(self.scores.mean())
        return mean if math.isfinite(mean) else math.inf

    def row(self, best: _Runner) -> dict[str, Any]:
        """For the evidence."""
        error = pairs.difference(self.scores, best.scores).error if self is not best else None
        return {
            "optimizer": self.name,
            "rate": self.rate,
            "score": self.score,
            "error": error,
            "losses": self.losses.astype("float64").tolist(),
            "steps": self.steps,
        }


def challengers(recipe: Recipe) -> list[str]:
    """Those that the recipe's settings leave in the race."""
    out = {recipe.optimization.optimizer}
    if recipe.regularization.decay != "constant" and "adam" in out:
        out.add("adamw")  # which differs by its own decay alone
    return [name for name in CHALLENGERS if name not in out]


def _why(runners: list[_Runner], first: _Runner, best: _Runner) -> str:
    scores = ", ".join(f"{runner.name} {runner.score:.3f}" for runner in runners)
    told = f"Validation loss after short schedules, each at its own rate: {scores}. "
    own = runners[0].name
    if (
        best is runners[0]
        and first is not best
        and pairs.difference(first.scores, best.scores).better
    ):
        return told + f"{first.name} is not better than {own} again with another order of samples."
    if best is runners[0]:
        return told + f"None is better than {own} beyond {pairs.BOUND:g} standard errors."
    found = pairs.difference(best.scores, runners[0].scores)
    return told + (
        f"{best.name} is {-found.mean:.3f} better than {own}, "
        f"{-found.mean / max(found.error, 1e-12):.1f} standard errors."
    )
