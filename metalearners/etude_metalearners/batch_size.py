"""The batch size: gradient noise scale and measured cost of a step."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import TYPE_CHECKING, ClassVar

from etude.findings import Cost, Finding
from etude.optim import _registry as optimizers
from etude_metalearners import noise_scale
from etude_metalearners._base import MetaLearner, Planned

if TYPE_CHECKING:
    from etude.recipe import Recipe
    from etude.training.studio import Studio

# Samples of a small gradient, small gradients in a large one, large ones, steps before them.
SMALL, PARTS, ROUNDS, WARM = 32, 8, 12, 20
# Batch sizes tried, and how many steps an epoch must still have.
LEAST, MOST, STEPS_OF_AN_EPOCH = 16, 1024, 20
# How often each is run: once untimed, twice timed.
RUNS = 3
# A change of less than this costs more (a new trace) than it gains, and may be noise.
GAIN = 0.05
# A trace of forward and backward pass, as a share of all that compiling takes.
TRACE = 0.7


class BatchSize(MetaLearner):
    """Learns the batch size with which a fixed loss is reached in the least time.

    The gradient noise scale (McCandlish et al. 2018, appendix A.1) says how many more steps a
    smaller batch takes, 1 + B_noise / N; a measurement says how long a step takes at each N. What
    is chosen is the least product of both, among sizes that have run. The noise scale itself is
    another number and is told beside it.

    It is measured after a few steps of training, where it is smallest: later in a run it grows.
    Gradients are those of training, so with batch normalization they belong to batches of 32.
    """

    name: ClassVar[str] = "batch_size"
    reads: ClassVar[tuple[str, ...]] = (
        "compute.accumulate",
        "compute.xla",
        "optimization.optimizer",
        "optimization.momentum",
        "optimization.weight_decay",
        "regularization",
        "sampling",
    )
    writes: ClassVar[str] = "compute"
    sets: ClassVar[tuple[str, ...]] = ("batch_size",)
    share: ClassVar[float] = 0.6

    def cost(self, studio: Studio, recipe: Recipe, planned: Planned) -> Cost:
        """The warm trial, a trace, and the samples of all gradients."""
        costs = studio.measured
        samples = ROUNDS * PARTS * SMALL + RUNS * sum(sizes(studio, recipe))
        seconds = (
            TRACE * costs.compile
            + WARM * costs.step
            + samples * costs.step / recipe.compute.batch_size
        )
        return Cost(seconds, WARM)

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
        if size is not None and size < PARTS * SMALL:
            return f"{PARTS * SMALL} samples are needed, and there are {size}"
        if studio.trainer.distributed:
            return "a distribution strategy divides the batches"
        why = super().obstacle(studio, recipe, planned)
        if why is None:  # a new size is traced and measured anew
            seconds = self.cost(studio, recipe, planned).seconds + studio.measured.compile
            if seconds > self.share * planned.allowance:
                why = (
                    f"it would take {seconds:.1f} s with the compilation for a new size, and "
                    f"{max(0.0, self.share * planned.allowance):.1f} s are left for it"
                )
        return why

    def learn(self, studio: Studio, recipe: Recipe, planned: Planned) -> Finding:
        """Measures gradients and times at weights of a short trial, then chooses."""
        clock = studio.budget.clock
        start = clock()
        predicted = self.cost(studio, recipe, planned)
        own = recipe.compute.batch_size
        with studio.warmed_up(WARM, SMALL) as probe:
            small, large = probe.norms(PARTS, ROUNDS)
            seconds = probe.seconds(sizes(studio, recipe), RUNS - 1, limit=2.0 * predicted.seconds)
        noise = noise_scale.estimate(small, large, SMALL, PARTS)
        choice = _choose(noise, own, seconds, studio.measured.step)
        return Finding(
            learner=self.name,
            reads=self.reads,
            writes=self.writes,
            changes={} if choice.batch == own else {"batch_size": choice.batch},
            why=_why(noise, own, choice),
            evidence={
                "noise_scale": dataclasses.asdict(noise),
                "batch_sizes": list(choice.sizes),
                "step_seconds": list(choice.seconds),
                "relative_time": list(choice.relative),
            },
            predicted=predicted,
            true=Cost(clock() - start, WARM),
            key=self.key(studio, recipe),
        )


def sizes(studio: Studio, recipe: Recipe) -> list[int]:
    """The batch sizes to try: powers of two, and the one that there is."""
    samples = studio.train.size
    most = MOST if samples is None else min(MOST, samples // STEPS_OF_AN_EPOCH)
    powers = [2**power for power in range(LEAST.bit_length() - 1, MOST.bit_length())]
    return sorted({recipe.compute.batch_size, *(size for size in powers if size <= most)})


@dataclasses.dataclass(frozen=True)
class _Choice:
    """The batch size chosen, and all that ran.

    Attributes:
        batch: The size.
        sizes: All sizes that ran.
        seconds: Of a step at each.
        relative: Predicted time to a fixed loss at each, over that at the recipe's own size.
    """

    batch: int
    sizes: tuple[int, ...]
    seconds: tuple[float, ...]
    relative: tuple[float, ...]


def _choose(
    noise: noise_scale.NoiseScale, own: int, gradients: dict[int, float], step: float
) -> _Choice:
    """The fastest size, or the recipe's own where that is nearly as fast or did not run."""
    if own not in gradients:
        return _Choice(own, tuple(gradients), tuple(gradients.values()), ())
    value = math.inf if noise.value is None else noise.value
    update = max(0.0, step - gradients[own])  # the same at every size
    ran = tuple(gradients)
    # What falls with the size is noise of the clock.
    rising = itertools.accumulate((gradients[size] + update for size in ran), max)
    seconds = tuple(rising)
    times = [noise_scale.relative_time(value, n, t) for n, t in zip(ran, seconds, strict=True)]
    relative = tuple(t / times[ran.index(own)] for t in times)
    best = noise_scale.fastest(value, ran, seconds)
    if relative[ran.index(best)] > 1.0 - GAIN:
        best = own
    return _Choice(best, ran, seconds, relative)


def _why(noise: noise_scale.NoiseScale, own: int, choice: _Choice) -> str:
    high = "no upper end" if math.isinf(noise.high) else f"{noise.high:,.0f}"
    if noise.value is None:
        told = f"The gradient drowns in its noise: a noise scale above {noise.low:,.0f} samples"
    else:
        told = (
            f"The gradient noise scale is {noise.value:,.0f} samples "
            f"({noise.low:,.0f} to {high}, 95 %)"
        )
    if not choice.relative:
        return f"{told}; the batch of {own} could not be run beside others and stays."
    tried = f"of {len(choice.sizes)} sizes from {choice.sizes[0]} to {choice.sizes[-1]}"
    if choice.batch == own:
        return f"{told}; {tried} none reaches a fixed loss over {GAIN:.0%} faster than {own}."
    saved = 1.0 - choice.relative[choice.sizes.index(choice.batch)]
    return f"{told}; {tried} {choice.batch} reaches a fixed loss in {saved:.0%} less time."
