"""The batch size: gradient noise scale and measured cost of a step."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from etude.findings import Cost, Finding
from etude.optim import _registry as optimizers
from etude.training import noise_scale
from etude.training.gradient_meter import WINDOW
from etude_metalearners._base import MetaLearner, Planned

if TYPE_CHECKING:
    from etude.recipe import Recipe
    from etude.training.studio import Studio

# Samples of a small gradient, large gradients of WINDOW small ones, and steps before them.
SMALL, ROUNDS, WARM = 32, 12, 20
# Batch sizes tried, and how many steps an epoch must still have.
LEAST, MOST, STEPS_OF_AN_EPOCH = 16, 1024, 20
# Steps at each size, the first untimed.
STEPS = 4
# A change of less than this may be noise.
GAIN = 0.05
# Steps that measuring again takes, where another size is chosen, with an evaluation.
AGAIN_STEPS = 12


class BatchSize(MetaLearner):
    """Learns the batch size with which a fixed loss is reached in the least time.

    The gradient noise scale (McCandlish et al. 2018, appendix A.1) says how many more steps a
    smaller batch takes, 1 + B_noise / N; a measurement says how long a step takes at each N. What
    is chosen is the least product of both, among sizes that have run. The noise scale itself is
    another number and is told beside it.

    It is measured after a few steps of training, where it is smallest: later in a run it grows,
    which the run's own history shows. Gradients are those of training, so with batch
    normalization they belong to batches of 32.
    """

    name: ClassVar[str] = "batch_size"
    reads: ClassVar[tuple[str, ...]] = (
        "compute.accumulate",
        "compute.precision",
        "compute.xla",
        "compute.steps_per_execution",
        "optimization.optimizer",
        "regularization.clip_norm",
        "regularization.decay",
        "regularization.ema_decay",
        "sampling",
    )
    writes: ClassVar[str] = "compute"
    sets: ClassVar[tuple[str, ...]] = ("batch_size",)
    share: ClassVar[float] = 0.55
    # Étude's starts are near the best, around which the predicted time is flat: a size that is
    # off by a factor of two costs some per cent.
    gain: ClassVar[float] = 0.06

    def cost(self, studio: Studio, recipe: Recipe, planned: Planned) -> Cost:
        """The warm trial, the gradients, and steps of twice and half the size that there is."""
        own = recipe.compute.batch_size
        small = _small(recipe)
        per_sample = planned.costs.step / own
        samples = WARM * own + ROUNDS * WINDOW * small + STEPS * sum(neighbours(own))
        samples += AGAIN_STEPS * own
        # A smaller batch costs more per sample; XLA compiles anew for every size.
        seconds = 1.2 * samples * per_sample
        seconds += 2 * planned.costs.compile if recipe.compute.xla else 0.0
        return Cost(seconds, WARM + ROUNDS * WINDOW + STEPS * len(neighbours(own)))

    def obstacle(self, studio: Studio, recipe: Recipe, planned: Planned) -> str | None:
        """As for every meta-learner; also where another batch size would not be better."""
        if not planned.timed:
            return "the run ends by epochs, in which a larger batch only loses steps"
        if recipe.is_given("optimization.learning_rate") or not optimizers.has_free_rate(
            studio.trainer.optimizer
        ):
            return "the learning rate is fixed, and it belongs to the batch size"
        if recipe.compute.accumulate > 1:
            return "the device's memory is short: batches are computed in parts already"
        size = studio.train.size
        if size is not None and size < WINDOW * SMALL:
            return f"{WINDOW * SMALL} samples are needed, and there are {size}"
        if studio.trainer.distributed:
            return "a distribution strategy divides the batches"
        return super().obstacle(studio, recipe, planned)

    def learn(self, studio: Studio, recipe: Recipe, planned: Planned) -> Finding:
        """Measures gradients at weights of a short trial, then climbs to the fastest size."""
        clock = studio.budget.clock
        start = clock()
        own, small = recipe.compute.batch_size, _small(recipe)
        norms = studio.gradient_norms(WARM, ROUNDS, small)
        if len(norms[0]) < 3:
            return self.finding(
                studio,
                recipe,
                changes={},
                why="Its gradients do not stay finite after a few steps: the batch stays.",
                evidence={"batch_sizes": [own], "step_seconds": [planned.costs.step]},
                cost=Cost(clock() - start, WARM + ROUNDS * WINDOW),
            )
        noise = noise_scale.estimate(*norms, small, WINDOW)
        value = math.inf if noise.value is None else noise.value
        seconds = climbed(studio, own, value, start + self.allowance(planned))
        choice = chosen(value, own, seconds)
        return self.finding(
            studio,
            recipe,
            changes={"batch_size": choice.batch},
            why=_why(noise, own, choice),
            evidence={
                "noise_scale": dataclasses.asdict(noise),
                "batch_sizes": list(choice.sizes),
                "step_seconds": list(choice.seconds),
                "relative_time": list(choice.relative),
                "own": own,
                "chosen": choice.batch,
            },
            cost=Cost(clock() - start, WARM + ROUNDS * WINDOW + STEPS * (len(seconds) - 1)),
        )


def _small(recipe: Recipe) -> int:
    """Samples of a small gradient: with XLA another size would be compiled anew."""
    return recipe.compute.batch_size if recipe.compute.xla else SMALL


def neighbours(own: int) -> list[int]:
    """The powers of two next to a size, below and above."""
    below = 2 ** math.ceil(math.log2(max(own, 2)) - 1)
    return [below, 2 ** math.floor(math.log2(own) + 1)]


def climbed(studio: Studio, own: int, noise: float, end: float) -> dict[int, float]:
    """Seconds of a step at the sizes that were tried, in rising order.

    From the size that there is it goes up by factors of two for as long as the predicted time
    falls, and then down from there in the same way: between both ends the best lies.

    Args:
        studio: Where steps are timed.
        own: The size that there is.
        noise: The noise scale.
        end: No size is begun after this time of the studio's clock.
    """
    samples = studio.train.size
    most = MOST if samples is None else min(MOST, samples // STEPS_OF_AN_EPOCH)
    seconds = {own: studio.measured.step}

    def time(size: int) -> float:
        return noise_scale.relative_time(noise, size, seconds[size])

    for up in (True, False):
        size = own
        while True:
            before, size = size, neighbours(size)[up]
            # A step of twice the size takes twice as long at most, as a rule; and what is chosen
            # is measured again.
            expected = STEPS * seconds[before] * (2.0 if up else 1.0)
            late = studio.budget.clock() + expected + AGAIN_STEPS * seconds[before] > end
            if not LEAST <= size <= most or late:
                break
            found = studio.step_seconds(size, STEPS)
            if found is None:
                break
            seconds[size] = found
            if time(size) > 1.02 * min(time(other) for other in seconds if other != size):
                break
    return dict(sorted(seconds.items()))


@dataclasses.dataclass(frozen=True)
class Choice:
    """The batch size chosen, and all that ran.

    Attributes:
        batch: The size.
        sizes: All sizes that ran.
        seconds: Of a step at each.
        relative: Predicted time to a fixed loss at each, over that at the size that there was.
    """

    batch: int
    sizes: tuple[int, ...]
    seconds: tuple[float, ...]
    relative: tuple[float, ...]


def chosen(noise: float, own: int, seconds: Mapping[int, float]) -> Choice:
    """The fastest size, or the one that there is where that is nearly as fast.

    Args:
        noise: The noise scale; may be infinite.
        own: The size that there is, which must be among those that ran.
        seconds: Of a step at each size that ran, in rising order.
    """
    ran = tuple(seconds)
    times = [noise_scale.relative_time(noise, n, seconds[n]) for n in ran]
    relative = tuple(t / times[ran.index(own)] for t in times)
    best = noise_scale.fastest(noise, ran, list(seconds.values()))
    if relative[ran.index(best)] > 1.0 - GAIN:
        best = own
    return Choice(best, ran, tuple(seconds.values()), relative)


def _why(noise: noise_scale.NoiseScale, own: int, choice: Choice) -> str:
    high = "no upper end" if math.isinf(noise.high) else f"{noise.high:,.0f}"
    if noise.value is None:
        told = f"The gradient drowns in its noise: a noise scale above {noise.low:,.0f} samples"
    else:
        told = (
            f"The gradient noise scale is {noise.value:,.0f} samples "
            f"({noise.low:,.0f} to {high}, 95 %)"
        )
    tried = f"of {len(choice.sizes)} sizes from {choice.sizes[0]} to {choice.sizes[-1]}"
    if choice.batch == own:
        return f"{told}; {tried} none reaches a fixed loss over {GAIN:.0%} faster than {own}."
    saved = 1.0 - choice.relative[choice.sizes.index(choice.batch)]
    return f"{told}; {tried} {choice.batch} reaches a fixed loss in {saved:.0%} less time."
