"""What a Trainer takes and refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from etude.errors import ModelError, RecipeError
from etude.inspection.compiled import family_of
from etude.inspection.model import check_own_fit
from etude.optim import _registry as optimizers
from etude.optim import momentum
from etude.optim.schedules import SCHEDULES
from etude.optim.variance_reduction import REDUCTIONS
from etude.recipe import Recipe
from etude.sampling import strategies
from etude.training import _keras_compat, precision

_REFUSED = (
    "train_step", "test_step", "predict_step", "compute_metrics", "make_train_function",
    "make_test_function", "make_predict_function",
)  # fmt: skip
_CROSSENTROPIES = (
    "binary_crossentropy", "categorical_crossentropy", "sparse_categorical_crossentropy",
)  # fmt: skip
# How Keras names a mean over the batch.
_MEANS = ("sum_over_batch_size", "mean")
_LOSSES = (
    keras.losses.BinaryCrossentropy, keras.losses.CategoricalCrossentropy,
    keras.losses.SparseCategoricalCrossentropy,
)  # fmt: skip


def copies(metrics: Any) -> Any:
    """Metrics for another model: the same, with their own state."""

    def copy(metric: Any) -> Any:
        if isinstance(metric, keras.metrics.Metric):
            return _keras_compat.copy_metric(metric)
        return metric

    if isinstance(metrics, list | tuple):
        return [copies(m) for m in metrics]
    if isinstance(metrics, dict):
        return {name: copies(m) for name, m in metrics.items()}
    return copy(metrics)


def check_model(model: Any) -> None:
    """Raises a `ModelError` for what is no Keras model, or brings a step of its own."""
    if not isinstance(model, keras.Model):
        raise ModelError(
            "The Trainer needs a Keras model.",
            required="a keras.Model instance",
            received=f"{type(model).__module__}.{type(model).__name__}",
            advice="pass the model itself; load a file by `keras.models.load_model`",
        )
    own = [n for n in _REFUSED if getattr(type(model), n) is not getattr(keras.Model, n)]
    if own:
        raise ModelError(
            f"{type(model).__name__} brings its own {', '.join(own)}.",
            required="a model whose training is Keras' own: Étude's step takes its place",
            received=f"a model that overrides {', '.join(own)}",
            advice="move what it does into `call`, `compute_loss` (which is honoured), a "
            "compiled loss or a callback; or train it with its own `fit`",
        )
    check_own_fit(model)


def check_parts(
    model: Any, recipe: Recipe, class_weights: Mapping[int, float] | None, *, monitored: bool
) -> None:
    """Raises a `RecipeError` for what a Trainer cannot do with this model, or by itself."""
    compute, settings = recipe.compute, recipe.regularization
    if compute.accumulate > compute.batch_size:
        raise RecipeError(
            "There are more micro-batches than samples in a batch.",
            required=f"accumulate: at most {compute.batch_size}, the batch size",
            received=f"accumulate: {compute.accumulate}",
            advice="lower `accumulate`, or raise `batch_size`",
        )
    if compute.precision != precision.OWN and precision.obstacle(model) is not None:
        raise RecipeError(
            f"The model cannot be trained in {compute.precision}.",
            required="a built Functional or Sequential model with layers in float32 before its "
            "head, or `compute.precision: own`",
            received=f"{type(model).__name__}: {precision.obstacle(model)}",
            advice=precision.remedy(model),
        )
    own_loss = type(model).compute_loss is not keras.Model.compute_loss
    if settings.label_smoothing and own_loss:
        raise RecipeError(
            "Label smoothing would take the place of the model's own `compute_loss`.",
            required="label_smoothing: 0 for a model with a loss of its own",
            received=f"label_smoothing: {settings.label_smoothing}",
            advice="smooth the labels within `compute_loss`, or drop the value",
        )
    if recipe.sampling.class_weight != "none" and class_weights is None:
        raise RecipeError(
            "A Trainer by itself does not know how often each class occurs.",
            required="`class_weights=` beside a recipe with class_weight: balanced",
            received="no weights",
            advice="pass `class_weights={0: …, 1: …}`, or use `etude.fit`",
        )
    if settings.early_stopping != "none" and not monitored:
        raise RecipeError(
            "A Trainer by itself does not stop early.",
            required="early_stopping: none",
            received=f"early_stopping: {settings.early_stopping}",
            advice="use `keras.callbacks.EarlyStopping`, or `etude.fit`",
        )


def check_xla(recipe: Recipe) -> None:
    """Raises a `RecipeError` for sampling in sizes that XLA would have to know beforehand."""
    name = recipe.sampling.strategy
    resizes = getattr(strategies.STRATEGIES.get(name), "resizes", False)
    if recipe.compute.xla and (resizes or name in REDUCTIONS):
        raise RecipeError(
            f"The strategy {name!r} computes on as many samples as it finds right in each step.",
            required="compute.xla: false, or another strategy",
            received="compute.xla: true",
            advice="leave XLA out; XLA compiles steps of one size",
        )


def check_lift(recipe: Recipe, *, moves: bool) -> None:
    """Raises a `RecipeError` for a change of the learning rate that the step would not make.

    Args:
        recipe: That chooses samples.
        moves: Whether the step sets the optimizer's rate.
    """
    if recipe.sampling.rate != 1.0 and not moves:
        raise RecipeError(
            "The learning rate is not the step's to change while samples are chosen.",
            required="sampling.rate: 1, or a recipe with a schedule and an optimizer without one",
            received=f"sampling.rate: {recipe.sampling.rate:g}",
            advice="set `optimization.schedule`, for example to one_cycle, or leave `rate` out",
        )


def check_smooths(recipe: Recipe, task: Any) -> None:
    """Raises a `RecipeError` for label smoothing of a task that has none."""
    if recipe.regularization.label_smoothing and task is not None and not task.smooths:
        raise RecipeError(
            f"The labels of task {task.name!r} cannot be smoothed.",
            required="label_smoothing: 0, as there are no classes to spread a label over",
            received=f"label_smoothing: {recipe.regularization.label_smoothing}",
            advice="leave `regularization.label_smoothing` out",
        )


def check_smoothing(recipe: Recipe, task: Any, loss: Any) -> None:
    """Raises a `RecipeError` where soft labels would replace a loss that is not the task's.

    Or where labels of the task have no soft form.
    """
    check_smooths(recipe, task)
    if not softens(recipe) or task is None or loss is None or is_crossentropy(loss, task):
        return
    own = keras.losses.get(loss) if isinstance(loss, str) else loss
    raise RecipeError(
        "Label smoothing or mixing would take the place of your own loss.",
        required="neither of them, or the cross-entropy of the task",
        received=f"a compiled {getattr(own, '__name__', type(own).__name__)}",
        advice="give your loss its own label smoothing, or compile without a loss",
    )


def check_balanced(optimizer: Any, *, distributed: bool) -> None:
    """Raises a `RecipeError` where decay cannot be balanced.

    Args:
        optimizer: The optimizer, whose own decay must be one that can be taken away.
        distributed: Whether several devices train.
    """
    if distributed:
        raise RecipeError(
            "Balanced weight decay does not train on several devices.",
            required="one device",
            received="a distribution strategy",
            advice="leave `regularization.decay` at `constant`",
        )
    if momentum.numbers(optimizer)["weight_decay"] and not optimizers.is_known(optimizer):
        raise RecipeError(
            "Balanced weight decay takes the place of an optimizer's own that is not known here.",
            required="an optimizer of Keras or of Étude, or one without `weight_decay`",
            received=type(optimizers.unwrapped(optimizer)).__name__,
            advice="leave its `weight_decay` out",
        )


def is_crossentropy(loss: Any, task: Any) -> bool:
    """Whether a loss is the task's own, or a plain cross-entropy, which it is for soft labels.

    Not one that smooths by itself, sums over the batch, or is of another family than the task's:
    the task's loss for soft labels would be another loss in its place.
    """
    own = keras.losses.get(loss) if isinstance(loss, str) else loss
    if getattr(own, "label_smoothing", 0.0) or getattr(own, "reduction", _MEANS[0]) not in _MEANS:
        return False
    plain = task.loss()
    if type(own) is type(plain):
        return True
    if task.measures:
        return False
    known = type(own) in _LOSSES or getattr(own, "__name__", "") in _CROSSENTROPIES
    return known and (family_of(own) == "binary") == (family_of(plain) == "binary")


def is_of_pixels(loss: Any, task: Any) -> bool:
    """Whether a loss of maps has a value, and takes a weight, for every pixel.

    Cross-entropies do, and the losses of numbers that are Keras' own or the task's.
    """
    if family_of(loss) is not None:
        return True
    if not task.measures or loss is None:
        return False
    kind = type(loss) if isinstance(loss, keras.losses.Loss) else loss
    return isinstance(loss, str) or kind is type(task.loss()) or _is_kerass(kind)


def _is_kerass(kind: Any) -> bool:
    return str(getattr(kind, "__module__", "")).split(".")[0] == "keras"


def takes_soft_labels(problem: Any) -> bool:
    """Whether studies may smooth and mix a problem's labels: one for an image, in such a loss."""
    if type(problem.model).compute_loss is not keras.Model.compute_loss:
        return False
    return not problem.task.dense and is_crossentropy(problem.loss, problem.task)


def softens(recipe: Recipe) -> bool:
    """Whether soft targets take the labels' place in the loss."""
    return bool(recipe.regularization.label_smoothing) or recipe.augmentation.policy.mixes


def check_recipe(recipe: Recipe) -> None:
    """Raises a `RecipeError` for names that no registry knows."""
    optimizers.check_name(recipe.optimization.optimizer)
    check_xla(recipe)
    known = [strategies.UNIFORM, *strategies.STRATEGIES, *REDUCTIONS]
    if recipe.sampling.strategy not in known:
        raise RecipeError(
            "There is no such strategy of sampling.",
            required=f"one of {known}",
            received=repr(recipe.sampling.strategy),
            advice="mend `sampling.strategy`",
        )
    if recipe.optimization.schedule not in SCHEDULES:
        raise RecipeError(
            f"The recipe's schedule {recipe.optimization.schedule!r} is not known.",
            required=f"one of {list(SCHEDULES)}",
            received=repr(recipe.optimization.schedule),
            advice="mend the name",
        )


def refuse_with_resident(options: Mapping[str, Any]) -> None:
    """Raises a `ModelError` for arguments of `fit` that need the samples themselves."""
    for name in ("class_weight", "sample_weight", "validation_split"):
        if options.get(name):
            raise ModelError(
                f"`{name}` does not go with resident data.",
                required=f"`fit` without {name}",
                received=f"{name}={options[name]!r}"[:80],
                advice="put sample weights into the Resident's arrays, class weights into "
                "`Trainer(class_weights=...)`, and give validation data",
            )
