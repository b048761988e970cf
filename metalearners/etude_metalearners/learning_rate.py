"""The learning rate: a range test on the model and data at hand."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from etude.findings import Cost, Finding
from etude.optim import _registry as optimizers
from etude_metalearners import range_test
from etude_metalearners._base import MetaLearner, Planned

if TYPE_CHECKING:
    from etude.recipe import Recipe
    from etude.training.studio import Studio

# Steps of a test: a longer one gains little, a shorter one shows the loss's fall too late.
MOST_STEPS, LEAST_STEPS = 100, 40
# How far a second test lies above or below the first, which spans 10,000.
SHIFT = 100.0


class LearningRate(MetaLearner):
    """Learns the peak learning rate of the recipe's schedule.

    The range test (Smith 2017, section 3.3) raises the rate exponentially over some dozens of
    steps; `range_test.suggest` says what is read from the losses. Where the range missed the
    answer, a second test looks above or below, if the run is long enough to pay for it.
    """

    name: ClassVar[str] = "learning_rate"
    reads: ClassVar[tuple[str, ...]] = ("compute", "optimization", "regularization", "sampling")
    writes: ClassVar[str] = "optimization"
    sets: ClassVar[tuple[str, ...]] = ("learning_rate",)

    def cost(self, studio: Studio, recipe: Recipe, planned: Planned) -> Cost:
        """One test; a second one is needed seldom, and stays within the share of studies."""
        total = max(LEAST_STEPS, min(MOST_STEPS, _allowance(studio, planned)))
        multiple = recipe.compute.steps_per_execution
        total = math.ceil(total / multiple) * multiple  # no execution is cut short
        return Cost(total * studio.measured.step, total)

    def obstacle(self, studio: Studio, recipe: Recipe, planned: Planned) -> str | None:
        """As for every meta-learner; also where the rate is not ours to set."""
        if not optimizers.has_free_rate(studio.trainer.optimizer):
            return "the optimizer brings a schedule of its own"
        return super().obstacle(studio, recipe, planned)

    def learn(self, studio: Studio, recipe: Recipe, planned: Planned) -> Finding:
        """Tests once, a second time if the range missed the answer and the run can pay."""
        start = studio.budget.clock()
        predicted = self.cost(studio, recipe, planned)
        low, high = range_test.span(
            optimizers.is_adaptive(studio.trainer.optimizer), _momentum(studio.trainer.optimizer)
        )
        tests = [_Test.run(studio, low, high, predicted.steps)]
        left = min(predicted.steps, _allowance(studio, planned) - tests[0].spent)
        left -= left % recipe.compute.steps_per_execution
        if tests[0].found.extend and left >= LEAST_STEPS:
            shift = SHIFT if tests[0].found.extend == "up" else 1.0 / SHIFT
            tests.append(_Test.run(studio, low * shift, high * shift, left))
        found = tests[-1].found
        changes: dict[str, Any] = {}
        if found.reliable and found.rate is not None:
            changes["learning_rate"] = found.rate
            why = f"In a range test {found.why}; the peak rate is that / {range_test.MARGIN:g}."
        else:
            why = f"The rate stays as it was: {found.why}."
        return Finding(
            learner=self.name,
            reads=self.reads,
            writes=self.writes,
            changes=changes,
            why=why,
            evidence={"tests": [dataclasses.asdict(test) for test in tests]},
            predicted=predicted,
            true=Cost(studio.budget.clock() - start, sum(test.spent for test in tests)),
            key=self.key(studio, recipe),
        )


@dataclasses.dataclass(frozen=True)
class _Test:
    """One range test: its rates, the loss at each, what they say, and the steps it took."""

    rates: list[float]
    losses: list[float]
    found: range_test.Suggestion
    spent: int

    @classmethod
    def run(cls, studio: Studio, low: float, high: float, steps: int) -> _Test:
        """Tests the rates from `low` to `high`; ends soon after the loss has diverged."""

        def stop(losses: Sequence[float]) -> bool:
            return range_test.diverged(losses) < len(losses)

        losses = studio.trial(steps, ramp=(low, high), stop=stop).losses.astype("float64")
        rates = range_test.ramp(low, high, steps)[: len(losses)]
        found = range_test.suggest(rates, losses[: len(rates)])
        return cls(rates.tolist(), losses[: len(rates)].tolist(), found, len(losses))


def _allowance(studio: Studio, planned: Planned) -> int:
    """Steps that may be spent on the study."""
    return int(min(round(planned.allowance / studio.measured.step, 6), planned.steps))


def _momentum(optimizer: Any) -> float:
    """The optimizer's momentum; 0 where it has none, or where Étude does not know it."""
    attribute = optimizers.momentum_attribute(optimizer)
    if attribute is None:
        return 0.0
    return float(getattr(optimizers.unwrapped(optimizer), attribute))
