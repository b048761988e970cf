"""Importance sampling: does it save time here, and from how many samples should be drawn?"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from etude.findings import Cost, Finding
from etude.sampling import probabilities
from etude.sampling.strategies import LEAST, PRESAMPLED, Presampled
from etude_metalearners import heats
from etude_metalearners._base import MetaLearner, Planned, scoring_seconds

if TYPE_CHECKING:
    from etude.recipe import Recipe
    from etude.training.studio import Studio

Floats = npt.NDArray[np.float64]

# How many times as large as a batch that is which samples are drawn from: those that are weighed.
PRESAMPLES = (2.0, 3.0, 4.0, 5.0, 6.0)
# That at which the cost of scoring is measured first.
MEASURED = 3.0
# Steps that are timed with and without scoring: as many as take so many seconds, within bounds.
TIMED_SECONDS, LEAST_TIMED, MOST_TIMED = 0.15, 10, 200
# Steps of a miniature of the run, and passes over the part of the data that it sees, at most.
LEAST_STEPS, MOST_STEPS, PASSES, LEAST_PART = 80, 320, 30.0, 256
# How often τ is looked at while a miniature is watched, and of how many training samples each time.
LOOKS, LOOKED = 8, 128
# Seconds that a batch of them takes beside its forward pass, as nothing of it is compiled: without
# augmentation and with it; and those in which transforms are compiled for batches of that size.
CALL_SECONDS, AUGMENTED_SECONDS, TRANSFORMS_SECONDS = 0.05, 0.1, 2.0
# What all of it may take of the training, where it is not known yet what it promises.
HOPED = 0.1
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
# What scoring a batch takes of a step: for a plan of the study, and at the very least.
SCORING, LEAST_SCORING = 0.6, 0.15


class Sampling(MetaLearner):
    """Learns whether drawing samples by the upper bound of their gradients saves time.

    First it only watches. τ and the gradient's noise scale are looked at over a miniature of the
    run: a whole schedule, as many passes as the run makes, over a part of the training set that is
    as small as it is short, so that its end tells of the run's end, where samples differ most. For
    each k the speed-up follows from what a step on the equivalent batch M of k and τ brings on,
    over its cost, which is the gate's rule too: it opens where that is above 1. Where a batch hears
    the gradient above its noise, M batches bring on less than M. For most problems that says that
    nothing would pay even if scoring cost next to nothing, and no more time is spent on it.

    Else what a forward pass costs is measured, not taken for a third: a step with the gate open
    against one with it shut, in the same trace; and what of a step is not for its samples, by one
    on an eighth of them. This, and each trial, is begun only if it takes less than what the
    promised speed-up would save.

    The strategy is `best_count`, which draws as many samples as give the largest M for the cost;
    or the plain upper bound, a whole batch, where XLA or a loss that is summed wants that.

    If the best k promises 5 % or more, the same miniature is run with it, in as much fewer steps as
    cost the same, at its rate and, while the gate is open, at as many times that as a step is
    worth: what has less variance bears longer ones. The better of both is adopted where the
    validation loss of single samples is lower beyond 2.8 standard errors, and by one again with
    another order of samples.
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
        "semisupervised",
        "sampling.class_weight",
        "sampling.strategy",
        "sampling.presample",
        "sampling.threshold",
        "sampling.forward",
        "sampling.fixed",
        "sampling.noise",
        "sampling.rate",
        "sampling.draws",
    )
    writes: ClassVar[str] = "sampling"
    sets: ClassVar[tuple[str, ...]] = (
        "strategy",
        "presample",
        "forward",
        "fixed",
        "noise",
        "rate",
    )
    gain: ClassVar[float] = 0.02

    def cost(self, studio: Studio, recipe: Recipe, planned: Planned) -> Cost:
        """Of watching, which is all of it for most problems."""
        plan = _plan(studio, planned)
        return Cost(plan.watching, plan.steps)

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
        """Watches τ, measures costs, predicts, and tries what promises most."""
        clock = studio.budget.clock
        start = clock()
        plan = _plan(studio, planned)
        options: dict[str, Any] = {
            "batch": recipe.compute.batch_size, "part": plan.part, "samples": SAMPLES
        }  # fmt: skip
        own = recipe.sampling
        strategy = _strategy(studio, recipe)
        shut, opened = (
            recipe.give(
                sampling={
                    "strategy": strategy.name, "presample": MEASURED, "threshold": limit,
                    "warm_up": 0.0, "cool_down": 0.0, **WHOLE,
                }
            )
            for limit in (NEVER, -1.0)
        )  # fmt: skip
        sizes: tuple[float, ...] = PRESAMPLES
        if own.presample is not None and recipe.is_given("sampling.presample"):
            sizes = (own.presample,)
        shares: dict[float | None, float] = {}

        def promising(taus: Floats, noise: float | None) -> bool:
            """Whether trials may follow, which are held against the losses of what was watched."""
            rule = _hoped(strategy, recipe, noise)
            return rule.speed_up(taus, rule.best(taus, sizes)) >= WORTH

        watched = studio.watch(
            recipe, plan.steps, order=0, looks=LOOKS, looked=LOOKED, wanted=promising, **options
        )
        rule = _hoped(strategy, recipe, watched.noise)
        steps, best, tried, timed = plan.steps, rule.best(watched.taus, sizes), heats.Heats(), False

        def obstacle(seconds: float) -> str:
            """Why nothing is tried, if what is left of the study takes so long."""
            promised = rule.speed_up(watched.taus, best)
            if rule.forward <= 0.0 or promised < WORTH:
                return f"below {WORTH:g}"
            saved = planned.seconds * (1.0 - 1.0 / promised)
            left = min(saved, self.share * planned.allowance - (clock() - start))
            if seconds <= left:
                return ""
            of = "it would save" if saved == left else "are left for it"
            return f"but to try that would take {seconds:.1f} s, and {max(0.0, left):.1f} s {of}"

        def values() -> dict[str, Any]:
            return {
                "strategy": strategy.name,
                "presample": best,
                "forward": max(rule.forward, 1e-6),
                "fixed": rule.fixed,
                "noise": None if rule.noise == probabilities.DROWNED else rule.noise,
            }

        why = obstacle(plan.timing + plan.trying)
        if not why:
            with studio.at(shut):
                timed = True
                rule, more = _timed(studio, recipe, opened, rule, watched.taus, sizes, plan.timed)
                steps, best = steps + more, rule.best(watched.taus, sizes)
                why = obstacle(plan.trying)
                if not why:
                    fewer = max(1, round(plan.steps / rule.cost(watched.taus, best)))

                    def trained(rate: float | None, order: int) -> Floats:
                        """At equal cost: by the strategy at times the rate, or uniformly."""
                        chosen, count = shut, plan.steps
                        if rate is not None:
                            chosen = recipe.learn(self.name, sampling=values() | {"rate": rate})
                            count = fewer
                        found = studio.miniature(chosen, count, order=order, **options)
                        shares.setdefault(rate, found.share)
                        return found.losses

                    rates: tuple[float, ...] = (1.0, rule.lift(watched.taus, best))
                    if recipe.is_given("sampling.rate"):
                        rates = (own.rate,)
                    tried = heats.run(trained, rates, None, watched.losses)
                    steps += len(rates) * fewer
                    steps += 0 if tried.again is None else plan.steps + fewer
        return self.finding(
            studio,
            recipe,
            changes=values() | {"rate": tried.tried[0].of} if tried.won else {},
            why=_why(rule, watched.taus, best, tried, why, timed=timed),
            evidence={
                "taus": np.round(watched.taus, 4).tolist(),
                "steps": watched.steps.tolist(),
                "noise": watched.noise,
                "strategy": strategy.name,
                "timed": timed,
                "forward": rule.forward,
                "fixed": rule.fixed,
                "speed_ups": {str(k): rule.speed_up(watched.taus, k) for k in sizes},
                "presample": best,
                "threshold": rule.least(best),
                "open_share": shares[tried.tried[0].of] if tried.tried else 0.0,
                "rates": {str(h.of): [h.found.mean, h.found.error] for h in tried.tried},
                "heats": [[found.mean, found.error] for found in tried.of_best],
                "pareto": probabilities.pareto_speed_up(best, 1.16, rule.forward),
                "plan": dataclasses.asdict(plan),
            },
            cost=Cost(clock() - start, steps),
        )


@dataclasses.dataclass(frozen=True)
class Rule:
    """When the gate opens, and what a step is worth then.

    Attributes:
        strategy: By which samples are drawn.
        forward: What scoring a batch takes, as a share of a step; where it could not be told from
            the clock's noise at most 0, and counts for 0.
        fixed: What a step takes however many samples it is on, as a share of one on a batch.
        noise: The gradient noise scale over the batch.
        threshold: τ above which it is open; `None` for that above which it pays.
    """

    strategy: Presampled
    forward: float
    fixed: float = 0.0
    noise: float = probabilities.DROWNED
    threshold: float | None = None

    def least(self, presample: float) -> float:
        """τ above which it is open, with so many batches to draw from."""
        if self.threshold is not None:
            return self.threshold
        return self.strategy.break_even(presample, *self._costs())

    def worth(self, taus: Floats, presample: float) -> Floats:
        """How many uniform steps each is worth, and how many it costs, `(steps, 2)`.

        1 and 1 where the gate is shut.
        """
        least, costs = self.least(presample), self._costs()
        return np.asarray(
            [
                self.strategy.worth(tau, presample, *costs) if tau > least else (1.0, 1.0)
                for tau in taus
            ],
            np.float64,
        )

    def speed_up(self, taus: Floats, presample: float) -> float:
        """By how much a run is faster whose τ goes that way."""
        worth, cost = self.worth(taus, presample).T
        return probabilities.over_a_run(worth / cost)

    def best(self, taus: Floats, sizes: Sequence[float]) -> float:
        """The k, of those, that makes such a run the fastest."""
        return max(sizes, key=lambda presample: self.speed_up(taus, presample))

    def lift(self, taus: Floats, presample: float) -> float:
        """What steps are worth while the gate is open, on average: how much longer they may be."""
        worth, _ = self.worth(taus, presample).T
        opened = taus > self.least(presample)
        return float(max(1.0, np.mean(worth[opened]))) if opened.any() else 1.0

    def cost(self, taus: Floats, presample: float) -> float:
        """The mean cost of a step of such a run, in uniform steps."""
        return float(np.mean(self.worth(taus, presample)[:, 1]))

    def _costs(self) -> tuple[float, float, float]:
        return max(0.0, self.forward), self.fixed, self.noise


@dataclasses.dataclass(frozen=True)
class Plan:
    """How it is studied.

    Attributes:
        steps: Of a miniature.
        part: Samples of the training set that it sees.
        timed: Steps of a measurement of time.
        watching: Seconds that watching takes, about.
        timing: The same of scoring what was watched, and of tracing and timing steps that choose
            samples.
        trying: The same of four more miniatures.
    """

    steps: int
    part: int
    timed: int
    watching: float
    timing: float
    trying: float


def _strategy(studio: Studio, recipe: Recipe) -> Presampled:
    """That which pays most, of those that the step can take."""
    compiled = recipe.compute.xla or bool(studio.trainer.jit_compile)
    whole = compiled or getattr(studio.problem.loss, "reduction", "") == "sum"
    name = "upper_bound" if whole else "best_count"
    return PRESAMPLED[name](
        "independent" if recipe.sampling.draws == "independent" else "systematic"
    )


def _plan(studio: Studio, planned: Planned) -> Plan:
    """The longest miniature that there is time for, twice, with three by a strategy beside them."""
    costs, whole = planned.costs, studio.recipe.compute.batch_size
    size = 2**31 if studio.train.size is None else studio.train.size
    allowance = min(planned.allowance, HOPED * planned.seconds)
    timed = int(np.clip(math.ceil(TIMED_SECONDS / costs.step), LEAST_TIMED, MOST_TIMED))
    passes = 4.0 * MEASURED + PRESAMPLES[-1]  # of scoring, beside eight steps
    scoring = scoring_seconds(studio, planned, SAMPLES)
    timing = scoring + TRACE * costs.compile + timed * costs.step * (8.0 + SCORING * passes)
    looking = _looking_seconds(studio, planned)
    steps = int((allowance - timing - looking - 4.0 * scoring) / (5.0 * costs.step))
    steps = int(np.clip(steps, LEAST_STEPS, MOST_STEPS))
    epochs = max(1e-9, min(PASSES, planned.steps * whole / size))
    most = min(size, studio.train.most_in_part)
    part = int(np.clip(math.ceil(steps * whole / epochs), min(LEAST_PART, most), most))
    one = steps * costs.step
    return Plan(steps, part, timed, looking + one, timing, 4.0 * (one + scoring))


def _looking_seconds(studio: Studio, planned: Planned) -> float:
    """What all looks at τ take, about."""
    size, recipe = studio.evaluation_batch, studio.recipe
    augments = recipe.augmentation.policy.draws_anything
    each = AUGMENTED_SECONDS if augments else CALL_SECONDS
    each += SCORING * size / recipe.compute.batch_size * planned.costs.step
    return LOOKS * math.ceil(LOOKED / size) * each + (TRANSFORMS_SECONDS if augments else 0.0)


def _hoped(strategy: Presampled, recipe: Recipe, noise: float | None) -> Rule:
    """The rule if steps cost as little as they may, but for what is known."""
    own = recipe.sampling
    forward = own.forward if recipe.is_given("sampling.forward") else None
    noise = own.noise if recipe.is_given("sampling.noise") else noise
    return Rule(
        strategy,
        LEAST_SCORING if forward is None else forward,
        own.fixed if strategy.resizes else 0.0,
        probabilities.DROWNED if noise is None else noise,
        own.threshold,
    )


def _timed(
    studio: Studio,
    recipe: Recipe,
    opened: Recipe,
    rule: Rule,
    taus: Floats,
    sizes: Sequence[float],
    timed: int,
) -> tuple[Rule, int]:
    """The rule by what steps cost here, of what is not given, and how many were timed."""
    resizes = rule.strategy.resizes and not recipe.is_given("sampling.fixed")
    free = not recipe.is_given("sampling.forward")
    if not (resizes or free):
        return rule, 0
    forward, fixed = _costs(studio, opened, timed, fewer=resizes)
    steps = (6 if resizes else 4) * timed
    rule = dataclasses.replace(
        rule,
        forward=forward if free else rule.forward,
        fixed=fixed if resizes else rule.fixed,
    )
    best = rule.best(taus, sizes)
    if free and rule.forward > 0.0 and rule.speed_up(taus, best) >= WORTH:
        # What is to be adopted is timed itself, and the dearer of both counts.
        at_best = opened.give(sampling={"presample": best})
        plain, seconds = _paces(studio, (at_best,), timed, rounds=1)
        again = (seconds - plain) / (best * plain)
        rule = dataclasses.replace(rule, forward=max(rule.forward, again))
        steps += 2 * timed
    return rule, steps


def _costs(studio: Studio, opened: Recipe, timed: int, *, fewer: bool) -> tuple[float, float]:
    """As shares of a step, scoring a batch and what is not for its samples.

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
        return forward, 0.0
    # The samples that were not drawn would have taken what is not fixed.
    fixed = 1.0 - (seconds - fewest[0]) / ((1.0 - drawn) * step)
    return forward, float(np.clip(fixed, 0.0, MOST_FIXED))


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
    rule: Rule, taus: Floats, best: float, tried: heats.Heats, obstacle: str, *, timed: bool
) -> str:
    """What was found, in words."""
    if rule.forward <= 0.0:
        return "What scoring takes could not be told from the clock's noise: it is not tried."
    heard = f" The noise scale is {rule.noise:.1f} batches."
    heard = "" if rule.noise == probabilities.DROWNED else heard
    cost = "Scoring a batch takes" if timed else "If scoring a batch took only"
    told = (
        f"τ ends at {float(taus[-1]):.2f}.{heard} {cost} {rule.forward:.2f} of a step"
        f"{': drawing' if timed else ', drawing'} from {best:g} batches "
        f"{'promises' if timed else 'would promise'} a speed-up of {rule.speed_up(taus, best):.2f}"
    )
    if not tried.tried:
        return f"{told}, {obstacle}."
    if tried.won:
        rate = tried.tried[0].of
        lifted = "" if rate == 1.0 else f" at {rate:.2g} times the rate"
        return (
            f"{told}; in a miniature of the run the loss is lower by {-tried.sure:.1f} standard "
            f"errors{lifted}."
        )
    again = " but not with another order of samples" if tried.again is not None else ""
    shown = f"a miniature of the run shows {tried.sure:+.1f} standard errors of loss"
    return f"{told}, and {shown}{again}."
