"""Momentum, batch normalization's momentum and weight decay, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from etude.findings import Cost, Finding
from etude.optim import _registry as optimizers
from etude.optim.momentum import numbers
from etude.training import batch_norm
from etude_metalearners import flat, pairs
from etude_metalearners._base import MetaLearner, Planned, scoring_seconds

if TYPE_CHECKING:
    from etude.recipe import Recipe
    from etude.training.studio import Studio

# Steps of each trial, and validation samples that it is scored on.
LEAST_STEPS, MOST_STEPS, SAMPLES = 100, 600, 2048
# Trials that are worth beginning for: what there is, and one step along two axes.
LEAST_TRIALS = 3
# How far a step goes along an axis, as a factor of 1 - ρ, and of the weight decay.
MOMENTUM_STEP, DECAY_STEP = 2.0, 4.0
HIGHEST = 0.999

Values = dict[str, float]
Step = Callable[[Values, float], Values | None]
Floats = npt.NDArray[np.float64]


class Descent(MetaLearner):
    """Learns momentum, batch normalization's momentum and weight decay by coordinate descent.

    The axes run along and across the flat directions (`flat`): momentum along lr / (1 - ρ), with
    the weight decay rescaled so that weights shrink as much a step; lr against weight decay
    along lr · wd; the weight decay across them. Each trial is a short, whole schedule from the
    same weights in the same order of samples. A step along an axis is kept only where the
    validation loss is lower beyond 2.8 standard errors of the paired difference, and gone on
    with; it ends where no axis improves or the time for it is over. What it comes to must be
    better again with another order of samples.
    """

    name: ClassVar[str] = "descent"
    reads: ClassVar[tuple[str, ...]] = (
        "compute",
        "optimization.optimizer",
        "optimization.learning_rate",
        "optimization.schedule",
        "optimization.momentum",
        "optimization.weight_decay",
        "optimization.batch_norm_momentum",
        "regularization",
        "augmentation",
        "sampling",
    )
    writes: ClassVar[str] = "optimization"
    sets: ClassVar[tuple[str, ...]] = (
        "momentum",
        "weight_decay",
        "batch_norm_momentum",
        "learning_rate",
    )
    gain: ClassVar[float] = 0.1

    def cost(self, studio: Studio, recipe: Recipe, planned: Planned) -> Cost:
        """As many trials as there are axes to step along both ways, or as the time lets.

        And half a second heat: there is time for both of its runs, which may not be needed.
        """
        count, steps = self._plan(studio, recipe, planned)
        each = steps * planned.costs.step + scoring_seconds(studio, planned, SAMPLES)
        return Cost((count + 1) * each, (count + 1) * steps)

    def obstacle(self, studio: Studio, recipe: Recipe, planned: Planned) -> str | None:
        """As for every meta-learner; also where nothing can be moved."""
        if recipe.optimization.cycle_momentum:
            return "the schedule moves momentum"
        if recipe.optimization.learning_rate is None:
            return "no learning rate was found to go with"
        if not axes(studio, recipe):
            return "there is no momentum, decay or statistics that is ours to move"
        if studio.score_batches(SAMPLES)[1] < pairs.LEAST:
            return "too few validation samples tell trials apart"
        return super().obstacle(studio, recipe, planned)

    def learn(self, studio: Studio, recipe: Recipe, planned: Planned) -> Finding:
        """Steps along one axis after the other, from the best so far."""
        clock = studio.budget.clock
        start = clock()
        count, steps = self._plan(studio, recipe, planned)
        spent = 0

        def score(tried: Values, order: int = 0) -> Floats:
            nonlocal spent
            with studio.at(recipe.learn(self.name, optimization=tried)):
                trial = studio.trial(
                    steps, score_samples=SAMPLES, order=order, run_steps=planned.steps
                )
            spent += len(trial.losses)
            return trial.scores

        def enough(done: int) -> bool:
            late = False
            if planned.timed:  # what has run says how many more can, and a second heat
                each = (clock() - start) / done
                late = (done + 3) * each > self.allowance(planned)
            return done >= count or late

        there = values(studio, recipe)
        best, trials = descend(there, axes(studio, recipe), score, enough)
        heat = None
        if best != there:
            heat = pairs.difference(score(best, 1), score(there, 1)).mean
        return self.finding(
            studio,
            recipe,
            changes=best if heat is not None and heat < 0.0 else {},
            why=_why(trials, heat),
            evidence={"trials": trials, "steps": steps, "second_heat": heat},
            cost=Cost(clock() - start, spent),
        )

    def _plan(self, studio: Studio, recipe: Recipe, planned: Planned) -> tuple[int, int]:
        """How many trials, of how many steps."""
        most = 1 + 2 * len(axes(studio, recipe))
        for count in range(most, LEAST_TRIALS - 1, -1):
            each = self.allowance(planned) / (count + 2) - scoring_seconds(studio, planned, SAMPLES)
            steps = int(each / planned.costs.step)
            if steps >= LEAST_STEPS:
                return count, min(MOST_STEPS, steps)
        return LEAST_TRIALS, LEAST_STEPS


def descend(
    start: Values,
    axes: Sequence[tuple[str, Step]],
    score: Callable[[Values], Floats],
    enough: Callable[[int], bool],
) -> tuple[Values, list[dict[str, Any]]]:
    """Coordinate descent on paired scores.

    Args:
        start: Where it begins.
        axes: Names, and steps along them.
        score: Losses of the same batches at some values, `(batches,)`.
        enough: Says from the number of trials done whether there may be no more.

    Returns:
        The best values, and all trials in order.
    """
    best, scores = start, score(start)
    trials = [_trial(best, "start", scores, None, True)]
    for axis, step in axes:
        for direction in (1.0, -1.0):
            advanced = False
            while not enough(len(trials)):
                tried = step(best, direction)
                if tried is None:
                    break
                found = score(tried)
                difference = pairs.difference(found, scores)
                trials.append(_trial(tried, axis, found, difference.error, difference.better))
                if not difference.better:
                    break
                best, scores, advanced = tried, found, True
            if advanced:  # the other way is where it came from
                break
    return best, trials


def values(studio: Studio, recipe: Recipe) -> Values:
    """What the descent starts from: the recipe's, the optimizer's or the layers' numbers."""
    settings = recipe.optimization
    found: Values = {"learning_rate": float(settings.learning_rate or 0.0)}
    for name, number in numbers(studio.trainer.optimizer).items():
        if number:
            found[name] = float(number)
    if recipe.regularization.decay != "constant":
        found.pop("weight_decay", None)  # it has no effect
    layers = batch_norm.layers_of(studio.problem.model)
    own = settings.batch_norm_momentum
    # One number for all: where they differ someone has chosen it layer by layer.
    if len({layer.momentum for layer in layers}) == 1 and not studio.trainer.distributed:
        found["batch_norm_momentum"] = float(layers[0].momentum if own is None else own)
    return found


def axes(studio: Studio, recipe: Recipe) -> list[tuple[str, Step]]:
    """The axes that what is given leaves free, each with the step along it.

    A step takes values and a direction, 1 or -1, and gives the values one further, or `None`
    where they would leave their range.
    """
    there = values(studio, recipe)
    averages = optimizers.averages_gradients(studio.trainer.optimizer)
    # An optimizer that the model came with has its owner's numbers.
    own = recipe.optimization.optimizer == optimizers.COMPILED

    def free(*names: str) -> bool:
        return all(name in there and not recipe.is_given(f"optimization.{name}") for name in names)

    def along_momentum(now: Values, direction: float) -> Values | None:
        momentum = 1.0 - (1.0 - now["momentum"]) * MOMENTUM_STEP**-direction
        if not 0.0 < momentum < HIGHEST:
            return None
        rate = flat.rate_at_momentum(
            now["learning_rate"], now["momentum"], momentum, averages=averages
        )
        tried = {**now, "momentum": momentum, "learning_rate": rate}
        return _same_decay(now, tried, rate)

    def along_decay(now: Values, direction: float) -> Values | None:
        return {**now, "weight_decay": now["weight_decay"] * DECAY_STEP**direction}

    def along_rate(now: Values, direction: float) -> Values | None:
        rate = now["learning_rate"] * 2.0**direction
        return _same_decay(now, {**now, "learning_rate": rate}, rate)

    def along_statistics(now: Values, direction: float) -> Values | None:
        momentum = 1.0 - (1.0 - now["batch_norm_momentum"]) * MOMENTUM_STEP ** (2 * -direction)
        return {**now, "batch_norm_momentum": momentum} if 0.0 < momentum < HIGHEST else None

    found: list[tuple[str, Step]] = []
    if free("batch_norm_momentum"):
        found.append(("batch_norm_momentum", along_statistics))
    if own:
        return found
    if free("momentum", "learning_rate"):
        found.append(("momentum", along_momentum))
    if free("weight_decay"):
        found.append(("weight_decay", along_decay))
    if free("weight_decay", "learning_rate"):
        found.append(("learning_rate", along_rate))
    return found


def _same_decay(now: Values, tried: Values, rate: float) -> Values:
    """With the weight decay that shrinks weights as much a step at the new rate."""
    if "weight_decay" not in now:
        return tried
    decay = flat.decay_at_rate(now["weight_decay"], now["learning_rate"], rate)
    return {**tried, "weight_decay": decay}


def _trial(
    tried: Mapping[str, float], axis: str, scores: Floats, error: float | None, kept: bool
) -> dict[str, Any]:
    return {
        "values": dict(tried),
        "axis": axis,
        "score": float(scores.mean()),
        "error": error,
        "kept": kept,
    }


def _why(trials: Sequence[Mapping[str, Any]], heat: float | None) -> str:
    kept = sum(bool(trial["kept"]) for trial in trials) - 1
    told = f"of {len(trials) - 1} steps along momentum, weight decay and statistics"
    if heat is None:
        return f"None {told} is better beyond {pairs.BOUND:g} standard errors."
    if heat >= 0.0:
        return f"What {kept} {told} led to is not better again with another order of samples."
    gained = trials[0]["score"] - min(trial["score"] for trial in trials if trial["kept"])
    return (
        f"{kept} {told} lower the validation loss of a short schedule beyond {pairs.BOUND:g} "
        f"standard errors, by {gained:.3f} together."
    )
