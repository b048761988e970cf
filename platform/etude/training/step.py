"""One training step: a pipeline of pure stages that the recipe switches on.

    gather → augment → score → draw → mix → forward → loss → gradients → decay → update
    → balance → average

`gather` brings a batch; the stages up to `mix` turn a batch into a batch; the rest is
differentiation and update. Stages that no recipe can ask for yet have no row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from etude.errors import RecipeError
from etude.training import gradients

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
        unlabeled: Images that count in the statistics of batch normalization alone, or `None`.
    """

    ids: Any
    x: Any
    y: Any
    weight: Any
    target: Any = None
    unlabeled: Any = None


Stage = Callable[[Batch], Batch]


def class_weighting(task: Task, weights: Mapping[int, float]) -> Stage:
    """The stage that multiplies each sample's weight by its class' weight."""

    def stage(batch: Batch) -> Batch:
        factor = task.class_weights(batch.y, weights)
        weight = factor if batch.weight is None else _times(factor, batch.weight)
        return dataclasses.replace(batch, weight=weight)

    return stage


def label_smoothing(task: Task, amount: Callable[[], Any]) -> Stage:
    """The stage that softens the labels for the loss; metrics see the labels themselves."""

    def stage(batch: Batch) -> Batch:
        return dataclasses.replace(batch, target=task.soften(batch.y, amount()))

    return stage


def stages(
    recipe: Recipe,
    task: Task | None,
    class_weights: Mapping[int, float] | None,
    smoothing: Callable[[], Any] | None = None,
) -> tuple[Stage, ...]:
    """The stages between `gather` and `forward` that a recipe asks for, in order.

    Args:
        recipe: What is asked for.
        task: What the labels mean.
        class_weights: Weight of each class, or `None`.
        smoothing: Gives the amount of label smoothing while the step is traced, where it may
            change without another trace; else it is the recipe's.

    Raises:
        RecipeError: A stage needs to know the task, and none is given.
    """
    wanted: list[Stage] = []
    amount = recipe.regularization.label_smoothing
    mixes = recipe.augmentation.policy.mixes
    if task is None:
        needy = {"label_smoothing": amount, "class_weight": class_weights, "mixing": mixes}
        for name, value in needy.items():
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
    if smoothing is not None:
        wanted.append(label_smoothing(task, smoothing))
    elif amount or mixes:
        wanted.append(label_smoothing(task, lambda: amount))
    return tuple(wanted)


def accumulated(
    batch: Batch, count: int, differentiate: Callable[[Batch], tuple[Any, Any, list[Any]]]
) -> tuple[Any, Any, list[Any]]:
    """Loss, outputs and gradients of a batch that is computed in parts.

    Args:
        batch: All of it.
        count: How many micro-batches it is cut into.
        differentiate: Gives loss, outputs and gradients of one of them.

    Returns:
        The losses' and gradients' means, weighted by the samples of each part, and all outputs.
    """
    if count == 1:
        return differentiate(batch)
    from keras import ops

    loss: Any = 0.0
    outputs: list[Any] = []
    grads: list[Any] | None = None
    for index in range(count):
        parts = {}
        share: Any = None
        for name in ("unlabeled", "x", "y", "weight", "target"):  # the share is that of labels
            value = getattr(batch, name)
            if value is not None:
                value, share = gradients.micro_batch(value, index, count)
            parts[name] = value
        part_loss, y_pred, part_grads = differentiate(Batch(ids=None, **parts))
        loss = loss + part_loss * ops.cast(share, part_loss.dtype)
        grads = gradients.weighted_sum(grads, part_grads, share)
        outputs.append(y_pred)
    y_pred = ops.concatenate(outputs, axis=0)[: ops.shape(batch.x)[0]]
    return loss, y_pred, grads or []


def _times(factor: Any, weight: Any) -> Any:
    """Per-sample weights times per-sample or per-pixel factors."""
    from keras import ops

    weight = ops.cast(weight, factor.dtype)
    while len(weight.shape) < len(factor.shape):
        weight = ops.expand_dims(weight, -1)
    return factor * weight
