"""The Trainer: a Keras model around the user's, whose step applies a Recipe."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from etude.data.resident import (
    Resident,
    as_input,
    gather,
    own_part,
    sample_spec,
    unlabeled_part,
)
from etude.data.shuffle import seed_number
from etude.errors import ModelError
from etude.optim import _registry as optimizers
from etude.optim import balanced_decay, momentum
from etude.recipe import Recipe
from etude.sampling.strategies import UNIFORM
from etude.tasks._masked import align
from etude.training import (
    _keras_compat,
    augmenting,
    batch_norm,
    checks,
    dropout,
    gradients,
    lengths,
    low_resolution,
    precision,
    selecting,
    unlabelled,
    unsupervised_batch_norm,
    variance_reduced,
)
from etude.training.averaged_model import AveragedModel
from etude.training.backends import tensorflow as backend
from etude.training.controls import Controls
from etude.training.gradient_meter import GradientMeter
from etude.training.held import Held, held
from etude.training.selection import Selection, Shown, Stages, presampled, remembered
from etude.training.step import Batch, accumulated, stages
from etude.training.values import host

if TYPE_CHECKING:
    from etude.tasks._base import Task


class Trainer(AveragedModel):
    """Trains a Keras model by a Recipe, with Keras' own `fit`, callbacks and saving.

    `compile`, `fit`, `evaluate`, `predict` and `save` behave as on the model itself; the
    model that is passed in is the one that is trained, and is left compiled with the same
    optimizer. With the default recipe the weights are those of plain Keras, to the bit.

    Args:
        model: Any Keras model with one input and one output. One with its own
            `train_step` is refused; its own `compute_loss` is honoured.
        recipe: What to do; the default is a plain Keras run.
        task: What the labels mean; needed for label smoothing and balanced classes.
        class_weights: Weight of each class, on top of sample weights.
        value_range: Lowest and highest value that a pixel can have; needed for augmentation.
        open_to: Which policies of augmentation may take the place of the recipe's without another
            trace; with `"any"` label smoothing and the strength of dropout too.
        monitored: Keeps a schedule and a record of losses in the step even where the
            recipe needs none; studies and runs switch it on.
        seed: Seed of the perfect shuffle of `Resident` data, and of augmentation.

    Raises:
        ModelError: The model brings a step of its own.
        RecipeError: The recipe names something that does not exist.

    Example:
        >>> trainer = Trainer(model, Recipe())  # doctest: +SKIP
        >>> trainer.compile("adam", "sparse_categorical_crossentropy")  # doctest: +SKIP
        >>> trainer.fit(x, y, epochs=3)  # doctest: +SKIP
    """

    def __init__(
        self,
        model: keras.Model,
        recipe: Recipe | None = None,
        *,
        task: Task | None = None,
        class_weights: Mapping[int, float] | None = None,
        value_range: tuple[float, float] | None = None,
        open_to: augmenting.OpenTo = "",
        monitored: bool = False,
        seed: int = 0,
    ) -> None:
        recipe = recipe or Recipe()
        checks.check_model(model)
        checks.check_recipe(recipe)
        checks.check_parts(model, recipe, class_weights, monitored=monitored)
        super().__init__(name=f"trainer_of_{model.name}", dtype=model.dtype_policy)
        self.model = model
        self.recipe = recipe
        self.seed = seed_number(seed)
        self._task = task
        soft = open_to == "any"
        self._stages = stages(recipe, task, class_weights, self._smoothing if soft else None)
        self._soft_loss = task.soft_loss() if task and (soft or checks.softens(recipe)) else None
        self._drops = bool(open_to) or recipe.regularization.dropout != 1.0
        self._own_compute_loss = type(model).compute_loss is not keras.Model.compute_loss
        self._free_rate = True
        own = recipe.optimization
        self._scheduled = monitored or own.schedule != "constant" or own.warmup_steps > 0
        self._moves = {"momentum": False, "weight_decay": False}
        self._balances = False
        self._own: dict[str, float | None] = {}
        self._claim: Callable[[], None]
        self._pixelwise = False
        self._first_rate: Any = None
        self._epoch_iterator: Any = None
        self._monitored = monitored
        self._distribute_strategy = _keras_compat.distribute_strategy(model)
        self.meter: GradientMeter | None = None
        self.controls: Controls | None = None
        if (
            monitored
            or recipe.optimization.schedule != "constant"
            or recipe.optimization.warmup_steps
            or recipe.optimization.batch_norm_momentum is not None
            or recipe.sampling.strategy != UNIFORM
            or self._drops
        ):
            with self.scope():
                self.controls = Controls(recipe)
        with self.scope():
            policy = recipe.augmentation.policy
            self.augmenter = augmenting.made(model, policy, task, value_range, self.seed, open_to)
            self.selector = selecting.made(model, recipe.sampling, self.seed)
            self.reducer = variance_reduced.made(model, recipe, self.seed)
        self._scorer: selecting.Scorer | None = None
        self._scorer_by: Callable[[str], selecting.Scorer]
        self._samples = 0
        self._held: Held | None = None
        self._unlabelled: unlabelled.Unlabelled | None = None
        self.resolution = low_resolution.Resolution()
        unsupervised_batch_norm.check_strategy(recipe, reduces=self.reducer is not None)
        if model.built:
            unsupervised_batch_norm.check(model, recipe)
            self.built = True

    # -- Keras' interface, on behalf of the user's model ---------------------------------

    @property
    def output_names(self) -> Any:
        """The names of the model's outputs."""
        # Raises AttributeError where the model has none, so that `hasattr` stays true to it.
        return self.model.output_names

    @property
    def metrics(self) -> list[Any]:
        """All metrics, those of an own `compute_loss` included."""
        own = list(super().metrics)
        if self._own_compute_loss:  # its `compute_loss` may feed metrics of its own
            known = {id(m) for m in own}
            shared = {"loss", "compile_metrics"}
            own += [m for m in self.model.metrics if id(m) not in known and m.name not in shared]
        return own

    def build(self, input_shape: Any = None) -> None:
        """Builds the user's model."""
        if not self.model.built and input_shape is not None:
            self.model.build(input_shape)
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """The user's model's outputs."""
        return self._forward(inputs, training)

    def compile(
        self,
        optimizer: Any = None,
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        run_eagerly: bool | None = None,
        steps_per_execution: int | None = None,
        jit_compile: Any = None,
        auto_scale_loss: bool = True,
    ) -> None:
        """Configures training, as `keras.Model.compile`.

        What is left out comes from what the model was compiled with, then from the
        recipe. A learning rate that the recipe states is set on any optimizer that has no
        schedule of its own, and so are momentum and weight decay. The user's model is compiled
        alike, with the same optimizer.

        Raises:
            RecipeError: Label smoothing would take the place of a loss of the user's own, or the
                recipe states a number that the optimizer has not.
        """
        before = _keras_compat.compile_arguments(self.model) if self.model.compiled else {}
        settings = self.recipe.optimization
        loss = before.get("loss") if loss is None else loss
        checks.check_smoothing(self.recipe, self._task, loss)
        if loss is None and self._task is not None:
            loss = self._task.loss()
        if metrics is None and weighted_metrics is None:
            metrics, weighted_metrics = before.get("metrics"), before.get("weighted_metrics")
        if loss_weights is None:
            loss_weights = before.get("loss_weights")
        eager = bool(before.get("run_eagerly")) if run_eagerly is None else run_eagerly
        options = {
            "loss": loss,
            "loss_weights": loss_weights,
            "run_eagerly": eager,
            "steps_per_execution": steps_per_execution or self._steps_per_execution(before),
            "jit_compile": self._jit(before, eager) if jit_compile is None else jit_compile,
        }
        with self.scope():
            if optimizer is None:
                optimizer = self._make_optimizer()
            else:
                optimizer = optimizers.with_numbers(keras.optimizers.get(optimizer), settings)
            if auto_scale_loss and self.recipe.compute.precision == "mixed_float16":
                optimizer = precision.scaled(optimizer)
            if settings.cycle_momentum:
                momentum.check_movable(optimizer)
            self._balances = self.recipe.regularization.decay == "balanced"
            if self._balances:
                checks.check_balanced(optimizer, distributed=self.distributed)
            self._moves = momentum.movable(
                optimizer,
                cycled=settings.cycle_momentum,
                steered=self._monitored and not self.distributed,
            )
            super().compile(
                optimizer,
                metrics=checks.copies(metrics),
                weighted_metrics=checks.copies(weighted_metrics),
                auto_scale_loss=auto_scale_loss,
                **options,
            )

        def claim() -> None:
            self.model.compile(
                self.optimizer,
                metrics=checks.copies(metrics),
                weighted_metrics=checks.copies(weighted_metrics),
                auto_scale_loss=False,
                **options,
            )

        # Within a function: Keras would track metrics that the Trainer holds as its own.
        self._claim = claim
        self.claim_model()
        dense = self._task is not None and self._task.dense
        self._pixelwise = dense and checks.is_of_pixels(loss, self._task)
        # Within a function, for the same reason.
        self._scorer_by = lambda kind: selecting.scorer(
            kind, loss, self._task, self._soft_loss, self.model, backend.gradient
        )
        if self.selector is not None:
            selecting.check_loss(loss, self.selector.strategy)
            self.selector.small = selecting.small(self.model, self.recipe.sampling)
            self._scorer = self._scorer_by(self.selector.strategy.score)
        self._free_rate = optimizers.has_free_rate(self.optimizer)
        if self.selector is not None:
            checks.check_lift(self.recipe, moves=self._free_rate and self._scheduled)
        if self._free_rate and settings.learning_rate is not None and not self._monitored:
            self.optimizer.learning_rate = settings.learning_rate
        self._first_rate = None
        if self._free_rate:
            self._first_rate = ops.convert_to_numpy(self.optimizer.learning_rate).copy()
        if self.controls is not None:
            self._own = momentum.numbers(self.optimizer)
            self.take_over(self.recipe)

    def expect(self, data: Resident) -> None:
        """Makes room for what the step remembers of each sample, before it is traced."""
        self._samples = len(data)
        if self.augmenter is not None:
            self.augmenter.samples.assign(len(data))
        # Several devices would each count their own draws.
        if self.selector is not None and not self.distributed:
            classes = selecting.classes_of(data.labels)
            if self.selector.remember(data.key, len(data), classes):
                self.train_function = None

    @property
    def kept_variables(self) -> list[Any]:
        """What else a step moves, beside the variables of its parts."""
        return []

    @property
    def monitored(self) -> bool:
        """Whether a run or a study steers this Trainer, and plans its steps by what one costs."""
        return self._monitored

    def sides(self) -> tuple[int, int]:
        """Height and width of the images that the model was built for.

        Raises:
            RecipeError: It takes any.
        """
        return low_resolution.sides_of(self.model)

    def show_at(self, sides: tuple[int, int] | None) -> bool:
        """Trains on images that are brought to other sides from now on, with a trace for each.

        Args:
            sides: Height and width; `None` for images as they are.

        Returns:
            Whether this was another size before.
        """
        shown = self.resolution
        if sides == shown.sides:
            return False
        shown.functions[shown.sides] = self.train_function
        shown.sides = sides
        if sides is not None and sides not in shown.twins:
            shown.twins[sides] = self._twin(sides)
        self.train_function = shown.functions.get(sides)
        self.make_train_function()
        return True

    def _twin(self, sides: tuple[int, int]) -> Any:
        """The model on images of other sides."""
        return low_resolution.at(self.model, sides)

    def beside(self, batch: int) -> int:
        """How many samples are read beside a batch, to draw from."""
        return 0 if self.selector is None else self.selector.extra(batch)

    def reset_metrics(self) -> None:
        """As Keras' own, with what is shown of sampling."""
        super().reset_metrics()
        if self.selector is not None:
            self.selector.reset()

    def claim_model(self) -> None:
        """Compiles the user's model as this Trainer is, with the same optimizer.

        Of several Trainers around one model the latest to be compiled has its optimizer there.
        """
        with self.scope():
            self._claim()

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        unlabeled: Any = None,
        **options: Any,
    ) -> Any:
        """Trains; takes what `keras.Model.fit` takes, and `Resident` data.

        Without `batch_size` the recipe's is used, where the data are not batched already. A
        schedule ends with the last of `epochs`, and goes on from `initial_epoch`; afterwards
        the optimizer has its rate back.

        Args:
            x: As of `keras.Model.fit`, or `Resident`.
            y: As of `keras.Model.fit`.
            batch_size: Samples in a batch.
            epochs: The last of them.
            verbose: As of `keras.Model.fit`.
            callbacks: As of `keras.Model.fit`.
            unlabeled: Images without labels, for a recipe whose `semisupervised` group makes use
                of them: an array `(images, ...)`, `Resident`, or a `tf.data.Dataset` of batches of
                images or of tuples that begin with them. They are read in an order of their own,
                over and over. Those of another height or width are resized.
            **options: As of `keras.Model.fit`.
        """
        if not self.compiled:
            self.compile()
        options |= {"epochs": epochs, "verbose": verbose}
        managed = self._monitored or self.controls is None
        options["callbacks"] = callbacks if managed else lengths.with_length(self, callbacks)
        own = self.recipe.compute.batch_size
        validation = options.get("validation_data")
        if not self._monitored:  # else a studio reads them beside the batches
            unlabelled.check(self.recipe, unlabeled)
        chooses = unlabeled is not None or self.selector is not None or self.reducer is not None
        if chooses and not isinstance(x, Resident) and y is not None:
            self._held = held(x, y, options, self._held)
            x, y = self._held.data, None
            validation = options.get("validation_data")
        resident = x  # batches of ids hold no reference to the data that they are of
        if isinstance(validation, Resident):
            size = options.get("validation_batch_size") or batch_size or own
            options["validation_data"] = validation.in_order(size)
        start = 0
        if isinstance(x, Resident):
            checks.refuse_with_resident(options)
            self.expect(x)
            size = batch_size or own
            steps = options.setdefault("steps_per_epoch", math.ceil(len(x) / size))
            start = options.get("initial_epoch", 0) * steps
            x = x.shuffled(size, seed=self.seed, start=start, beside=self.beside(size))
            options["shuffle"] = False
        elif chooses and not self._monitored:
            variance_reduced.check_stream(self.reducer, type(x).__name__)
            if self.selector is not None:
                x = selecting.streamed(self.selector, x)
        elif y is not None or hasattr(x, "__array__"):
            options["batch_size"] = batch_size or own
        elif batch_size is not None:
            options["batch_size"] = batch_size  # Keras says why it cannot be
        if not self.trainable_variables and self.model.built:
            raise ModelError(
                "The model has nothing to train.",
                required="at least one trainable weight",
                received=f"{len(self.model.variables)} weights, all frozen",
                advice="set `trainable = True` on the layers to train, then compile again",
            )
        if self.distributed and self.selector is not None:
            x = selecting.split_over_replicas(x, self.selector)
        if unlabeled is not None:
            if self._unlabelled is None or self._unlabelled.of is not unlabeled:
                self._unlabelled = unlabelled.Unlabelled(unlabeled)
            x = unlabelled.beside(
                x,
                self._unlabelled,
                self.recipe.semisupervised.unlabeled,
                seed=self.seed,
                start=start,
                distributed=self.distributed,
            )
            options["shuffle"] = False
        self.start_average()
        self._epoch_iterator = None
        if self.train_function is None:
            self.resolution.functions.clear()
        history = super().fit(x, y, **options)
        del resident
        self.finish_average()
        if not managed and self.recipe.optimization.schedule != "constant":
            self.restore_rate()
        return history

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        **options: Any,
    ) -> Any:
        """Evaluates as `keras.Model.evaluate`, with the averaged weights if there are any."""
        data = x
        if isinstance(x, Resident):
            data, batch_size = x.in_order(batch_size or self.recipe.compute.batch_size), None
        options |= {"batch_size": batch_size, "verbose": verbose}
        if not self.compiled:
            self.compile()
        with self.averaged():
            return super().evaluate(data, y, **options)

    def predict(
        self, x: Any, batch_size: int | None = None, verbose: Any = "auto", **options: Any
    ) -> Any:
        """Predicts as `keras.Model.predict`, with the averaged weights if there are any."""
        data = x
        if isinstance(x, Resident):
            data, batch_size = x.in_order(batch_size or self.recipe.compute.batch_size), None
        options |= {"batch_size": batch_size, "verbose": verbose}
        with self.averaged():
            return super().predict(data, **options)

    def scores(self, data: Any, batch_size: int) -> Any:
        """What the strategy tells samples apart by, as they are and by the weights of evaluation.

        Args:
            data: One batch `(x, y[, sample_weight])`, or of ids.
            batch_size: How many are computed at once.

        Returns:
            `(samples,)` float32.
        """
        assert self._scorer is not None
        batch = gathered(data)
        parts = (batch.x, batch.y, batch.weight)
        found = []
        with self.averaged():
            for start in range(0, int(ops.shape(batch.x)[0]), batch_size):
                x, y, weight = (
                    None if part is None else part[start : start + batch_size] for part in parts
                )
                outputs = ops.cast(self.model(x, training=False), "float32")
                found.append(host(self._scorer(Batch(None, x, y, weight), outputs)))
        return np.concatenate(found)

    def bounds(self, data: Any) -> Any:
        """The upper bounds of samples' gradients, as a step would find them; moves nothing.

        Images are augmented and not mixed, and batch normalization is as in training.

        Args:
            data: One batch, as of a step.

        Returns:
            `(samples,)` float32.
        """
        scorer = self._scorer_by("bound")
        with keras.StatelessScope():
            batch = self._staged(gathered(own_part(data)), self.recipe.compute.batch_size)
            outputs = self._scored(batch.x, self._unlabeled(data))
            return host(scorer(batch, ops.cast(outputs, "float32")))

    # -- The step ------------------------------------------------------------------------

    def train_step(self, data: Any) -> Any:
        """One update: gather, the recipe's stages, loss, gradients, update, average."""
        selector = self.selector
        unlabeled = self._unlabeled(data)
        selection = None if selector is None else self._selected(data, unlabeled)
        batch = self._prepared(data) if selection is None else selection.batch
        batch = dataclasses.replace(batch, unlabeled=unlabeled)
        masks = [] if self.reducer is None else variance_reduced.random_states(self.model)
        loss, y_pred, grads = self._differentiate(batch)
        if self.reducer is not None:
            weights = self.trainable_variables
            grads = self.reducer.corrected(
                data, self._samples, weights, grads, self._gradients_of, masks
            )
        if self.meter is not None:
            self.meter.record(grads, self.optimizer.scale_loss(ops.ones((), "float32")))
        shown = Shown(batch.x, batch.y, y_pred, batch.weight, loss)
        if selection is not None:
            assert selector is not None
            shown = selection.finished(shown)
        _keras_compat.track_loss(self, shown.loss, ops.shape(shown.x)[0])
        limit = self.recipe.regularization.clip_norm
        if limit is not None:
            grads = gradients.clip_by_global_norm(
                grads, self._scaled_limit(limit), backend.over_replicas(grads)
            )
        self._update(grads, shown.loss)
        results = self.compute_metrics(shown.x, shown.y, shown.y_pred, sample_weight=shown.weight)
        return results if selector is None else {**results, **selector.results()}

    def _gradients_of(self, data: Any) -> list[Any]:
        """The gradients of one batch at the weights that a scope may say."""
        return self._differentiate(self._prepared(data))[2]

    def gradients(self, data: Any) -> list[Any]:
        """The gradients of one batch as float32 tensors, neither clipped nor applied."""
        batch = dataclasses.replace(self._prepared(data), unlabeled=self._unlabeled(data))
        _, _, grads = self._differentiate_part(batch)
        scale = self.optimizer.scale_loss(ops.ones((), "float32"))
        return [ops.cast(grad, "float32") / scale for grad in grads if grad is not None]

    def test_step(self, data: Any) -> Any:
        """One batch of evaluation."""
        _, x, y, weight = gather(data)
        return super().test_step((_inputs(x), y, weight))

    def predict_step(self, data: Any) -> Any:
        """One batch of predictions."""
        _, x, _, _ = gather(data)
        return super().predict_step((_inputs(x),))

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The compiled loss, or that of the user's model where it has one of its own."""
        if self._own_compute_loss:
            return _keras_compat.compute_loss(
                self.model, x, y, y_pred, sample_weight, training=training
            )
        sample_weight = self._aligned(sample_weight, y_pred)
        return super().compute_loss(x, y, y_pred, sample_weight, training=training)

    def _prepared(self, data: Any) -> Batch:
        """A batch as the recipe's stages leave it."""
        return self._blended(self._staged(gathered(own_part(data))))

    def _unlabeled(self, data: Any) -> Any:
        """The images without labels beside a batch, augmented as its own; `None` if none count."""
        if self.recipe.semisupervised.batch_norm == unsupervised_batch_norm.OFF:
            return None
        images = unlabeled_part(data)
        if images is None:
            raise unlabelled.missing(self.recipe)
        images, own = _inputs(images), sample_spec(own_part(data))
        sides = keras.utils.unpack_x_y_sample_weight(own)[0].shape[1:3]
        if len(images.shape) == 4 and images.shape[1:3] != sides:
            images = low_resolution.resized(images, sides)
        return images if self.augmenter is None else self.augmenter.images(images)

    def _blended(self, batch: Batch) -> Batch:
        """A batch whose images are mixed, where the policy does."""
        if self.augmenter is not None and self.augmenter.mixes:
            return self.augmenter.mix(batch)
        return batch

    def _staged(self, batch: Batch, size: Any = None) -> Batch:
        """A batch as the stages before mixing leave it.

        Args:
            batch: As it was gathered.
            size: Samples of a step, where the batch has others beside them.
        """
        if self.augmenter is not None:
            done = self._done(ops.shape(batch.x)[0] if size is None else size)
            weigh = self._pixelwise and not self._own_compute_loss
            batch = self.augmenter.augment(batch, done, weigh=weigh)
        for stage in self._stages:
            batch = stage(batch)
        return batch

    def _smoothing(self) -> Any:
        """The amount of label smoothing, where it is no constant of the trace."""
        assert self.controls is not None
        return self.controls.label_smoothing.value

    def _done(self, batch: Any) -> Any:
        """Samples that came before this batch, on all devices together."""
        steps = self.optimizer.iterations if self.controls is None else self.controls.step
        replicas = 1
        if self._distribute_strategy is not None:
            replicas = self._distribute_strategy.num_replicas_in_sync
        return ops.cast(steps, "int64") * ops.cast(batch, "int64") * replicas

    def _selected(self, data: Any, unlabeled: Any = None) -> Selection:
        """The samples that the step is on, where a strategy chooses them."""
        selector, scorer, controls = self.selector, self._scorer, self.controls
        assert selector is not None and scorer is not None and controls is not None
        stages = Stages(
            gathered=gathered,
            staged=self._staged,
            blended=self._blended,
            forward=lambda x: self._scored(x, unlabeled),
            data_loss=self._data_loss,
            drawing=() if self.augmenter is None else (self.augmenter.seeds.state,),
            # Those of smaller images are not those of evaluation.
            statistics=[] if selector.small else batch_norm.statistics_of(self.model),
            output_shape=selecting.output_shape(self.model, self._task),
            micro_batches=self.recipe.compute.accumulate,
        )
        choose = presampled if selector.presamples else remembered
        return choose(selector, scorer, stages, data, controls.step.value, controls.progress())

    def _scored(self, x: Any, unlabeled: Any) -> Any:
        """Outputs of images that are scored, as in training."""
        if self.selector is None or self.selector.small is None:
            # Scores know of no gradient, so that one pass does whatever the form.
            run = functools.partial(self._forward, training=True)
            both = unlabeled is not None
            return unsupervised_batch_norm.joint(run, x, unlabeled) if both else run(x)
        twin, sides = self.selector.small
        return self._forward(low_resolution.resized(x, sides), True, twin)

    def _output_of(self, batch: Batch) -> Any:
        """The outputs of a batch, as in training."""
        if batch.unlabeled is None:
            return self._forward(batch.x, True)

        run = functools.partial(self._forward, training=True)
        form = self.recipe.semisupervised.batch_norm
        if form == "joint":
            return unsupervised_batch_norm.joint(run, batch.x, batch.unlabeled)
        return unsupervised_batch_norm.two_step(
            run,
            batch.x,
            batch.unlabeled,
            batch_norm.layers_of(self.model),
            through=form == "straight_through",
        )

    def _forward(self, x: Any, training: bool | None, model: Any = None) -> Any:
        sides = self.resolution.sides
        if training and model is None and sides is not None:
            x, model = low_resolution.resized(x, sides), self.resolution.twins[sides]
        model = model or self.model
        if not training:
            return self._run_model(x, training, model)
        with contextlib.ExitStack() as stack:
            stack.enter_context(precision.computing(self.model, self.recipe.compute.precision))
            if self.controls is not None and not self.distributed:
                layers = batch_norm.layers_of(self.model)
                value = self.controls.batch_norm_momentum.value
                pace = self.controls.statistics_pace.value
                stack.enter_context(batch_norm.moving(layers, value, pace))
            if self._drops and self.controls is not None:
                factor = self.controls.dropout.value
                stack.enter_context(dropout.moving(dropout.layers_of(self.model), factor))
            return self._run_model(x, training, model)

    def _run_model(self, x: Any, training: bool | None, model: Any) -> Any:
        if _keras_compat.has_training_argument(model):
            return model(x, training=training)
        return model(x)

    def _loss_of(self, batch: Batch, y_pred: Any) -> Any:
        if self._soft_loss is None or batch.target is None:
            return _keras_compat.compute_loss(self, batch.x, batch.y, y_pred, batch.weight)
        loss = self._soft_loss(batch.target, y_pred, sample_weight=batch.weight)
        return sum(_keras_compat.additional_losses(self), start=loss)

    def _data_loss(self, batch: Batch, y_pred: Any) -> Any:
        """The mean loss of a batch, without penalties."""
        if self._soft_loss is not None and batch.target is not None:
            return self._soft_loss(batch.target, y_pred, sample_weight=batch.weight)
        weight = self._aligned(batch.weight, y_pred)
        return _keras_compat.data_loss(self, batch.y, y_pred, weight)

    def _aligned(self, weight: Any, y_pred: Any) -> Any:
        """Weights of samples, for each of whom a loss has many places."""
        # Keras would line up weights (batch,) of masks with the width.
        chosen = self.selector is not None and len(y_pred.shape) > 2
        if weight is None or not (self._pixelwise or chosen):
            return weight
        return align(weight, len(y_pred.shape) - 1)

    def _differentiate(self, batch: Batch) -> tuple[Any, Any, list[Any]]:
        """Loss, outputs and (scaled) gradients, over all micro-batches."""
        return accumulated(batch, self.recipe.compute.accumulate, self._differentiate_part)

    def _differentiate_part(self, batch: Batch) -> tuple[Any, Any, list[Any]]:
        def function() -> tuple[Any, Any]:
            y_pred = self._output_of(batch)
            loss = self._loss_of(batch, y_pred)
            return self.optimizer.scale_loss(loss), (loss, y_pred)

        _, (loss, y_pred), grads = backend.value_and_grad(
            function, lambda: self.trainable_variables
        )
        return loss, y_pred, grads

    def _update(self, grads: list[Any], loss: Any) -> None:
        moved: dict[str, Any] = {}
        if self.controls is not None:
            share = self.controls.share()
            if self._free_rate and self._scheduled:
                rate = self.controls.rate(share)
                if self.selector is not None:
                    rate = rate * self.selector.lift.value
                self.controls.latest.assign(rate)
                self.optimizer.learning_rate.assign(rate)
            if self._moves["momentum"]:
                moved["value"] = self.controls.momentum(share)
            if self._moves["weight_decay"]:
                moved["weight_decay"] = self.controls.weight_decay.value
        variables = self.trainable_variables
        with contextlib.ExitStack() as stack:
            if self._balances:
                if self._moves["weight_decay"] or momentum.numbers(self.optimizer)["weight_decay"]:
                    moved["weight_decay"] = ops.zeros(())
                stack.enter_context(balanced_decay.balancing(variables))
            stack.enter_context(momentum.moving(self.optimizer, **moved))
            if self.reducer is not None and self.reducer.reduction.accelerated:
                self.reducer.update(variables, grads, self.optimizer.learning_rate)
                self.optimizer.iterations.assign_add(1)
            else:
                self.optimizer.apply_gradients(zip(grads, variables, strict=True))
        if self._average is not None:
            if self.controls is None:
                done = ops.maximum(
                    self.optimizer.iterations.value - 1, 0
                )  # this one counts already
            else:
                done = self.controls.step.value
            self._average.update(done)
        if self.controls is not None:
            self.controls.record(loss)

    def _scaled_limit(self, limit: float) -> Any:
        """The clipping limit in the units of scaled gradients."""
        return self.optimizer.scale_loss(ops.convert_to_tensor(limit, "float32"))

    # -- State ---------------------------------------------------------------------------

    def restore_rate(self) -> None:
        """Puts the optimizer's rate back to what it was when it was compiled.

        A schedule ends near 0, and a model with such an optimizer would not train further.
        """
        if self._first_rate is not None:
            self.optimizer.learning_rate = float(self._first_rate)

    @property
    def epoch_iterator(self) -> Any:
        """Keras' iterator of the fit that runs."""
        return self._epoch_iterator

    def take_over(self, recipe: Recipe) -> None:
        """Goes on by a recipe that differs in numbers alone.

        What it leaves open is the optimizer's own, or the layers'.

        Args:
            recipe: One for which the step needs no other trace.
        """
        self.recipe = recipe
        assert self.controls is not None
        if self.augmenter is not None:
            self.augmenter.take_over(recipe.augmentation.policy)
        if self.selector is not None:
            self.selector.take_over(recipe.sampling)
        numbers = momentum.set_numbers(self.optimizer, recipe.optimization, self._own)
        rate = ops.convert_to_numpy(self.optimizer.learning_rate) if self._free_rate else None
        self.controls.take_over(recipe, rate=rate, **numbers)

    @property
    def distributed(self) -> bool:
        """Whether the model was made under a distribution strategy."""
        return self._distribute_strategy is not None

    def scope(self) -> Any:
        """The scope of the distribution strategy under which the model was made."""
        strategy = self._distribute_strategy
        return contextlib.nullcontext() if strategy is None else strategy.scope()

    def _make_optimizer(self) -> Any:
        """The recipe's optimizer; where it states none, the one the model came with."""
        settings = self.recipe.optimization
        compiled = self.model.optimizer if self.model.compiled else None
        if compiled is not None and self.recipe.mark("optimization.optimizer").origin == "default":
            settings = dataclasses.replace(settings, optimizer=optimizers.COMPILED)
        return optimizers.build(settings, compiled)

    def _steps_per_execution(self, before: Mapping[str, Any]) -> int:
        own = self.recipe.compute.steps_per_execution
        return own if own > 1 else int(before.get("steps_per_execution") or 1)

    def _jit(self, before: Mapping[str, Any], eager: bool) -> Any:
        if self.recipe.compute.xla:
            return not eager
        strategy = None if self.selector is None else self.selector.strategy
        if self.reducer is not None or getattr(strategy, "resizes", False):
            return False  # XLA wants all sizes; of the recipe's own XLA that is refused before
        return bool(before.get("jit_compile", False)) and not eager

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        if iterator is None:
            super()._maybe_symbolic_build(iterator=iterator, data_batch=data_batch)
            return
        if self._epoch_iterator is None:  # the first of a fit; evaluations bring their own
            self._epoch_iterator = iterator
        if self._distribute_strategy is None or _keras_compat.is_fully_built(self):
            return
        spec = _keras_compat.element_spec(iterator)
        _keras_compat.symbolic_build(self, sample_spec(own_part(spec)))


def gathered(data: Any) -> Batch:
    """The samples of a batch of data."""
    ids, x, y, weight = gather(data)
    return Batch(ids, _inputs(x), y, weight)


def _inputs(x: Any) -> Any:
    return as_input(x) if hasattr(x, "dtype") else x
