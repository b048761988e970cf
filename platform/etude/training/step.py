"""One training step: a pipeline of pure stages that the recipe switches on.

    gather → augment → score → draw → mix → forward → loss → gradients → decay → update
    → average

`gather` brings a batch; the stages up to `mix` turn a batch into a batch; the rest is
differentiation and update. Stages that no recipe can ask for yet have no row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from etude.errors import RecipeError

if TYPE_CHECKING:
    from etude.recipe import Recipe
    from etude.tasks._base import Task


@dataclasses.dataclass(frozen=True)
class Batch:
    """What travels through the step.

    Attributes:
        ids: `(batch,)` identity of the samples; `None` when the data bring none.
        x: Images.
        y: Labels as the user gave them.
        weight: `(batch,)` or per-pixel weights, or `None`.
        target: Soft targets that take the labels' place in the loss, or `None`.
    """

    ids: Any
    x: Any
    y: Any
    weight: Any
    target: Any = None


Stage = Callable[[Batch], Batch]


def class_weighting(task: Task, weights: Mapping[int, float]) -> Stage:
    """The stage that multiplies each sample's weight by its class' weight."""

    def stage(batch: Batch) -> Batch:
        factor = task.class_weights(batch.y, weights)
        weight = factor if batch.weight is None else _times(factor, batch.weight)
        return dataclasses.replace(batch, weight=weight)

    return stage


def label_smoothing(task: Task, amount: float) -> Stage:
    """The stage that softens the labels for the loss; metrics see the labels themselves."""

    def stage(batch: Batch) -> Batch:
        return dataclasses.replace(batch, target=task.soften(batch.y, amount))

    return stage


def stages(
    recipe: Recipe, task: Task | None, class_weights: Mapping[int, float] | None
) -> tuple[Stage, ...]:
    """The stages between `gather` and `forward` that a recipe asks for, in order.

    Raises:
        RecipeError: A stage needs to know the task, and none is given.
    """
    wanted: list[Stage] = []
    smoothing = recipe.regularization.label_smoothing
    if task is None:
        for name, value in (("label_smoothing", smoothing), ("class_weight", class_weights)):
            if value:
                raise RecipeError(
                    f"The recipe's {name} needs to know what the labels mean.",
                    required="a task",
                    received="a Trainer without one",
                    advice="make it as `etude.Trainer(model, recipe, task=problem.task)`, "
                    "or leave that value out",
                )
        return ()
    if class_weights:
        wanted.append(class_weighting(task, class_weights))
    if smoothing:
        wanted.append(label_smoothing(task, smoothing))
    return tuple(wanted)


def _times(factor: Any, weight: Any) -> Any:
    """Per-sample weights times per-sample or per-pixel factors."""
    from keras import ops

    weight = ops.cast(weight, factor.dtype)
    while len(weight.shape) < len(factor.shape):
        weight = ops.expand_dims(weight, -1)
    return factor * weight
