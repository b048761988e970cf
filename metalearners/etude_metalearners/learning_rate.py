"""The learning rate: a range test, then short annealed trials around what it suggests."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from etude.findings import Cost, Finding
from etude.optim import _registry as optimizers
from etude_metalearners import range_test
from etude_metalearners._base import MetaLearner

if TYPE_CHECKING:
    from etude.recipe import Recipe
    from etude.training.studio import Studio

# Ends of the ramp: rates of adaptive optimizers are lengths of steps, others' are not.
ADAPTIVE, PLAIN = (1e-5, 1.0), (1e-4, 10.0)
RANGE_STEPS = 60
# Trials that confirm: how many, how far apart, and how long.
CANDIDATES, FACTOR, TRIAL_STEPS = 3, 3.0, 40


class LearningRate(MetaLearner):
    """Learns the peak learning rate of the recipe's schedule.

    The range test (Smith 2017, section 3.3) raises the rate exponentially over a few dozen
    steps and reads where the loss falls and where it stops falling. Then the rates around
    that point are tried against each other: short runs of the recipe's own schedule from
    the same weights on the same samples, scored by the mean of their last losses.
    """

    name: ClassVar[str] = "learning_rate"
    reads: ClassVar[tuple[str, ...]] = ("compute", "optimization", "regularization", "sampling")
    writes: ClassVar[str] = "optimization"
    sets: ClassVar[tuple[str, ...]] = ("learning_rate",)

    def cost(self, studio: Studio, recipe: Recipe, steps: int) -> Cost:
        total = RANGE_STEPS + CANDIDATES * TRIAL_STEPS
        seconds = 0.0 if studio.costs is None else total * studio.costs.step
        return Cost(seconds, total)

    def obstacle(self, studio: Studio, recipe: Recipe, steps: int) -> str | None:
        if not optimizers.has_free_rate(studio.trainer.optimizer):
            return "the optimizer brings a schedule of its own"
        return super().obstacle(studio, recipe, steps)

    def learn(self, studio: Studio, recipe: Recipe, steps: int) -> Finding:
        start = studio.budget.clock()
        ends = ADAPTIVE if optimizers.is_adaptive(studio.trainer.optimizer) else PLAIN
        tests = [_range_test(studio, *ends)]
        if tests[0][2].extend:
            shift = 100.0 if tests[0][2].extend == "up" else 0.01
            tests.append(_range_test(studio, ends[0] * shift, ends[1] * shift))
        rates, losses, found = tests[-1]
        spent = sum(len(test[1]) for test in tests)
        evidence: dict[str, Any] = {
            "rates": rates,
            "losses": losses,
            "suggestion": dataclasses.asdict(found),
        }
        if found.rate is None:
            return self._finding(studio, recipe, {}, found.why, evidence, spent, start)
        tried = range_test.candidates(found, FACTOR, CANDIDATES).tolist()
        trials = [studio.trial(TRIAL_STEPS, rate=rate) for rate in tried]
        scores = [range_test.tail(trial.losses) for trial in trials]
        spent += sum(len(trial.losses) for trial in trials)
        evidence |= {"tried": tried, "scores": scores}
        best = range_test.choose(tried, scores)
        if best is None:
            why = "No rate near the range test's suggestion gave a finite loss: default kept."
            return self._finding(studio, recipe, {}, why, evidence, spent, start)
        why = (
            f"{found.why[:1].upper()}{found.why[1:]}; of {len(tried)} short annealed runs "
            f"around it the one at {tried[best]:.3g} ended lowest (loss {scores[best]:.3g})."
        )
        changes = {"learning_rate": float(tried[best])}
        return self._finding(studio, recipe, changes, why, evidence, spent, start)

    def _finding(
        self,
        studio: Studio,
        recipe: Recipe,
        changes: dict[str, Any],
        why: str,
        evidence: dict[str, Any],
        steps: int,
        start: float,
    ) -> Finding:
        return Finding(
            learner=self.name,
            reads=self.reads,
            writes=self.writes,
            changes=changes,
            why=why,
            evidence=evidence,
            predicted=self.cost(studio, recipe, steps),
            true=Cost(studio.budget.clock() - start, steps),
            key=self.key(studio, recipe),
        )


def _range_test(
    studio: Studio, low: float, high: float
) -> tuple[list[float], list[float], range_test.Suggestion]:
    """Rates, losses and what they say; ends soon after the loss has diverged."""
    rates = range_test.ramp(low, high, RANGE_STEPS)

    def stop(losses: Sequence[float]) -> bool:
        return range_test.diverged(losses) < len(losses)

    losses = studio.trial(RANGE_STEPS, ramp=(low, high), stop=stop).losses
    done = rates[: len(losses)]
    return done.tolist(), losses.tolist(), range_test.suggest(done, losses)
