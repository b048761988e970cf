"""The learning rate: a range test, or a rate carried from another batch, confirmed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from etude.findings import Cost, Finding
from etude.optim import _registry as optimizers
from etude.optim.momentum import momentum_of
from etude_metalearners import flat, range_test
from etude_metalearners._base import MetaLearner, Planned

if TYPE_CHECKING:
    from etude.recipe import Recipe
    from etude.training.studio import Studio

# Steps of a test: in a shorter one the loss falls too late, and in a longer one it is lowest at a
# smaller rate, below the best of a whole run.
MOST_STEPS, LEAST_STEPS = 60, 40
# Steps of a run that confirms a rate, the share of the whole run that it may take, and how often
# the rate may be halved.
CONFIRM_STEPS, CONFIRM_SHARE, HALVINGS = 40, 0.03, 2
# How far a second test lies above or below the first, which spans 10,000.
SHIFT = 100.0


class LearningRate(MetaLearner):
    """Learns the peak learning rate of the recipe's schedule.

    The range test (Smith 2017, section 3.3) raises the rate exponentially over some dozens of
    steps; `range_test.suggest` says what is read from the losses. Where the range missed the
    answer, a second test looks above or below, if the run is long enough to pay for it. A rate
    that the race of optimizers found at another batch size is carried along its flat direction
    instead. A short run of the whole schedule confirms either: where its loss rises beyond 2
    standard errors of its noise, or does not stay finite, the rate is halved. Where two halvings
    do not help either, a carried rate is taken at its least, and one of a test is not taken.
    """

    name: ClassVar[str] = "learning_rate"
    reads: ClassVar[tuple[str, ...]] = (
        "compute",
        "optimization.optimizer",
        "optimization.schedule",
        "optimization.warmup_steps",
        "optimization.warmup_fraction",
        "optimization.cycle_momentum",
        "regularization.clip_norm",
        "regularization.decay",
        "regularization.ema_decay",
        "sampling",
    )
    writes: ClassVar[str] = "optimization"
    sets: ClassVar[tuple[str, ...]] = ("learning_rate",)

    def cost(self, studio: Studio, recipe: Recipe, planned: Planned) -> Cost:
        """One test and one run that confirms it; more are needed seldom, and stay within."""
        multiple = recipe.compute.steps_per_execution
        tested, confirmed = self._lengths(planned)
        if _carried(studio, recipe, planned) is not None:
            tested, confirmed = 0, CONFIRM_STEPS
        total = sum(math.ceil(n / multiple) * multiple for n in (tested, confirmed))
        return Cost(total * planned.costs.step, total)

    def obstacle(self, studio: Studio, recipe: Recipe, planned: Planned) -> str | None:
        """As for every meta-learner; also where the rate is not ours to set."""
        if not optimizers.has_free_rate(studio.trainer.optimizer):
            return "the optimizer brings a schedule of its own"
        return super().obstacle(studio, recipe, planned)

    def learn(self, studio: Studio, recipe: Recipe, planned: Planned) -> Finding:
        """Carries a rate or tests for one, and confirms it."""
        start = studio.budget.clock()
        tested, confirmed = self._lengths(planned)
        evidence: dict[str, Any] = {}
        spent = 0
        carried = _carried(studio, recipe, planned)
        if carried is not None:
            confirmed = CONFIRM_STEPS  # in the place of a test
            rate: float | None = carried["rate"]
            evidence["carried"] = carried
            why = (
                f"The rate of the race, carried from a batch of {carried['from_batch']} to "
                f"{carried['to_batch']}"
            )
        else:
            tests = self._tested(studio, recipe, planned, tested, confirmed)
            spent += sum(test.spent for test in tests)
            evidence["tests"] = [dataclasses.asdict(test) for test in tests]
            found = tests[-1].found
            rate = found.rate if found.reliable else None
            why = f"In a range test {found.why}; the peak rate is that / {range_test.MARGIN:g}"
            if rate is None:
                why = f"The rate stays as it was: {found.why}"
        if rate is not None and confirmed:
            left = int(self.allowance(planned) / planned.costs.step + 1e-9) - spent
            runs = _confirmed(studio, rate, confirmed, max(1, left // confirmed))
            spent += sum(run["steps"] for run in runs)
            evidence["confirmed"] = runs
            rate = runs[-1]["rate"] if runs[-1]["falls"] or carried else None
            why += _told(runs, taken=rate is not None)
        return self.finding(
            studio,
            recipe,
            changes={} if rate is None else {"learning_rate": rate},
            why=why + ".",
            evidence=evidence,
            cost=Cost(studio.budget.clock() - start, spent),
        )

    def _lengths(self, planned: Planned) -> tuple[int, int]:
        """Steps of a test and of the run that confirms it, as many as may be spent."""
        steps = int(self.allowance(planned) / planned.costs.step + 1e-9)
        pays = CONFIRM_SHARE * planned.steps >= CONFIRM_STEPS
        confirmed = CONFIRM_STEPS if pays and steps >= LEAST_STEPS + CONFIRM_STEPS else 0
        return max(LEAST_STEPS, min(MOST_STEPS, steps - confirmed)), confirmed

    def _tested(
        self, studio: Studio, recipe: Recipe, planned: Planned, steps: int, reserved: int
    ) -> list[RangeTest]:
        """One test, and a second one if the range missed the answer and the run can pay."""
        multiple = recipe.compute.steps_per_execution
        steps = math.ceil(steps / multiple) * multiple  # no execution is cut short
        low, high = span(studio.trainer.optimizer)
        tests = [RangeTest.run(studio, low, high, steps)]
        left = int(self.allowance(planned) / planned.costs.step + 1e-9) - tests[0].spent - reserved
        left = min(steps, left) // multiple * multiple
        if tests[0].found.extend and left >= LEAST_STEPS:
            shift = SHIFT if tests[0].found.extend == "up" else 1.0 / SHIFT
            tests.append(RangeTest.run(studio, low * shift, high * shift, left))
        return tests


@dataclasses.dataclass(frozen=True)
class RangeTest:
    """One range test: its rates, the loss at each, what they say, and the steps it took."""

    rates: list[float]
    losses: list[float]
    found: range_test.Suggestion
    spent: int

    @classmethod
    def run(cls, studio: Studio, low: float, high: float, steps: int) -> RangeTest:
        """Tests the rates from `low` to `high`; ends soon after the loss has diverged."""

        def stop(losses: Sequence[float]) -> bool:
            return range_test.diverged(losses) < len(losses)

        losses = studio.trial(steps, ramp=(low, high), stop=stop).losses.astype("float64")
        rates = range_test.ramp(low, high, steps)[: len(losses)]
        found = range_test.suggest(rates, losses[: len(rates)])
        return cls(rates.tolist(), losses[: len(rates)].tolist(), found, len(losses))


def span(optimizer: Any) -> tuple[float, float]:
    """The rates that a test of this optimizer covers."""
    low, high = range_test.span(optimizers.is_adaptive(optimizer), momentum_of(optimizer))
    scale = optimizers.rate_scale(optimizer)
    return low * scale, high * scale


def _carried(studio: Studio, recipe: Recipe, planned: Planned) -> dict[str, Any] | None:
    """The rate that the race of optimizers found, at the batch size of now."""
    race = planned.found("optimizer")
    if race is None or "learning_rate" not in race.changes:
        return None
    before, after = int(race.evidence["batch_size"]), recipe.compute.batch_size
    rate = flat.rate_at_batch(
        float(race.changes["learning_rate"]),
        before,
        after,
        adaptive=optimizers.is_adaptive(studio.trainer.optimizer),
    )
    return {"from_batch": before, "to_batch": after, "rate": rate}


def _confirmed(studio: Studio, rate: float, steps: int, most: int) -> list[dict[str, Any]]:
    """At most so many short runs, each at half the rate of the one before, until none harms.

    A rate harms where the loss does not stay finite or rises beyond its noise; one that hardly
    moves in so few steps, such as that of a pretrained model, does not.
    """
    runs: list[dict[str, Any]] = []
    for _ in range(min(most, 1 + HALVINGS)):
        losses = studio.trial(steps, rate=rate).losses.astype("float64")
        part = max(1, len(losses) // 4)
        first, last = float(losses[:part].mean()), float(losses[-part:].mean())
        noise = math.hypot(losses[:part].std(), losses[-part:].std()) / math.sqrt(part)
        falls = bool(np.all(np.isfinite(losses)) and last < first + 2.0 * noise)
        runs.append({"rate": rate, "score": last, "steps": len(losses), "falls": falls})
        if falls:
            break
        rate /= 2.0
    return runs


def _told(runs: Sequence[dict[str, Any]], *, taken: bool) -> str:
    tried = "it" if len(runs) == 1 else "it and at its halves"
    if runs[-1]["falls"]:
        times = {1: "", 2: ", halved once", 3: ", halved twice"}[len(runs)]
        return f". A run of {runs[-1]['steps']} steps confirms it{times}"
    told = f". In a run of {runs[-1]['steps']} steps at {tried} the loss rises"
    rate = f"the least of these, {runs[-1]['rate']:.3g}, is taken"
    return told + (f": {rate}" if taken else ": the rate stays as it was")
