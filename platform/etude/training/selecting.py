"""Importance sampling within the step: when it is at work, whom it draws, what it saw."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from etude.data.resident import batch_size, in_rows, with_beside
from etude.errors import ModelError, RecipeError
from etude.inspection import outputs
from etude.inspection.compiled import family_of
from etude.recipe import Sampling
from etude.sampling import probabilities, scores
from etude.sampling.strategies import STRATEGIES, Numbers, Presampled, Remembering
from etude.tasks._base import Task
from etude.tasks.semantic_segmentation import SemanticSegmentation
from etude.training import _keras_compat, low_resolution
from etude.training.step import Batch
from etude.training.values import host

Floats = npt.NDArray[np.float64]

# What a moving mean keeps of τ in a step (the paper's a_τ).
DECAY = 0.9
# What scoring a batch takes of a step, where nobody has measured it.
FORWARD = 1.0 / 3.0
LARGEST = float(np.finfo(np.float32).max)
# Steps of which τ and the gate are kept.
CAPACITY = 4096


class Selector:
    """Decides which samples a step is on.

    Args:
        settings: Of the recipe; its strategy is not the uniform one.
        seed: Of the draws.

    Attributes:
        strategy: Who decides.
        mean, square: Moving means of scores and of their squares, from uniform samples.
        looked: Steps so far that they are of.
        threshold: τ above which a gated strategy is at work.
        forward: What scoring a batch takes, as a share of a step.
        total, steps, open_steps: Sum of the losses of what steps were on, how many there were, and
            with the strategy at work, of the present epoch.
        taus, opened: τ and whether the strategy was at work in the latest steps, by step %
            `CAPACITY`.
        small: The model that scores smaller images, and their sides; `None` where they are scored
            as they are.
        tables: What a remembering strategy remembers.
        drawn: How often each sample was drawn while the strategy was at work, where samples have
            an identity.
    """

    def __init__(self, settings: Sampling, seed: int) -> None:
        self.settings = settings
        self.strategy = _strategy(settings)
        self.seeds = keras.random.SeedGenerator((seed + 1) % 2**32)
        self.mean = _variable(0.0, "mean_score")
        self.square = _variable(0.0, "square_score")
        self.looked = _variable(0.0, "looked")
        self.threshold = _variable(0.0, "threshold")
        self.forward = _variable(FORWARD, "forward")
        self.fixed = _variable(0.0, "fixed")
        self.rate = _variable(1.0, "rate")
        self.lift = _variable(1.0, "lift")
        self.exponent = _variable(1.0, "exponent")
        self.uniform = _variable(0.0, "uniform")
        self.warm_up = _variable(0.0, "warm_up")
        self.cool_down = _variable(0.0, "cool_down")
        self.taus = _variable(np.zeros(CAPACITY, np.float32), "taus")
        self.opened = _variable(np.zeros(CAPACITY, np.float32), "opened")
        self.total = _variable(0.0, "sampled_loss")
        self.steps = _variable(0.0, "sampled_steps")
        self.open_steps = _variable(0.0, "open_steps")
        self.small: tuple[Any, tuple[int, int]] | None = None
        self.tables: dict[str, Any] = {}
        self.drawn: Any = None
        self.of = ""
        self.take_over(settings)

    @property
    def presamples(self) -> bool:
        """Whether it draws from a larger batch, and not by what it remembers."""
        return isinstance(self.strategy, Presampled)

    @property
    def goes_by_the_run(self) -> bool:
        """Whether a share of the run is uniform."""
        return float(self.warm_up) > 0.0 or float(self.cool_down) > 0.0

    @property
    def variables(self) -> list[Any]:
        """Its state, in a fixed order."""
        own = [v for v in vars(self).values() if isinstance(v, keras.Variable)]
        return [self.seeds.state, *own, *self.tables.values()]

    def take_over(self, settings: Sampling) -> None:
        """Goes on by other numbers of the same strategy."""
        self.settings = settings
        strategy = self.strategy
        own = settings.exponent
        self.exponent.assign(strategy.exponent if own is None else own)
        uniform = getattr(strategy, "uniform", 0.0)
        self.uniform.assign(uniform if settings.smoothing is None else settings.smoothing)
        for name in ("warm_up", "cool_down"):
            value = getattr(settings, name)
            getattr(self, name).assign(getattr(strategy, name) if value is None else value)
        forward = FORWARD if settings.forward is None else settings.forward
        self.forward.assign(forward)
        self.fixed.assign(settings.fixed)
        self.rate.assign(settings.rate)
        if not strategy.gated:
            self.threshold.assign(-LARGEST)
        elif settings.threshold is not None:
            self.threshold.assign(settings.threshold)
        else:
            assert isinstance(strategy, Presampled)
            least = strategy.break_even(self.presample, forward, settings.fixed, self.noise)
            self.threshold.assign(min(least, LARGEST))

    def always(self) -> None:
        """Puts the strategy to work whatever the share of the run, for measurements."""
        self.warm_up.assign(0.0)
        self.cool_down.assign(0.0)

    @property
    def presample(self) -> float:
        """k, the size of the larger batch over that of the batch."""
        own = self.settings.presample
        return float(getattr(self.strategy, "presample", 1.0) if own is None else own)

    @property
    def noise(self) -> float:
        """The gradient noise scale over the batch."""
        own = self.settings.noise
        return probabilities.DROWNED if own is None else own

    def extra(self, batch: int) -> int:
        """How many samples are read beside a batch, to draw from both."""
        return max(1, math.ceil((self.presample - 1.0) * batch)) if self.presamples else 0

    def remember(self, of: str, size: int, classes: npt.NDArray[Any] | None) -> bool:
        """Makes room for what is kept of each sample; that of the same data stays.

        Args:
            of: What tells the data from others.
            size: Samples of the set.
            classes: `(size,)`, the class of each, where each has one.

        Returns:
            Whether there are other variables now, which a step that was traced does not know.
        """
        if self.drawn is not None and self.of == of:
            return False
        self.of = of
        blank = {"drawn": np.zeros(size, np.float32)}
        if isinstance(self.strategy, Remembering):
            blank |= self.strategy.start(size, classes)
        known = {} if self.drawn is None else {"drawn": self.drawn, **self.tables}
        shapes = {name: tuple(variable.shape) for name, variable in known.items()}
        if shapes == {name: value.shape for name, value in blank.items()}:
            for name, variable in known.items():
                variable.assign(blank[name])
            return False
        made = {name: _variable(value, name) for name, value in blank.items()}
        self.drawn = made.pop("drawn")
        self.tables = made
        return True

    # -- Within the step -----------------------------------------------------------------

    def numbers(self) -> Numbers:
        """What the strategy is told."""
        own = (self.exponent, self.uniform, self.forward, self.fixed)
        return Numbers(*(variable.value for variable in own))

    def tau(self) -> Any:
        """τ by the moving means; 0 before the first look."""
        kept = 1.0 - ops.power(DECAY, self.looked.value)
        # Each mean lacks the same share for its start: of the squares' root it is another.
        return probabilities.tau_of_moments(
            self.mean.value, self.square.value * ops.maximum(kept, 0.0)
        )

    def is_open(self, share: Any) -> Any:
        """Whether the strategy is at work in the step about to be done.

        Args:
            share: Of the run that is over.
        """
        # Of a run whose length nobody told there is no end.
        ended = ops.logical_and(self.cool_down.value > 0.0, share >= 1.0 - self.cool_down.value)
        within = ops.logical_and(share >= self.warm_up.value, ops.logical_not(ended))
        return ops.logical_and(within, self.tau() > self.threshold.value)

    def note(self, is_open: Any, mean: Any, square: Any, step: Any, loss: Any) -> None:
        """Takes note of a step.

        Args:
            is_open: Whether the strategy was at work.
            mean: Of the scores of uniform samples.
            square: Of these scores' squares.
            step: Steps done before.
            loss: The mean loss of what the step was on.
        """
        usable = ops.logical_and(ops.isfinite(mean), ops.isfinite(square))
        for variable, value in ((self.mean, mean), (self.square, square)):
            moved = DECAY * variable.value + (1.0 - DECAY) * value
            variable.assign(ops.where(usable, moved, variable.value))
        self.looked.assign_add(ops.cast(usable, "float32"))
        at = ops.reshape(ops.cast(step % CAPACITY, "int32"), (1, 1))
        opened = ops.cast(is_open, "float32")
        self.lift.assign(ops.where(is_open, self.rate.value, 1.0))
        self.taus.assign(ops.scatter_update(self.taus, at, ops.reshape(self.tau(), (1,))))
        self.opened.assign(ops.scatter_update(self.opened, at, ops.reshape(opened, (1,))))
        self.total.assign_add(ops.cast(loss, "float32"))
        self.steps.assign_add(1.0)
        self.open_steps.assign_add(opened)

    def count(self, ids: Any, is_open: Any) -> None:
        """Counts who was drawn, while the strategy was at work."""
        if ids is None or self.drawn is None:
            return
        at = ops.expand_dims(ops.cast(ids, "int32"), -1)
        ones = ops.broadcast_to(ops.cast(is_open, "float32"), ops.shape(ids))
        self.drawn.assign(ops.scatter_update(self.drawn, at, ones, reduction="add"))

    def recorded(self, first: int, last: int) -> tuple[Floats, Floats]:
        """τ after steps `first` to `last - 1`, and whether samples were chosen in them.

        At most the latest `CAPACITY`, float64.
        """
        at = np.arange(max(first, last - CAPACITY), last) % CAPACITY
        taus, opened = (host(v).astype(np.float64)[at] for v in (self.taus, self.opened))
        return taus, opened

    def results(self) -> dict[str, Any]:
        """What Keras shows beside the metrics."""
        steps = ops.maximum(self.steps.value, 1.0)
        return {
            "sampled_loss": self.total.value / steps,
            "sampling": self.open_steps.value / steps,
            "tau": self.tau(),
        }

    def reset(self) -> None:
        """Begins another epoch."""
        for variable in (self.total, self.steps, self.open_steps):
            variable.assign(0.0)


@dataclasses.dataclass(frozen=True)
class Scorer:
    """Scores samples by what the model gives of them.

    Args:
        kind: `"bound"` or `"loss"`.
        loss: The compiled loss, as an object or a function.
        soft_loss: That which takes soft targets; `None` where there are none.
        family: Of a known cross-entropy; `None` for any other loss.
        logits: Whether outputs are pre-activations.
        activation: What outputs went through last, where it is known.
        ignore: The label of pixels that count for nothing.
        differentiate: Gives the gradient of a function at a tensor.
    """

    kind: str
    loss: Any
    soft_loss: Any
    family: scores.Family | None
    logits: bool
    activation: str
    ignore: int | None
    differentiate: Callable[[Callable[[Any], Any], Any], Any]

    def __call__(self, batch: Batch, outputs: Any) -> Any:
        """The score of each sample, `(batch,)` float32, weighted as the loss is."""
        weight = self._weight(batch)
        if self.kind == "loss":
            return scores.means(self._losses(batch, outputs), weight)
        soft = batch.target is not None
        family = "categorical" if soft and self.family == "sparse" else self.family
        labels = batch.target if soft else batch.y
        if family is not None:
            residual = scores.crossentropy_residual(labels, outputs, family, logits=self.logits)
        else:
            residual = scores.any_residual(
                outputs,
                lambda z: scores.means(self._losses(batch, z)),
                self.differentiate,
                self.activation,
            )
        return scores.norms(residual, weight)

    def _losses(self, batch: Batch, outputs: Any) -> Any:
        loss, labels = self.loss, batch.y
        if batch.target is not None:
            loss, labels = self.soft_loss, batch.target
        # As Keras' own losses do before they call what they are of.
        labels, outputs = ops.cast(labels, "float32"), ops.cast(outputs, "float32")
        split = getattr(loss, "split", None)
        if split is not None:
            labels, _ = split(labels)
        elif self.family != "sparse" or batch.target is not None:
            labels, outputs = _of_one_rank(labels, outputs)
        whole = isinstance(loss, keras.losses.Loss)
        values = loss.call(labels, outputs) if whole else loss(labels, outputs)
        if len(values.shape) == 0:
            raise ModelError(
                "Samples cannot be told apart by this loss.",
                required="a loss that gives a number for each sample",
                received="one number for the whole batch",
                advice="leave the mean over the batch to Keras, or sample uniformly",
            )
        return values

    def _weight(self, batch: Batch) -> Any:
        if self.ignore is None or batch.target is not None:
            return batch.weight
        labels = batch.y
        if len(labels.shape) == 4:
            labels = ops.squeeze(labels, -1)
        valid = ops.cast(ops.not_equal(ops.cast(labels, "int32"), self.ignore), "float32")
        if batch.weight is None:
            return valid
        weight = ops.cast(batch.weight, "float32")
        while len(weight.shape) < len(valid.shape):
            weight = ops.expand_dims(weight, -1)
        return valid * weight


def _of_one_rank(labels: Any, outputs: Any) -> tuple[Any, Any]:
    """Labels and outputs of as many axes, where one of them has a last one of 1 too many."""
    if len(labels.shape) == len(outputs.shape) - 1 and outputs.shape[-1] == 1:
        return ops.expand_dims(labels, -1), outputs
    if len(labels.shape) == len(outputs.shape) + 1 and labels.shape[-1] == 1:
        return ops.squeeze(labels, -1), outputs
    return labels, outputs


def scorer(
    kind: str,
    loss: Any,
    task: Task | None,
    soft_loss: Any,
    model: Any,
    differentiate: Callable[[Callable[[Any], Any], Any], Any],
) -> Scorer:
    """The scorer for a compiled loss.

    Args:
        kind: `"bound"` or `"loss"`.
        loss: As it was compiled: a Keras loss, its name, or a function.
        task: What the labels mean, where it is known.
        soft_loss: As of `Scorer`.
        model: Whose last activation it is, where the task does not tell.
        differentiate: As of `Scorer`.
    """
    if isinstance(loss, dict | list | tuple) and len(loss) == 1:
        (loss,) = loss.values() if isinstance(loss, dict) else loss
    own = keras.losses.get(loss) if isinstance(loss, str) else loss
    family: Any = family_of(own)
    if "focal" in type(own).__name__.lower() or bool(getattr(own, "label_smoothing", None)):
        family = None  # other gradients than a cross-entropy's
    # Keras takes outputs for probabilities where it is not told otherwise.
    logits = bool(getattr(own, "from_logits", False))
    activation = "linear"
    if not logits:
        told = task.evidence.activation if task is not None else outputs.read(model)
        activation = told or "linear"
    masks = isinstance(task, SemanticSegmentation) and not task.one_hot
    ignore = task.evidence.ignore if task is not None and masks else None
    return Scorer(kind, own, soft_loss, family, logits, activation, ignore, differentiate)


def made(model: Any, settings: Sampling, seed: int) -> Selector | None:
    """The selector of a Trainer, or `None` for uniform sampling.

    Raises:
        RecipeError: Samples of this model cannot be told apart, or weighed.
    """
    if settings.strategy not in STRATEGIES:
        return None
    if _keras_compat.distribute_strategy(model) is not None:
        _check_distributed(settings)
    if type(model).compute_loss is not keras.Model.compute_loss:
        raise RecipeError(
            "The model's own `compute_loss` does not say what each sample's loss is.",
            required="a compiled loss, for importance sampling",
            received=f"{type(model).__name__}.compute_loss",
            advice="compile a loss, or leave `sampling.strategy` at 'uniform'",
        )
    return Selector(settings, seed)


def _strategy(settings: Sampling) -> Presampled | Remembering:
    """The recipe's strategy, drawing as the recipe says.

    Raises:
        RecipeError: It cannot draw so.
    """
    kind = STRATEGIES[settings.strategy]
    if settings.draws == "own":
        return kind()
    if not issubclass(kind, Presampled) or settings.draws not in kind.able:
        able = [n for n, k in STRATEGIES.items() if settings.draws in getattr(k, "able", ())]
        raise RecipeError(
            "This strategy has a way of drawing of its own.",
            required=f"draws: own, or one of {able}",
            received=f"strategy: {settings.strategy}, draws: {settings.draws}",
            advice="leave `sampling.draws` out",
        )
    return kind(settings.draws)


def _check_distributed(settings: Sampling) -> None:
    """Raises a `RecipeError` for a strategy that several devices cannot share."""
    kind = STRATEGIES[settings.strategy]
    if not issubclass(kind, Presampled):
        able = [name for name, one in STRATEGIES.items() if issubclass(one, Presampled)]
        raise RecipeError(
            "What is remembered of each sample is on one device.",
            required=f"one device, or one of {able}",
            received=f"strategy: {settings.strategy}, under a distribution strategy",
            advice="take a strategy that draws from fresh samples, such as 'upper_bound'",
        )
    presample = kind.presample if settings.presample is None else settings.presample
    if presample != round(presample) or presample < 2.0:
        raise RecipeError(
            "Samples are read beside each one of a batch, to be split over devices with it.",
            required="a whole `sampling.presample` of at least 2 under a distribution strategy",
            received=f"presample: {presample:g}",
            advice="take the next whole number",
        )


def split_over_replicas(data: Any, selector: Selector) -> Any:
    """Batches with samples beside them, each of which draws on its device from what is there."""
    return in_rows(data, round(selector.presample) - 1)


def small(model: Any, settings: Sampling) -> tuple[Any, tuple[int, int]] | None:
    """The model for scores at a lower resolution, where these are asked for.

    Raises:
        RecipeError: The strategy or the model has no use for them.
    """
    if settings.resolution == 1.0:
        return None
    if not getattr(STRATEGIES[settings.strategy], "low", False):
        able = [name for name, kind in STRATEGIES.items() if getattr(kind, "low", False)]
        raise RecipeError(
            "This strategy scores images as they are.",
            required=f"resolution: 1, or one of {able}",
            received=f"strategy: {settings.strategy}, resolution: {settings.resolution}",
            advice="leave `sampling.resolution` out",
        )
    return low_resolution.smaller(model, settings.resolution)


def obstacle(model: Any, loss: Any, task: Task | None) -> str | None:
    """Why samples of a model cannot be chosen by their scores, in words; `None` where they can."""
    if type(model).compute_loss is not keras.Model.compute_loss:
        return "the model's own `compute_loss` does not say what each sample's loss is"
    if getattr(loss, "reduction", "") == "mean_with_sample_weight":
        return "the loss divides by the sum of weights, which takes those of sampling away"
    try:
        output_shape(model, task)
    except ModelError:
        return "the model's outputs have no known size"
    return None


def output_shape(model: Any, task: Task | None) -> tuple[int, ...]:
    """The shape of one output of the model.

    Raises:
        ModelError: It is not the same for all images.
    """
    shape = getattr(model, "output_shape", None)
    own = tuple(shape[1:]) if isinstance(shape, tuple) else None
    if own is None and task is not None:
        own = tuple(task.evidence.output_shape)
    if own is None or None in own:
        raise ModelError(
            "Importance sampling needs outputs of one size.",
            required="a built model whose outputs have a known shape",
            received=f"outputs of shape {own}",
            advice="build it as a Functional or Sequential model on images of one size",
        )
    return tuple(int(extent) for extent in own)


def classes_of(labels: Any) -> npt.NDArray[Any] | None:
    """The class of each sample, `(samples,)`; `None` where labels are not of one class each."""
    if labels is None:
        return None
    if tuple(labels.shape[1:]) in ((), (1,)):
        return np.asarray(labels).reshape(-1)
    rows = np.asarray(labels) if len(labels.shape) == 2 else None
    if rows is not None and bool(
        ((rows == 0) | (rows == 1)).all() and (rows.sum(axis=1) == 1).all()
    ):
        return np.asarray(rows.argmax(axis=1))
    return None


def check_stream(selector: Selector | None, received: str) -> None:
    """Raises a `RecipeError` where samples of a stream would have to be known again."""
    if selector is not None and not selector.presamples:
        raise RecipeError(
            f"The strategy {selector.strategy.name!r} remembers every sample, and a stream does "
            "not say which sample is which.",
            required="data with an identity: arrays, or `Resident`",
            received=received,
            advice="hold the data in memory, or take a strategy that draws from fresh samples, "
            "such as 'upper_bound'",
        )


def streamed(selector: Selector, data: Any) -> Any:
    """Batches of a `tf.data.Dataset`, with samples beside each where these are drawn from.

    The data are read once more for them, k - 1 times as fast.

    Raises:
        RecipeError: The strategy needs to know samples again, or the data are no Dataset.
    """
    import tensorflow as tf

    check_stream(selector, type(data).__name__)
    if not isinstance(data, tf.data.Dataset):
        raise RecipeError(
            "Importance sampling reads more samples than a batch has.",
            required="arrays, `Resident` or a batched `tf.data.Dataset`",
            received=type(data).__name__,
            advice="wrap a generator by `tf.data.Dataset.from_generator`",
        )
    # From the second batch on: the first would bring its own samples once more.
    extra = selector.extra(batch_size(data))
    return with_beside(data, data.repeat().skip(1).rebatch(extra))


def check_loss(loss: Any, strategy: Any) -> None:
    """Raises a `RecipeError` for a loss whose weights cannot undo the choice of samples."""
    if getattr(strategy, "resizes", False) and getattr(loss, "reduction", "") == "sum":
        raise RecipeError(
            f"A sum over fewer samples is less, and {strategy.name!r} draws fewer.",
            required="reduction 'sum_over_batch_size'",
            received=f"{type(loss).__name__}(reduction='sum')",
            advice="compile it with Keras' default reduction, or take another strategy",
        )
    if getattr(loss, "reduction", "") == "mean_with_sample_weight":
        raise RecipeError(
            "The loss divides by the sum of weights, which takes those of sampling away.",
            required="reduction 'sum_over_batch_size' or 'sum'",
            received=f"{type(loss).__name__}(reduction='mean_with_sample_weight')",
            advice="compile it with Keras' default reduction, or sample uniformly",
        )


def _variable(value: Any, name: str) -> Any:
    return keras.Variable(
        value, dtype="float32", trainable=False, name=name, aggregation="only_first_replica"
    )
