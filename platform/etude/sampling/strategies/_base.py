"""What a strategy of importance sampling is: who is drawn, and how much a draw counts."""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import Any, ClassVar, Literal

import numpy.typing as npt
from keras import ops
from scipy import optimize

from etude.sampling import drawing, probabilities
from etude.sampling.probabilities import DROWNED

Score = Literal["bound", "loss"]
"""What samples are told apart by: the bound of the gradient's norm, or the loss."""

LEAST = 1 / 8
"""Of a batch that is drawn at least."""

HIGHEST = 10.0
"""The logarithm of a τ that none is above."""


@dataclasses.dataclass(frozen=True)
class Numbers:
    """What a strategy may be told while it runs, float32 scalars.

    Attributes:
        exponent: What that is an exponent of, its strategy says.
        uniform: Share of the probabilities that is spread evenly.
        forward: What scoring a batch takes, as a share of a step.
        fixed: What a step takes however many samples it is on, as a share of one on a batch.
    """

    exponent: Any
    uniform: Any
    forward: Any
    fixed: Any


class Presampled(abc.ABC):
    """Draws a batch from a larger one, all of which was just scored.

    Attributes:
        name: In the registry.
        score: What it goes by.
        unbiased: Whether the mean of weighted gradients is the gradient of all samples.
        gated: Whether it is at work only while τ is above a threshold.
        exponent: The default of `Numbers.exponent`.
        presample: The default of k, the size of the larger batch over that of the batch.
        warm_up: The default share of the run before it is at work.
        cool_down: The default share of the run after it was at work.
        low: Whether scores may be taken at a lower resolution.
        resizes: Whether batches have other sizes than the recipe's.
        able: How it may draw.

    Args:
        draws: How it draws, of those that it may; the first of them is the default.
    """

    name: ClassVar[str]
    score: ClassVar[Score]
    unbiased: ClassVar[bool]
    gated: ClassVar[bool]
    able: ClassVar[tuple[drawing.Draws, ...]] = ("systematic", "independent")
    exponent: ClassVar[float] = 1.0
    presample: ClassVar[float] = 3.0
    warm_up: ClassVar[float] = 0.0
    cool_down: ClassVar[float] = 0.0
    low: ClassVar[bool] = False
    resizes: ClassVar[bool] = False

    def __init__(self, draws: drawing.Draws = "systematic") -> None:
        self.draws: drawing.Draws = draws

    def probabilities(self, scores: Any, numbers: Numbers) -> Any:
        """The chance of each sample to be the next that is drawn, `(samples,)` float32.

        Args:
            scores: `(samples,)`, not negative.
            numbers: What it was told.
        """
        return probabilities.mixed(probabilities.proportional(scores), numbers.uniform)

    def share(self, tau: Any, presample: Any, forward: Any, fixed: Any) -> Any:
        """How many are drawn over how many a uniform batch has, where it resizes; unbounded.

        Args:
            tau: √(B Σ p²), a number or a tensor like all others.
            presample: k.
            forward: As of `Numbers`.
            fixed: As of `Numbers`.
        """
        return 1.0

    def count(self, chances: Any, batch: Any, numbers: Numbers) -> Any:
        """How many are drawn, an int32 scalar: at least an eighth of a batch, at most all of it.

        Args:
            chances: From `probabilities`.
            batch: How many a uniform batch has.
            numbers: What it was told.
        """
        if not self.resizes:
            return ops.cast(batch, "int32")
        size = ops.cast(batch, "float32")
        presample = ops.cast(ops.size(chances), "float32") / size
        tau = probabilities.tau(chances)
        wanted = size * self.share(tau, presample, numbers.forward, numbers.fixed)
        least = ops.maximum(1.0, ops.floor(LEAST * size))
        return ops.cast(ops.clip(ops.ceil(wanted - 1e-3), least, size), "int32")

    def worth(
        self,
        tau: float,
        presample: float,
        forward: float,
        fixed: float = 0.0,
        noise: float = DROWNED,
    ) -> tuple[float, float]:
        """How many uniform steps one with the gate open is worth, and how many it costs.

        Args:
            tau: √(B Σ p²); one below 1 counts for 1.
            presample: k.
            forward: As of `Numbers`.
            fixed: As of `Numbers`.
            noise: The gradient noise scale over the batch.
        """
        tau = max(1.0, tau)
        share = min(1.0, max(LEAST, self.share(tau, presample, forward, fixed)))
        equivalent = probabilities.equivalent_batch(tau, presample, self.draws, share)
        cost = probabilities.cost(presample, forward, share, fixed)
        return probabilities.progress(equivalent, noise), cost

    def break_even(
        self,
        presample: float,
        forward: float,
        fixed: float = 0.0,
        noise: float = DROWNED,
    ) -> float:
        """The τ above which it saves time; infinite where no τ does.

        Args:
            presample: k.
            forward: As of `Numbers`.
            fixed: As of `Numbers`.
            noise: The gradient noise scale over the batch.
        """

        def gain(exponent: float) -> float:
            worth, cost = self.worth(math.exp(exponent), presample, forward, fixed, noise)
            return math.log(worth / cost)

        if gain(HIGHEST) <= 0.0:
            return math.inf
        # Where scoring costs next to nothing, any τ pays.
        return 1.0 if gain(0.0) >= 0.0 else math.exp(optimize.brentq(gain, 0.0, HIGHEST))

    def drawn(self, chances: Any, count: Any, uniform: Any) -> Any:
        """Which samples are drawn, `(count,)` int32.

        Args:
            chances: From `probabilities`.
            count: From `count`.
            uniform: `(samples,)` numbers in [0, 1).
        """
        if self.draws == "systematic":
            return drawing.systematic(chances, count, uniform[0])
        return drawing.with_replacement(chances, uniform[:count])

    def weights(self, chances: Any, drawn: Any, numbers: Numbers) -> Any:
        """How much each drawn sample counts, `(count,)` float32."""
        return probabilities.weights(chances, drawn)


class Selecting(Presampled):
    """Keeps some samples of a larger batch, each at most once, all of the same weight."""

    score: ClassVar[Score] = "loss"
    unbiased = False
    gated = False
    able = ()
    presample = 2.0

    def drawn(self, chances: Any, count: Any, uniform: Any) -> Any:
        """As `Presampled.drawn`, without replacement."""
        return drawing.without_replacement(chances, count, uniform)

    def weights(self, chances: Any, drawn: Any, numbers: Numbers) -> Any:
        """Ones."""
        return ops.ones_like(ops.cast(drawn, "float32"))


def powers(ranks: Any, numbers: Numbers) -> Any:
    """Probabilities in proportion to ranks to the power of the exponent."""
    raised = ops.power(ranks, numbers.exponent)
    return probabilities.mixed(raised / ops.sum(raised), numbers.uniform)


Tables = dict[str, Any]
"""What is remembered of every sample: tensors by their names, float32."""


class Remembering(abc.ABC):
    """Draws samples of the whole set by what it remembers of them, without a scoring pass.

    What it remembers is as old as a sample's last visit, and of an image as it was drawn then.

    Attributes:
        name: In the registry.
        score: What it goes by.
        unbiased: Whether the mean of weighted gradients is the gradient of all samples.
        exponent: The default of `Numbers.exponent`.
        uniform: The default of `Numbers.uniform`.
    """

    name: ClassVar[str]
    score: ClassVar[Score]
    unbiased: ClassVar[bool]
    gated: ClassVar[bool] = False
    exponent: ClassVar[float] = 1.0
    uniform: ClassVar[float] = 0.0
    warm_up: ClassVar[float] = 0.0
    cool_down: ClassVar[float] = 0.0

    @abc.abstractmethod
    def start(self, size: int, classes: npt.NDArray[Any] | None) -> dict[str, npt.NDArray[Any]]:
        """The tables before the first step.

        Args:
            size: Of the set.
            classes: `(size,)` int, the class of each sample, where each has one.
        """

    @abc.abstractmethod
    def probabilities(self, tables: Tables, numbers: Numbers, share: Any) -> Any:
        """The chance of each sample to be drawn next, `(size,)` float32.

        Args:
            tables: As they are.
            numbers: What it was told.
            share: Of the run that is over.
        """

    @abc.abstractmethod
    def updated(
        self, tables: Tables, drawn: Any, scores: Any, chances: Any, numbers: Numbers
    ) -> Tables:
        """The tables after a step.

        Args:
            tables: As they were.
            drawn: `(batch,)` int32, which samples the step was on; some maybe more than once.
            scores: `(batch,)` float32, of these.
            chances: `(size,)`, from `probabilities`.
            numbers: What it was told.
        """

    def weights(self, chances: Any, drawn: Any, numbers: Numbers, share: Any) -> Any:
        """How much each drawn sample counts, `(batch,)` float32."""
        return probabilities.weights(chances, drawn)


def latest(table: Any, drawn: Any, values: Any) -> Any:
    """A table with the values of drawn samples; of one that occurs often, one of its values."""
    return ops.scatter_update(table, ops.expand_dims(drawn, -1), values)


def counts(size: Any, drawn: Any) -> Any:
    """How often each sample occurs among the drawn, `(size,)` float32."""
    ones = ops.ones_like(ops.cast(drawn, "float32"))
    return ops.segment_sum(ones, ops.cast(drawn, "int32"), size)
