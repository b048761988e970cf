"""What a Trainer takes and refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from etude.errors import ModelError, RecipeError
from etude.optim import _registry as optimizers
from etude.optim.schedules import SCHEDULES
from etude.recipe import Recipe
from etude.training import _keras_compat

_REFUSED = (
    "train_step", "test_step", "predict_step", "compute_metrics", "make_train_function",
    "make_test_function", "make_predict_function",
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


def check_recipe(recipe: Recipe) -> None:
    """Raises a `RecipeError` for names that no registry knows."""
    optimizers.check_name(recipe.optimization.optimizer)
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
