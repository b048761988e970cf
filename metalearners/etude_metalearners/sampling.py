"""Importance sampling: does it save time here, and from how many samples should be drawn?"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from etude.findings import Cost, Finding
from etude.sampling import probabilities
from etude.sampling.strategies import LEAST, PRESAMPLED, Presampled
from etude_metalearners import pairs
from etude_metalearners._base import MetaLearner, Planned, scoring_seconds

if TYPE_CHECKING:
    from etude.recipe import Recipe
    from etude.training.studio import Miniature, Studio

Floats = npt.NDArray[np.float64]

# How many times as large as a batch that is which samples are drawn from: those that are weighed.
PRESAMPLES = (2.0, 3.0, 4.0, 5.0, 6.0)
# That at which the cost of scoring is measured first.
MEASURED = 3.0
# Steps that are timed with and without scoring: as many as take so many seconds, within bounds.
TIMED_SECONDS, LEAST_TIMED, MOST_TIMED = 0.25, 12, 200
# Steps of a miniature of the run, and passes over the part of the data that it sees, at most.
LEAST_STEPS, MOST_STEPS, PASSES, LEAST_PART = 80, 320, 30.0, 256
# Validation samples that trials are scored on, and how many there must be.
SAMPLES, LEAST_SAMPLES = 1024, 100
# The predicted gain below which nothing is tried, and what the trace takes of that of a plain step.
WORTH, TRACE = 1.05, 1.6
# No τ is above it: the gate stays shut.
NEVER = 1e6
# What of a step is not for its samples, as the strategy is told, so that it draws a whole batch,
# and as few as it may; and what is believed of a measurement at most.
WHOLE = {"fixed": 0.99}
FEWEST = {"fixed": 0.0, "forward": 1e-6}
MOST_FIXED = 0.95
# What scoring a batch takes of a step, for a plan of the study.
SCORING = 0.6


class Sampling(MetaLearner):
    """Learns whether drawing samples by the upper bound of their gradients saves time.

    What a forward pass costs is measured, not taken for a third: a step with the gate open against
    one with it shut, in the same trace; and what of a step is not for its samples, by one on an
    eighth of them. τ is watched over a miniature of the run: a whole schedule,
    as many passes as the run makes, over a part of the training set that is as small as it is
    short, so that its end tells of the run's end, where samples differ most. For each k the
    speed-up follows from the equivalent batch M of k and τ over the cost of a step, which is the
    gate's rule too: it opens where M is above the cost.

    The strategy is `best_count`, which draws as many samples as give the largest M for the cost;
    or the plain upper bound, a whole batch, where XLA or a loss that is summed wants that.

    If the best k promises 5 % or more, the same miniature is run with it, in as much fewer steps as
    cost the same, at its rate and, while the gate is open, at M times that: what has less variance
    bears longer steps. The better of both is adopted where the validation loss of single samples is
    lower beyond 2.8 standard errors, and by one again with another order of samples.
    """

    name: ClassVar[str] = "sampling"
    reads: ClassVar[tuple[str, ...]] = (
        "compute",
        "optimization.optimizer",
        "optimization.learning_rate",
        "optimization.schedule",
        "optimization.momentum",
        "optimization.weight_decay",
        "regularization",
        "augmentation",
        "sampling.class_weight",
        "sampling.strategy",
        "sampling.presample",
        "sampling.threshold",
        "sampling.forward",
        "sampling.fixed",
        "sampling.rate",
        "sampling.draws",
    )
    writes: ClassVar[str] = "sampling"
    sets: ClassVar[tuple[str, ...]] = ("strategy", "presample", "forward", "fixed", "rate")
    gain: ClassVar[float] = 0.1

    def cost(self, studio: Studio, recipe: Recipe, planned: Planned) -> Cost:
        """The trace, timed steps, the miniature, and what trying a strategy twice takes."""
        plan = _plan(self.allowance(planned), studio, planned)
        return Cost(plan.seconds, 5 * plan.steps + 8 * plan.timed)

    def obstacle(self, studio: Studio, recipe: Recipe, planned: Planned) -> str | None:
        """As for every meta-learner; also where a clock or single samples may not tell."""
        if recipe.is_given("sampling.strategy"):
            return "the strategy is fixed by you"
        if not planned.timed:
            return "the run ends by epochs, and what a clock says may not change its outcome"
        if studio.trainer.distributed:
            return "it is not studied on several devices"
        if studio.train.size is None:
            return "of data without an end no sample is seen twice, as far as is known"
        why = studio.cannot_sample()
        if why is not None:
            return why
        if studio.problem.validation.count() < LEAST_SAMPLES:
            return "too few validation samples tell trials apart"
        return super().obstacle(studio, recipe, planned)

    def learn(self, studio: Studio, recipe: Recipe, planned: Planned) -> Finding:
        """Measures costs and τ, predicts, and tries what promises most."""
        clock = studio.budget.clock
        start = clock()
        plan = _plan(self.allowance(planned), studio, planned)
        options = {"batch": recipe.compute.batch_size, "part": plan.part}
        own = recipe.sampling
        strategy = _strategy(studio, recipe)
        name = strategy.name
        shut, opened = (
            recipe.give(
                sampling={
                    "strategy": name, "presample": MEASURED, "threshold": limit,
                    "warm_up": 0.0, "cool_down": 0.0, **WHOLE,
                }
            )
            for limit in (NEVER, -1.0)
        )  # fmt: skip
        given = own.forward if recipe.is_given("sampling.forward") else None
        sizes: tuple[float, ...] = PRESAMPLES
        if own.presample is not None and recipe.is_given("sampling.presample"):
            sizes = (own.presample,)
        with studio.at(shut):
            measured = strategy.resizes and not recipe.is_given("sampling.fixed")
            step, forward, fixed = _costs(studio, opened, plan.timed, fewer=measured)
            forward = forward if given is None else given
            fixed = fixed if measured else own.fixed if strategy.resizes else 0.0
            rule = Rule(strategy, fixed, own.threshold)
            watched = studio.miniature(shut, plan.steps, samples=SAMPLES, order=0, **options)
            steps = plan.steps + (6 if measured else 4) * plan.timed

            def promised(forward: float) -> dict[float, float]:
                return {k: rule.speed_up(watched.taus, k, forward) for k in sizes}

            predicted = promised(max(0.0, forward))
            best = max(predicted, key=lambda k: predicted[k])
            if forward > 0.0 and predicted[best] >= WORTH and given is None:
                # What is to be adopted is timed itself, and the dearer of both counts.
                at_best = opened.give(sampling={"presample": best})
                plain, seconds = _paces(studio, (at_best,), plan.timed, rounds=1)
                steps += 2 * plan.timed
                forward = max(forward, (seconds - plain) / (best * plain))
                predicted = promised(forward)
            heats = Heats()
            values = {"strategy": name, "presample": best, "fixed": fixed}
            values["forward"] = max(forward, 1e-6)
            if forward > 0.0 and predicted[best] >= WORTH:
                fewer = max(1, round(plan.steps / rule.cost(watched.taus, best, forward)))

                def trained(rate: float | None, order: int) -> Miniature:
                    """At equal cost: by the strategy at times the rate, or uniformly."""
                    chosen = shut
                    if rate is not None:
                        chosen = recipe.learn(self.name, sampling=values | {"rate": rate})
                    count = plan.steps if rate is None else fewer
                    return studio.miniature(chosen, count, samples=SAMPLES, order=order, **options)

                rates: tuple[float, ...] = (1.0, rule.lift(watched.taus, best, forward))
                if recipe.is_given("sampling.rate"):
                    rates = (own.rate,)
                heats = _heats(trained, rates, watched.losses)
                steps += len(rates) * fewer + (0 if heats.again is None else plan.steps + fewer)
        changes: dict[str, Any] = values | {"rate": heats.tried[0].rate} if heats.won else {}
        return self.finding(
            studio,
            recipe,
            changes=changes,
            why=_why(predicted, best, forward, watched.taus, heats),
            evidence={
                "taus": np.round(watched.taus, 4).tolist(),
                "strategy": name,
                "forward": forward,
                "fixed": fixed,
                "step_seconds": step,
                "speed_ups": {str(k): value for k, value in predicted.items()},
                "presample": best,
                "threshold": rule.least(best, forward),
                "open_share": heats.tried[0].share if heats.tried else 0.0,
                "rates": {str(h.rate): [h.found.mean, h.found.error] for h in heats.tried},
                "heats": [[found.mean, found.error] for found in heats.of_best],
                "pareto": probabilities.pareto_speed_up(best, 1.16, forward),
                "plan": dataclasses.asdict(plan),
            },
            cost=Cost(clock() - start, steps),
        )


@dataclasses.dataclass(frozen=True)
class Heat:
    """A miniature by the strategy against a uniform one of the same cost.

    Attributes:
        found: How losses of single validation samples differ; below 0 where it is better.
        rate: Times the learning rate while the gate was open.
        share: Of the steps, in which it was.
    """

    found: pairs.Difference
    rate: float
    share: float


@dataclasses.dataclass(frozen=True)
class Heats:
    """What came of all of them.

    Attributes:
        tried: One for each rate, the best first.
        again: The best once more, in another order of samples, where it was better.
    """

    tried: tuple[Heat, ...] = ()
    again: Heat | None = None

    @property
    def of_best(self) -> list[pairs.Difference]:
        """What the best was in each order of samples."""
        return [heat.found for heat in (*self.tried[:1], self.again) if heat is not None]

    @property
    def won(self) -> bool:
        """Whether it was better again."""
        return self.again is not None and self.again.found.mean < -self.again.found.error


@dataclasses.dataclass(frozen=True)
class Rule:
    """When the gate opens, and what a step is worth then.

    Attributes:
        strategy: By which samples are drawn.
        fixed: What a step takes however many samples it is on, as a share of one on a batch.
        threshold: τ above which it is open; `None` for that above which it pays.
    """

    strategy: Presampled
    fixed: float = 0.0
    threshold: float | None = None

    def least(self, presample: float, forward: float) -> float:
        """τ above which it is open, with so many batches to draw from at that cost."""
        if self.threshold is not None:
            return self.threshold
        return self.strategy.break_even(presample, max(0.0, forward), self.fixed)

    def worth(self, taus: Floats, presample: float, forward: float) -> Floats:
        """Equivalent batch and cost of each step, `(steps, 2)`; 1 and 1 where the gate is shut."""
        least = self.least(presample, forward)
        return np.asarray(
            [
                self.strategy.worth(tau, presample, forward, self.fixed) if tau > least else (1, 1)
                for tau in taus
            ],
            np.float64,
        )

    def speed_up(self, taus: Floats, presample: float, forward: float) -> float:
        """By how much a run is faster whose τ goes that way."""
        equivalent, cost = self.worth(taus, presample, forward).T
        return probabilities.over_a_run(equivalent / cost)

    def lift(self, taus: Floats, presample: float, forward: float) -> float:
        """The mean equivalent batch while the gate is open: how much longer steps may be then."""
        equivalent, _ = self.worth(taus, presample, forward).T
        opened = taus > self.least(presample, forward)
        return float(max(1.0, np.mean(equivalent[opened]))) if opened.any() else 1.0

    def cost(self, taus: Floats, presample: float, forward: float) -> float:
        """The mean cost of a step of such a run, in uniform steps."""
        return float(np.mean(self.worth(taus, presample, forward)[:, 1]))


@dataclasses.dataclass(frozen=True)
class Plan:
    """How it is studied.

    Attributes:
        steps: Of a miniature.
        part: Samples of the training set that it sees.
        timed: Steps of a measurement of time.
        seconds: What all of it takes, about.
    """

    steps: int
    part: int
    timed: int
    seconds: float


def _strategy(studio: Studio, recipe: Recipe) -> Presampled:
    """That which pays most, of those that the step can take."""
    compiled = recipe.compute.xla or bool(studio.trainer.jit_compile)
    whole = compiled or getattr(studio.problem.loss, "reduction", "") == "sum"
    name = "upper_bound" if whole else "best_count"
    return PRESAMPLED[name](
        "independent" if recipe.sampling.draws == "independent" else "systematic"
    )


def _plan(allowance: float, studio: Studio, planned: Planned) -> Plan:
    """The longest miniature that there is time for, twice, with three by a strategy beside them."""
    costs, whole = planned.costs, studio.recipe.compute.batch_size
    size = 2**31 if studio.train.size is None else studio.train.size
    timed = int(np.clip(math.ceil(TIMED_SECONDS / costs.step), LEAST_TIMED, MOST_TIMED))
    passes = 4.0 * MEASURED + PRESAMPLES[-1]  # of scoring, beside eight steps
    fixed = TRACE * costs.compile + timed * costs.step * (8.0 + SCORING * passes)
    fixed += 5.0 * scoring_seconds(studio, planned, SAMPLES)
    steps = int((allowance - fixed) / (5.0 * costs.step))
    steps = int(np.clip(steps, LEAST_STEPS, MOST_STEPS))
    epochs = max(1e-9, min(PASSES, planned.steps * whole / size))
    most = min(size, studio.train.most_in_part)
    part = int(np.clip(math.ceil(steps * whole / epochs), min(LEAST_PART, most), most))
    return Plan(steps, part, timed, fixed + 5.0 * steps * costs.step)


def _costs(
    studio: Studio, opened: Recipe, timed: int, *, fewer: bool
) -> tuple[float, float, float]:
    """Seconds of a step, and as shares of it scoring a batch, and what is not for its samples.

    Args:
        studio: With the gate shut.
        opened: The same with an open gate and whole batches.
        timed: Steps of a measurement.
        fewer: Whether to measure the last; else it is 0.
    """
    few = (opened.give(sampling=FEWEST),) if fewer else ()
    step, seconds, *fewest = _paces(studio, (opened, *few), timed)
    forward = (seconds - step) / (MEASURED * step)
    batch = opened.compute.batch_size
    drawn = max(1, int(LEAST * batch)) / batch
    if not fewest or drawn == 1.0:
        return step, forward, 0.0
    # The samples that were not drawn would have taken what is not fixed.
    fixed = 1.0 - (seconds - fewest[0]) / ((1.0 - drawn) * step)
    return step, forward, float(np.clip(fixed, 0.0, MOST_FIXED))


def _heats(
    trained: Callable[[float | None, int], Miniature], rates: Sequence[float], uniform: Floats
) -> Heats:
    """Tries the strategy at all rates, and the best again if it is better.

    Args:
        trained: A miniature at so many times the rate, or a uniform one, in an order of samples.
        rates: Times the learning rate while the gate is open.
        uniform: Losses of the uniform miniature in the first order.
    """

    def heat(rate: float, order: int, losses: Floats) -> Heat:
        found = trained(rate, order)
        return Heat(pairs.difference(found.losses, losses), rate, found.share)

    tried = sorted((heat(rate, 0, uniform) for rate in rates), key=lambda one: one.found.mean)
    if not tried[0].found.better:
        return Heats(tuple(tried))
    return Heats(tuple(tried), heat(tried[0].rate, 1, trained(None, 1).losses))


def _paces(
    studio: Studio, others: Sequence[Recipe], timed: int, rounds: int = 2
) -> tuple[float, ...]:
    """Seconds of a step as the studio is, and of those by other recipes: the least of each.

    In turn, so that a slow stretch of the machine is not that of one of them.
    """
    found: list[list[float]] = []
    for _ in range(rounds):
        found.append([studio.pace(timed).seconds])
        for recipe in others:
            with studio.at(recipe):
                found[-1].append(studio.pace(timed).seconds)
    return tuple(map(min, zip(*found, strict=True)))


def _why(
    predicted: dict[float, float],
    best: float,
    forward: float,
    taus: Floats,
    heats: Heats,
) -> str:
    """What was found, in words."""
    if forward <= 0.0:
        return "What scoring takes could not be told from the clock's noise: it is not tried."
    told = (
        f"Scoring a batch takes {forward:.2f} of a step, and τ ends at {float(taus[-1]):.2f}: "
        f"drawing from {best:g} batches promises a speed-up of {predicted[best]:.2f}"
    )
    if not heats.tried:
        return f"{told}, below {WORTH:g}."
    best_heat = heats.tried[0]
    sure = best_heat.found.mean / max(best_heat.found.error, 1e-12)
    if heats.won:
        rate = best_heat.rate
        lifted = "" if rate == 1.0 else f" at {rate:.2g} times the rate"
        return (
            f"{told}; in a miniature of the run the loss is lower by {-sure:.1f} standard errors"
            f"{lifted}."
        )
    again = " but not with another order of samples" if heats.again is not None else ""
    return f"{told}, and a miniature of the run shows {sure:+.1f} standard errors of loss{again}."
