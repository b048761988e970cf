"""The studio: compiled Trainers with their data, for trials, measurements and the run.

Every newly compiled Trainer costs seconds of tracing and megabytes that Python never gives
back, so studies and the run share one for each way of computing a step, and restore it in between.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from keras import ops

from etude.budget import Budget, CostModel
from etude.data._base import Source
from etude.data.feed import Feed
from etude.data.resident import as_input, gather
from etude.data.shuffle import seed_number
from etude.errors import RunError
from etude.inspection import compiled
from etude.optim import _registry as optimizers
from etude.recipe import Recipe
from etude.ssl.gaps import Gap
from etude.training import batch_norm, memory, noise_scale, selecting, unlabelled, variance_reduced
from etude.training.augmenting import OpenTo
from etude.training.backends.tensorflow import OUT_OF_MEMORY
from etude.training.checks import takes_soft_labels
from etude.training.gradient_meter import WINDOW, GradientMeter
from etude.training.isolation import isolated
from etude.training.layer_gaps import layer_gaps
from etude.training.readers import Looks, Reader, Scores, Watch
from etude.training.sample_losses import SampleLosses
from etude.training.trainer import Trainer
from etude.training.unsupervised_batch_norm import OFF
from etude.training.values import host

if TYPE_CHECKING:
    from etude.problem import Problem

# Evaluation keeps no activations for a backward pass, so larger batches fit.
EVALUATION_FACTOR = 4
# An endless stream has no epochs: this many steps stand for one.
ENDLESS_EPOCH = 1000
# Validation samples whose mean loss is one score of a trial, at most; fewer where there would not
# be as many scores as are wanted.
SCORE_BATCH, SCORES_WANTED = 32, 16
# Share of a schedule that is over where branches begin: the rate is at or near its peak.
BRANCHING = 0.4
# How many times as fast statistics of batch normalization move where all ends after some steps.
HURRY = 10.0
# Numbers that are variables of the step: changing them retraces nothing.
FREE = frozenset(
    {f"optimization.{name}" for name in ("learning_rate", "momentum", "weight_decay")}
    | {f"optimization.{name}" for name in ("warmup_steps", "warmup_fraction", "momentum_low")}
    | {f"optimization.{name}" for name in ("momentum_high", "batch_norm_momentum", "epochs")}
    | {f"sampling.{name}" for name in ("presample", "threshold", "exponent", "smoothing")}
    | {f"sampling.{name}" for name in ("warm_up", "cool_down", "forward", "fixed", "noise", "rate")}
    | {"compute.batch_size", "augmentation.policy", "semisupervised.method"}
)
# Those of a step that is open to any policy.
OPEN = frozenset(("regularization.label_smoothing", "regularization.dropout"))


@dataclasses.dataclass(frozen=True)
class Trial:
    """What a trial run saw.

    Attributes:
        losses: The training loss of every step done, `(steps,)` float32.
        scores: Mean loss of each batch of the validation samples asked for, `(batches,)` float64.
        seconds: How long it took.
    """

    losses: np.ndarray[Any, Any]
    scores: np.ndarray[Any, Any]
    seconds: float

    @property
    def score(self) -> float:
        """Mean loss on the validation samples; NaN where none were asked for."""
        return float(self.scores.mean()) if len(self.scores) else math.nan


@dataclasses.dataclass(frozen=True)
class Miniature:
    """What a short run over a part of the data saw.

    Attributes:
        taus: τ after some of its steps, or all, `(looks,)` float64.
        steps: How many were done by then, `(looks,)`.
        share: Of the steps, in which samples were chosen.
        noise: The gradient noise scale over the batch, in the second half of the steps; `None`
            where the gradient drowns in its noise.
        losses: The loss of each of the validation samples asked for, `(samples,)` float64.
    """

    taus: np.ndarray[Any, Any]
    steps: np.ndarray[Any, Any]
    share: float
    noise: float | None
    losses: np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True)
class Pace:
    """How fast steps are.

    Attributes:
        seconds: Of a step.
        losses: The training loss of each, `(steps,)` float32.
    """

    seconds: float
    losses: np.ndarray[Any, Any]


class Studio:
    """One problem, and one compiled Trainer for each way of computing a step.

    Args:
        problem: What is trained.
        recipe: By which recipe; its `compute` group shapes the step.
        budget: Whose clock is used.
        seed: Seed of the order of samples.
        memory_budget: Bytes of data that may be resident.
        class_weights: Weight of each class, or `None`.
        on_step: Called after every step of a trial.
    """

    def __init__(
        self,
        problem: Problem,
        recipe: Recipe,
        *,
        budget: Budget,
        seed: int = 0,
        memory_budget: int = 4 * 2**30,
        class_weights: Mapping[int, float] | None = None,
        on_step: Callable[[], None] | None = None,
    ) -> None:
        self.problem = problem
        self.budget = budget
        self.seed = seed_number(seed)
        self.class_weights = class_weights
        self.on_step = on_step
        self.train = Feed(problem.train, memory_budget)
        self.unlabelled: unlabelled.Unlabelled | None = None
        if problem.unlabeled is not None:
            self.unlabelled = unlabelled.Unlabelled(Feed(problem.unlabeled, memory_budget))
        # Evaluation reads plain batches, so that one trace serves validation and test.
        self.validation = problem.validation
        self.costs: CostModel | None = None
        self.events: list[str] = []
        self.evaluation_batch = 0
        self.trainer: Trainer
        self._trainers: dict[str, Trainer] = {}
        self._streams: dict[tuple[int, int, int, int, str], Any] = {}
        self._held = memory.held()
        self._largest = 0  # batch that ran
        self._losses: SampleLosses | None = None
        self._step_seconds: dict[tuple[str, int], float] = {}
        self.build(recipe)

    # -- The Trainer ---------------------------------------------------------------------

    def _key(self, recipe: Recipe) -> str:
        """What a Trainer is compiled for: all of a recipe that is no variable of its step."""
        settings = recipe.optimization
        values = {path: value for path, value in recipe.values().items() if path not in FREE}
        policy = recipe.augmentation.policy
        values["augments"] = (policy.draws_anything, policy.mixes)
        if open_to := self.open_to(recipe):
            values = {path: value for path, value in values.items() if path not in OPEN}
            values["augments"] = open_to
        # Without them Keras makes no slots, and no decay.
        values["momentum"] = settings.momentum == 0.0
        values["decays"] = optimizers.decays(settings, self.problem.compiled_optimizer)
        return repr(values)

    def open_to(self, recipe: Recipe) -> OpenTo:
        """Which policies a recipe's Trainer takes without another trace.

        Where a study is at work on it, or has chosen it: a trace of its own would cost a run
        seconds, and the recipe alone says which it is, so that a run goes on with the same.
        """
        if recipe.mark("augmentation.policy").origin != "learned":
            return ""
        return "any" if takes_soft_labels(self.problem) else "images"

    def build(self, recipe: Recipe) -> None:
        """Makes and compiles the Trainer for a recipe, or takes the one that there is."""
        self.recipe = recipe
        micro_batch = math.ceil(recipe.compute.batch_size / recipe.compute.accumulate)
        self.evaluation_batch = micro_batch * EVALUATION_FACTOR
        key = self._key(recipe)
        made = self._trainers.get(key)
        if made is None:
            made = self._trainers[key] = self._made(recipe)
        elif made is not getattr(self, "trainer", None):
            made.claim_model()
        self.trainer = made
        made.take_over(recipe)
        # Looked at again, the model shall tell what its owner compiled, not what we did.
        compiled.remember(self.problem.model, self.problem.compiled)

    def _made(self, recipe: Recipe) -> Trainer:
        problem = self.problem
        trainer = Trainer(
            problem.model,
            recipe,
            task=problem.task,
            class_weights=self.class_weights,
            value_range=problem.value_range,
            open_to=self.open_to(recipe),
            monitored=True,
            seed=self.seed,
        )
        if self.train.resident is not None:
            trainer.expect(self.train.resident)
        else:
            what = "data that are read anew in every pass"
            selecting.check_stream(trainer.selector, what)
            variance_reduced.check_stream(trainer.reducer, what)
        settings = recipe.optimization
        if recipe.mark("optimization.learning_rate").origin == "learned":
            # Only the schedule's peak: the optimizer keeps its own rate for the time after.
            settings = dataclasses.replace(settings, learning_rate=None)
        with trainer.scope():
            optimizer = optimizers.build(settings, problem.compiled_optimizer)
        trainer.compile(
            optimizer,
            problem.loss,
            metrics=problem.metrics(),
            weighted_metrics=problem.weighted_metrics() or None,
        )
        with trainer.scope():
            if not trainer.optimizer.built:  # a second build of a loss-scaling one goes wrong
                trainer.optimizer.build(trainer.trainable_variables)
        if not trainer.distributed:
            trainer.meter = GradientMeter(trainer.trainable_variables)
        return trainer

    @contextlib.contextmanager
    def at(self, recipe: Recipe) -> Iterator[None]:
        """Within the context trials run by another recipe; everything is put back after.

        A Trainer that had to be made for it is kept, for the case that it is the one chosen.
        """
        before, trainer = self.recipe, self.trainer
        with isolated(trainer):
            try:
                self.build(recipe)
                yield
            finally:
                self.build(before)

    def forget_others(self) -> None:
        """Gives up the Trainers that trials were run with, all but the present one."""
        self._trainers = {self._key(self.recipe): self.trainer}

    def warm(self) -> float:
        """Traces the step and an evaluation, leaving no trace on the model.

        Halves the micro-batch for as long as the device runs out of memory.

        Returns:
            Seconds it took.
        """
        start = self.budget.clock()
        while True:
            try:
                with isolated(self.trainer):
                    if self.trainer.selector is not None:  # what needs most memory
                        self.trainer.selector.always()
                        self.trainer.selector.threshold.assign(-selecting.LARGEST)
                    self._fit(2)
                    self._evaluate(1)
                compute = self.recipe.compute
                self._largest = max(self._largest, compute.batch_size // compute.accumulate)
                return self.budget.clock() - start
            except OUT_OF_MEMORY as error:
                self.halve_micro_batch(error)

    def halve_micro_batch(self, error: BaseException) -> None:
        """Builds the Trainer anew with twice as many micro-batches.

        Raises:
            RunError: A micro-batch is one sample already.
        """
        compute = self.recipe.compute
        count = min(2 * compute.accumulate, compute.batch_size)
        if count == compute.accumulate:
            raise RunError(
                "The device has too little memory for a single sample.",
                required="memory for one sample, its activations and gradients",
                received=str(error).splitlines()[0][:200],
                advice="use smaller images, a smaller model, or another device",
            ) from error
        self._trainers.pop(self._key(self.recipe), None)  # its memory is what is wanted
        # An optimizer that the model came with is used again, at its owner's rate and not at that
        # of the schedule's present step.
        self.trainer.restore_rate()
        self.events.append(
            f"Out of memory: the batch of {compute.batch_size} is now computed in {count} "
            f"micro-batches of {math.ceil(compute.batch_size / count)}."
        )
        self.build(
            dataclasses.replace(self.recipe, compute=dataclasses.replace(compute, accumulate=count))
        )

    # -- Measuring -----------------------------------------------------------------------

    @property
    def measured(self) -> CostModel:
        """The costs, which must have been measured."""
        assert self.costs is not None, "measure() comes before all studies"
        return self.costs

    @property
    def steps_per_epoch(self) -> float:
        """Steps that see as many samples as the training set has."""
        size = self.train.size
        if size is None:
            return float(ENDLESS_EPOCH)
        return size / self.recipe.compute.batch_size

    def measure(self, limit: float = 3.0) -> CostModel:
        """Measures a step and an evaluation on the running model, leaving no trace.

        Args:
            limit: Seconds to spend on steps, about.
        """
        compile_seconds = self.warm()
        clock = self.budget.clock
        multiple = self.recipe.compute.steps_per_execution
        with isolated(self.trainer):
            per_step = self._timed_steps(4 * multiple)
            steps = int(min(50, limit / max(per_step * multiple, 1e-6)))
            if steps >= 8:  # a heavy step is known well enough by then, and costs too much
                per_step = self._timed_steps(steps * multiple)
            whole = math.ceil(self.validation.count() / self.evaluation_batch)
            part = min(whole, 8 if steps >= 8 else 1)
            start = clock()
            self._evaluate(part)
            evaluation = (clock() - start) * whole / part
        if self.costs is not None:  # what was traced already says nothing of another trace
            compile_seconds = max(compile_seconds, self.costs.compile)
        self.costs = CostModel(step=per_step, evaluation=evaluation, compile=compile_seconds)
        return self.costs

    def _timed_steps(self, steps: int, batch: int | None = None) -> float:
        """Seconds per step, the start of the input pipeline left out."""
        watch = Watch(self.budget.clock)
        if self.trainer.selector is not None:
            self.trainer.selector.always()
        self._fit(steps, callbacks=[watch], batch=batch)
        if watch.count < 2:
            return watch.total
        return watch.total / (watch.count - 1) / self.recipe.compute.steps_per_execution

    def step_seconds(self, batch: int, steps: int = 3) -> float | None:
        """Seconds of a step at another batch size, measured once; leaves no trace.

        Args:
            batch: Samples in the batch.
            steps: How many are done; the first is not timed.

        Returns:
            The seconds, or `None` where that batch is too large: for the device, or maybe for the
            host, where trying could get the process killed.
        """
        key = (self._key(self.recipe), batch)
        if batch == self.recipe.compute.batch_size and self.costs is not None:
            return self.costs.step
        if key not in self._step_seconds:
            largest = self._largest or self.recipe.compute.batch_size
            if batch > largest and not memory.fits(self._held, batch / largest):
                return None
            try:
                with isolated(self.trainer):
                    multiple = self.recipe.compute.steps_per_execution
                    self._step_seconds[key] = self._timed_steps(steps * multiple, batch)
            except OUT_OF_MEMORY:
                return None
            self._largest = max(self._largest, batch)
        return self._step_seconds[key]

    def pace(self, steps: int) -> Pace:
        """Seconds of a step, and the losses of the steps that were timed; leaves no trace."""
        controls = self.trainer.controls
        assert controls is not None
        with isolated(self.trainer):
            controls.step.assign(0)
            controls.total.assign(1000.0)  # steps that move little
            seconds = self._timed_steps(steps)
            return Pace(seconds, controls.recorded(0, int(host(controls.step))))

    # -- Trials --------------------------------------------------------------------------

    def trial(
        self,
        steps: int,
        *,
        ramp: tuple[float, float] | None = None,
        rate: float | None = None,
        stop: Callable[[Sequence[float]], bool] | None = None,
        score_samples: int = 0,
        order: int = 0,
        run_steps: int = 0,
    ) -> Trial:
        """Trains for `steps` steps and puts everything back.

        Args:
            steps: How many, at most 1,024.
            ramp: Ends of an exponential rise of the rate, in place of the recipe's schedule.
            rate: Peak of the recipe's schedule, annealed over `steps`.
            stop: Ends the trial when it says so of the losses so far.
            score_samples: Validation samples on which the trained weights are scored, about.
            order: Which order of samples: 0 for that of the run, others for others.
            run_steps: Steps of the run that the trial stands for. Statistics of batch normalization
                move as much faster as it is shorter, so that its scores are not those of
                statistics from before most of its steps.

        Returns:
            Losses, scores and seconds.
        """
        controls = self.trainer.controls
        assert controls is not None
        clock = self.budget.clock
        start = clock()
        scores = np.zeros(0)
        with isolated(self.trainer):
            multiple = self.recipe.compute.steps_per_execution
            controls.step.assign(0)
            controls.total.assign(float(math.ceil(steps / multiple) * multiple))
            controls.ramping.assign(float(ramp is not None))
            controls.statistics_pace.assign(max(1.0, run_steps / steps))
            if ramp is not None:
                controls.ramp_low.assign(ramp[0])
                controls.ramp_high.assign(ramp[1])
            if rate is not None:
                controls.peak.assign(rate)
            self._fit(steps, [Reader(self.trainer, stop, self.on_step)], order=order)
            losses = controls.recorded(0, int(host(controls.step)))
            if score_samples:
                scores = self._scores(score_samples)
        return Trial(losses, scores, clock() - start)

    @contextlib.contextmanager
    def warmed(self, recipe: Recipe, steps: int, *, batch: int, part: int) -> Iterator[None]:
        """Trains a little by a recipe; within the context `branch` goes on from there.

        Args:
            recipe: By which. Its rate rises to the schedule's peak.
            steps: How many.
            batch: Samples in a batch.
            part: Samples of the training set, chosen at random, on which it trains.
        """
        with self.at(recipe), isolated(self.trainer):
            controls = self.trainer.controls
            assert controls is not None
            self._begin(0, steps / BRANCHING)
            reader = Reader(self.trainer, None, self.on_step)
            try:
                self._fit(steps, [reader], batch=batch, part=part)
                yield
            finally:
                self._forget_parts()

    def beyond(self, part: int, wanted: int) -> int:
        """How many training samples outside of a part can be scored one by one, of so many."""
        resident = self.train.resident
        if resident is None or not SampleLosses.able(self.problem.model, self.problem.loss):
            return 0
        return max(0, min(wanted, len(resident) - part))

    def branch(
        self,
        recipe: Recipe,
        steps: int,
        *,
        batch: int,
        part: int,
        samples: int,
        order: int,
        beyond: int = 0,
    ) -> np.ndarray[Any, Any]:
        """Goes on from the state that `warmed` left, to the schedule's end; puts it back.

        Args:
            recipe: By which, of the same trace as that of `warmed`.
            steps: How many.
            batch: As in `warmed`.
            part: As in `warmed`.
            samples: Validation samples on which the trained weights are scored, about.
            order: Which order of samples.
            beyond: Training samples that are scored too, of those that are not in the part; no
                more than `beyond` says.

        Returns:
            The loss of each of the samples, `(samples + beyond,)` float64; of batches of them,
            where a sample by itself has none.
        """
        with isolated(self.trainer):
            before = self.trainer
            self.build(recipe)
            assert self.trainer is before, "a branch needs no other trace"
            steps = self._whole_executions(steps)
            total = steps / (1.0 - BRANCHING)
            self._begin(total - steps, total)
            reader = Reader(self.trainer, None, self.on_step)
            self._fit(steps, [reader], batch=batch, order=order, part=part)
            found = self._sample_losses(samples)
            return np.concatenate([found, self._beyond(part, beyond)]) if beyond else found

    def cannot_sample(self) -> str | None:
        """Why samples of the problem cannot be chosen by their scores; `None` where they can."""
        return selecting.obstacle(self.problem.model, self.problem.loss, self.problem.task)

    def watch(
        self,
        recipe: Recipe,
        steps: int,
        *,
        batch: int,
        part: int,
        samples: int,
        order: int,
        looks: int,
        looked: int,
        wanted: Callable[[np.ndarray[Any, Any], float | None], bool] = lambda taus, noise: True,
    ) -> Miniature:
        """As `miniature`, by a Trainer that chooses no samples: nothing else is traced for it.

        τ is that of the upper bound of some training samples' gradients, as a step would find it.

        Args:
            recipe: By which.
            steps: As of `miniature`.
            batch: As of `miniature`.
            part: As of `miniature`.
            samples: As of `miniature`.
            order: As of `miniature`.
            looks: How often τ is looked at, in the middle of equal stretches.
            looked: Of how many samples each time, about.
            wanted: Whether the samples' losses are, given `taus` and `noise`; else there are none.
                They take a trace and a pass over the validation samples.
        """
        size = self.evaluation_batch
        # Others than those of the steps about to be done, and as many at once as a step scores.
        data = self.train.part(part, size, seed=self.seed, order=order + 1)
        batches = iter(self.with_unlabeled(data, order=order + 1))
        taus: list[float] = []

        def look() -> None:
            scores = [self.trainer.bounds(next(batches)) for _ in range(math.ceil(looked / size))]
            found = np.concatenate(scores).astype(np.float64)
            taus.append(float(np.sqrt(np.mean(found**2)) / max(np.mean(found), 1e-30)))

        with self.at(recipe):
            steps = self._whole_executions(steps)
            after = [math.ceil((index + 0.5) * steps / looks) for index in range(looks)]
            looking = Looks(after, look)
            with isolated(self.trainer):
                noise = self._short_run(steps, batch, order, part, [looking])
                found = np.asarray(taus)
                losses = self._sample_losses(samples) if wanted(found, noise) else np.zeros(0)
            return Miniature(found, np.asarray(looking.done), 0.0, noise, losses)

    def miniature(
        self, recipe: Recipe, steps: int, *, batch: int, part: int, samples: int, order: int
    ) -> Miniature:
        """Trains on a part of the data by a whole schedule of so many steps; leaves no trace.

        Args:
            recipe: By which, of the present Trainer; it chooses samples.
            steps: How many.
            batch: Samples in a batch.
            part: Samples of the training set, chosen at random, on which it trains.
            samples: Validation samples on which the trained weights are scored, about.
            order: Which order of samples.
        """
        with isolated(self.trainer):
            before = self.trainer
            self.build(recipe)
            assert self.trainer is before, "another trace"
            selector = self.trainer.selector
            assert selector is not None
            steps = self._whole_executions(steps)
            noise = self._short_run(steps, batch, order, part)
            taus, opened = selector.recorded(0, steps)
            return Miniature(
                taus,
                np.arange(steps - len(taus), steps) + 1,
                float(opened.mean()),
                noise,
                self._sample_losses(samples),
            )

    def _whole_executions(self, steps: int) -> int:
        multiple = self.recipe.compute.steps_per_execution
        return math.ceil(steps / multiple) * multiple

    def _short_run(
        self, steps: int, batch: int, order: int, part: int, callbacks: Sequence[Any] = ()
    ) -> float | None:
        """A whole schedule on a part of the data; the noise scale of its second half, over `batch`.

        `None` where the gradient drowns in its noise.
        """
        meter = self.trainer.meter
        assert meter is not None
        self._begin(0, steps)
        meter.begin()
        first = meter.done
        reader = Reader(self.trainer, None, self.on_step)
        self._fit(steps, [reader, *callbacks], batch=batch, order=order, part=part)
        noise = noise_scale.measured(*meter.norms((first + meter.done) // 2), batch)
        self._forget_parts()
        return None if noise is None else noise / batch

    def attempt(
        self, recipe: Recipe, steps: int, *, samples: int, order: int
    ) -> np.ndarray[Any, Any]:
        """Trains by a whole schedule of so many steps, of any trace; leaves no trace itself.

        Args:
            recipe: By which.
            steps: How many.
            samples: Validation samples on which the trained weights are scored, about.
            order: Which order of samples.

        Returns:
            As `branch`.
        """
        with self.at(recipe), isolated(self.trainer):
            steps = self._whole_executions(steps)
            self._begin(0, steps)
            self._fit(steps, [Reader(self.trainer, None, self.on_step)], order=order)
            return self._sample_losses(samples)

    @contextlib.contextmanager
    def trained_on(
        self,
        samples: Source,
        steps: int,
        *,
        batch: int,
        order: int,
        weights: Sequence[np.ndarray[Any, Any]],
    ) -> Iterator[None]:
        """Trains on other samples of the same kind, by a whole schedule of so many steps.

        Within the context the model is so trained; everything is put back after. Where the data
        are read anew for every batch, as with a `memory_budget` of 0, this needs no other trace.

        Args:
            samples: In the place of the training set.
            steps: How many.
            batch: Samples in a batch.
            order: Which order of samples.
            weights: Of the model, that it begins with.
        """
        feed, streams = self.train, self._streams
        with isolated(self.trainer):
            self.problem.model.set_weights(list(weights))
            self.train, self._streams = Feed(samples, self.train.limit), {}
            multiple = self.recipe.compute.steps_per_execution
            steps = math.ceil(steps / multiple) * multiple
            try:
                self._begin(0, steps)
                reader = Reader(self.trainer, None, self.on_step)
                self._fit(steps, [reader], batch=batch, order=order)
                yield
            finally:
                self.train, self._streams = feed, streams

    def judged(self, samples: int) -> tuple[np.ndarray[Any, Any], dict[str, float]]:
        """Losses as of `attempt`, and all metrics, of the weights as they are now."""
        return self._sample_losses(samples), self.evaluate()

    def cannot_normalize(self) -> str | None:
        """Why images without labels cannot count in statistics; `None` where they can."""
        if self.unlabelled is None:
            return "there are no images without labels"
        if not batch_norm.layers_of(self.problem.model):
            return "the model has no batch normalization that is trained"
        return None

    def gaps(self, samples: int) -> dict[str, Gap]:
        """How far labelled images are from unlabelled ones before each normalization.

        Args:
            samples: Images of each set that are looked at.
        """
        assert self.unlabelled is not None
        own = next(iter(self.train.shuffled(samples, seed=self.seed)))
        others = next(iter(self.unlabelled.batches(samples, seed=self.seed)))
        labelled, unlabelled = (as_input(gather(data)[1]) for data in (own, others))
        with isolated(self.trainer):
            return layer_gaps(self.problem.model, labelled, unlabelled, self.seed)

    def _forget_parts(self) -> None:
        """Lets go of pipelines of a part of the data, with what of a stream they hold."""
        self._streams = {key: data for key, data in self._streams.items() if not key[2]}

    def _begin(self, step: float, total: float) -> None:
        """Puts the step to a place in a schedule so short that statistics move at once."""
        controls = self.trainer.controls
        assert controls is not None
        controls.step.assign(round(step))
        controls.total.assign(float(total))
        controls.statistics_pace.assign(HURRY)

    def gradient_norms(
        self, warm: int, windows: int, batch: int
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Norms of gradients at weights that were trained a little; puts everything back.

        Args:
            warm: Steps of training before, over which the rate rises to the recipe's peak.
            windows: Windows of `gradient_meter.WINDOW` steps at rate 0, so that nothing moves.
            batch: Samples in the batches of these.

        Returns:
            As `GradientMeter.norms`.
        """
        controls, meter = self.trainer.controls, self.trainer.meter
        assert controls is not None and meter is not None
        with isolated(self.trainer):
            controls.step.assign(0)
            controls.total.assign(warm / max(self.recipe.optimization.warmup_fraction, 0.05))
            self._fit(warm, callbacks=[Reader(self.trainer, None, self.on_step)])
            controls.peak.assign(0.0)
            # Momentum would go on to move the weights.
            for variable in self.trainer.optimizer.variables:
                if len(variable.shape) > 0:
                    variable.assign(ops.zeros(variable.shape, variable.dtype))
            meter.begin()
            before = meter.done
            reader = Reader(self.trainer, None, self.on_step)
            self._fit(windows * WINDOW, callbacks=[reader], batch=batch)
            return meter.norms(before)

    def _sample_losses(self, samples: int) -> np.ndarray[Any, Any]:
        """The loss of each of so many validation samples, evenly taken from all of them."""
        model, loss = self.problem.model, self.problem.loss
        if not SampleLosses.able(model, loss):
            return self._scores(samples)
        if self._losses is None:
            self._losses = SampleLosses(model, loss)
        every = max(1, self.validation.count() // samples)
        batch = self.evaluation_batch
        data = self.validation.in_order(batch * every)
        if every > 1:
            data = data.map(lambda *parts: tf.nest.map_structure(lambda t: t[::every], parts))
        with self.trainer.averaged():
            return self._losses.of(data)

    def _beyond(self, part: int, samples: int) -> np.ndarray[Any, Any]:
        """The loss of each of so many training samples that are not in a part."""
        resident = self.train.resident
        assert resident is not None and self._losses is not None, "see beyond()"
        with self.trainer.averaged():
            size = self.evaluation_batch
            return self._losses.of(resident.beyond(part, samples, size, seed=self.seed))

    # -- Keras -----------------------------------------------------------------------------

    def _fit(
        self,
        steps: int,
        callbacks: Sequence[Any] = (),
        batch: int | None = None,
        order: int = 0,
        part: int = 0,
    ) -> None:
        if steps < 1:  # Keras would go on for ever
            return
        multiple = self.recipe.compute.steps_per_execution
        size = batch or self.recipe.compute.batch_size
        key = (size, order, part, self.trainer.beside(size), repr(self.recipe.semisupervised))
        if key not in self._streams:
            # Made once: TensorFlow never gives back what it traces for a pipeline.
            batches = (
                self.train.part(part, size, seed=self.seed, order=order, beside=key[3])
                if part
                else self.train.shuffled(size, seed=self.seed + order, beside=key[3])
            )
            self._streams[key] = self.with_unlabeled(batches, order=order)
        self.trainer.fit(
            self._streams[key],
            steps_per_epoch=math.ceil(steps / multiple) * multiple,
            epochs=1,
            verbose=0,
            shuffle=False,
            callbacks=list(callbacks),
        )

    def with_unlabeled(self, batches: Any, *, order: int = 0, start: int = 0) -> Any:
        """Batches, with images without labels beside each where the recipe makes use of them.

        Args:
            batches: Of the training data.
            order: Which order of those images.
            start: The first step.
        """
        if self.recipe.semisupervised.batch_norm == OFF:
            return batches
        if self.unlabelled is None:
            raise unlabelled.missing(self.recipe)
        return unlabelled.beside(
            batches,
            self.unlabelled,
            self.recipe.semisupervised.unlabeled,
            seed=self.seed + order,
            start=start,
            distributed=self.trainer.distributed,
        )

    def score_batches(self, samples: int) -> tuple[int, int]:
        """How many samples are a score, and how many scores so many validation samples give.

        Args:
            samples: Wanted, if there are as many.
        """
        samples = min(samples, self.validation.count())
        multiple = self.recipe.compute.steps_per_execution  # Keras tells the mean of so many
        size = max(1, min(SCORE_BATCH, samples // SCORES_WANTED) // multiple)
        batches = max(1, samples // size) // multiple * multiple
        return size, max(1, batches)

    def _scores(self, samples: int) -> np.ndarray[Any, Any]:
        """Mean loss of each batch of the first validation samples, `(batches,)`.

        The batches are small, so that there are enough to tell how far their means scatter, and
        the same for every trial, so that trials can be compared batch by batch.
        """
        there = self.validation.count()
        size, batches = self.score_batches(samples)
        # Of each stretch every so many samples: a set in the order of its classes has all of them.
        every = max(1, there // max(1, size * batches))
        data = self.validation.in_order(size * every).take(batches)
        if every > 1:
            data = data.map(lambda *parts: tf.nest.map_structure(lambda t: t[::every], parts))
        data = data.apply(tf.data.experimental.assert_cardinality(batches))
        reader = Scores()
        self.trainer.evaluate(data, verbose=0, callbacks=[reader])
        return reader.each()

    def evaluation_data(self, source: Source | None = None, batches: int | None = None) -> Any:
        """The validation data or another source in batches, all or the first `batches`."""
        source = source or self.validation
        data = source.in_order(self.evaluation_batch)
        if batches is not None:
            data = data.take(batches)
        whole = math.ceil(source.count() / self.evaluation_batch)
        # Keras warns of data that run out where it does not know how many there are.
        return data.apply(
            tf.data.experimental.assert_cardinality(
                whole if batches is None else min(batches, whole)
            )
        )

    def _evaluate(self, batches: int) -> dict[str, float]:
        data = self.evaluation_data(batches=batches)
        return dict(self.trainer.evaluate(data, verbose=0, return_dict=True))

    def evaluate(self, source: Source | None = None) -> dict[str, float]:
        """All metrics on the validation data, or on another source."""
        data = self.evaluation_data(source)
        return dict(self.trainer.evaluate(data, verbose=0, return_dict=True))
