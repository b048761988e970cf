"""Variance reduction in the step: an anchor, the mean gradient there, and when both are renewed.

The large batch that this takes is one pass over it, in a branch of a `cond`; a step with one is as
long as so many steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from etude.errors import RecipeError
from etude.optim import variance_reduction as reductions
from etude.recipe import Recipe, Sampling
from etude.training import _keras_compat

Differentiate = Callable[[Any], list[Any]]
"""Gives the gradients of a batch of data, one per weight, `None` where there is none."""


class Reducer:
    """Corrects gradients by those at an anchor.

    Args:
        settings: Of the recipe.
        weights: The model's trainable ones.
        seed: Of the random parts.

    Attributes:
        reduction: By which method.
        left: Steps until the next large batch.
        times: Large batches so far.
        done: Updates of an accelerated method so far.
        anchor, mean, y, z: One of each for each weight; the last two of an accelerated method.
    """

    def __init__(self, settings: Sampling, weights: Sequence[Any], seed: int) -> None:
        self.reduction = reductions.REDUCTIONS[settings.strategy]
        self.seeds = keras.random.SeedGenerator((seed + 2) % 2**32)
        own = settings.presample
        self.presample = _variable(self.reduction.presample if own is None else own, "presample")
        self.left = _variable(0, "left", "int32")
        self.times = _variable(0, "times", "int32")
        self.done = _variable(0, "done", "int32")
        coupled = weights if self.reduction.accelerated else ()
        self.anchor = [_like(weight, "anchor") for weight in weights]
        self.mean = [_like(weight, "mean") for weight in weights]
        self.y = [_like(weight, "y") for weight in coupled]
        self.z = [_like(weight, "z") for weight in coupled]

    @property
    def variables(self) -> list[Any]:
        """Its state, in a fixed order."""
        own = [self.seeds.state, self.presample, self.left, self.times, self.done]
        return [*own, *self.anchor, *self.mean, *self.y, *self.z]

    def corrected(
        self,
        data: Mapping[str, Any],
        size: int,
        weights: Sequence[Any],
        gradients: Sequence[Any],
        differentiate: Differentiate,
        masks: Sequence[tuple[Any, Any]] = (),
    ) -> list[Any]:
        """The gradients of a batch, corrected; where it is time, by a new anchor.

        Args:
            data: The batch, of ids.
            size: Samples of the set.
            weights: The model's.
            gradients: Of the batch.
            differentiate: Gradients at whatever values weights have within a stateless scope.
            masks: From `random_states`, before the gradients were taken.
        """
        (key, ids), *_ = data.items()
        batch = ops.shape(ids)[0]
        due = self.left.value <= 0
        large = reductions.large_batch(
            self.reduction, size, batch, self.times.value, self.presample.value
        )
        uniform = keras.random.uniform((), seed=self.seeds)

        def renewed() -> list[Any]:
            # Of the whole set too: batches of a sorted one would have statistics of one class.
            with keras.StatelessScope():  # the state has moved on by `uniform` alone
                order = keras.random.shuffle(ops.arange(size, dtype="int32"), seed=self.seeds)
            return _mean_gradient(differentiate, key, order, large, batch, weights)

        def kept() -> list[Any]:
            return [ops.copy(mean.value) for mean in self.mean]

        means = ops.cond(due, renewed, kept)
        anchors = [
            ops.where(due, weight.value, anchor.value)
            for weight, anchor in zip(weights, self.anchor, strict=True)
        ]
        # What is dropped at the weights is dropped at the anchor, or they would differ by that.
        with keras.StatelessScope([*zip(weights, anchors, strict=True), *masks]):
            at_anchor = differentiate(data)
        found = reductions.corrected(gradients, at_anchor, means)
        left = ops.where(
            due,
            reductions.steps_between(self.reduction, large, batch, uniform),
            self.left.value,
        )
        self.left.assign(left - 1)
        self.times.assign_add(ops.cast(due, "int32"))
        for variables, values in ((self.mean, means), (self.anchor, anchors)):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
        return found

    def update(self, weights: Sequence[Any], gradients: Sequence[Any], rate: Any) -> None:
        """The update of an accelerated method, in the place of the optimizer's.

        Args:
            weights: The model's.
            gradients: Corrected.
            rate: Of learning.
        """
        begins = ops.equal(self.done.value, 0)  # both iterates, where the weights are
        for place, (weight, gradient) in enumerate(zip(weights, gradients, strict=True)):
            if gradient is None:
                continue
            x = weight.value
            y, z = (ops.where(begins, x, part[place].value) for part in (self.y, self.z))
            anchor = self.anchor[place].value
            after = reductions.coupled(x, y, z, anchor, ops.cast(gradient, x.dtype), rate)
            for variable, value in zip((weight, self.y[place], self.z[place]), after, strict=True):
                variable.assign(value)
        self.done.assign_add(1)


def random_states(model: Any) -> list[tuple[Any, Any]]:
    """Each state that a model's layers draw by (dropout's), and its value now."""
    weights = {id(weight) for weight in model.weights}
    return [
        (variable, ops.copy(variable.value))
        for variable in model.variables
        if id(variable) not in weights and not keras.backend.is_float_dtype(variable.dtype)
    ]


def made(model: Any, recipe: Recipe, seed: int) -> Reducer | None:
    """The reducer of a Trainer, or `None` for another way of sampling.

    Raises:
        RecipeError: It cannot be carried out with this model and recipe.
    """
    if recipe.sampling.strategy not in reductions.REDUCTIONS:
        return None
    why = None
    if _keras_compat.distribute_strategy(model) is not None:
        why = "a distribution strategy"
    elif recipe.augmentation.policy.draws_anything or recipe.augmentation.policy.mixes:
        why = "augmentation, which draws anew for the anchor"
    elif recipe.compute.precision == "mixed_float16":
        why = "mixed_float16, whose gradients are scaled"
    elif not model.built:
        why = "a model that is not built"
    if why is not None:
        raise RecipeError(
            "Variance cannot be reduced by an anchor here.",
            required="a built model on one device, images as they are, float32 or bfloat16",
            received=why,
            advice=f"change that, or the strategy {recipe.sampling.strategy!r}",
        )
    return Reducer(recipe.sampling, model.trainable_variables, seed)


def check_stream(reducer: Reducer | None, received: str) -> None:
    """Raises a `RecipeError` where a stream would have to be read from its beginning in a step."""
    if reducer is not None:
        raise RecipeError(
            f"The strategy {reducer.reduction.name!r} computes on large parts of the set at once.",
            required="data in memory: arrays, or `Resident`",
            received=received,
            advice="hold the data in memory, or take another strategy",
        )


def _mean_gradient(
    differentiate: Differentiate,
    key: str,
    order: Any,
    large: Any,
    batch: Any,
    weights: Sequence[Any],
) -> list[Any]:
    """The mean gradient of the first `large` samples of an order, zeros for what has none."""
    here = [(weight, weight.value) for weight in weights]  # for penalties on them
    blank = [ops.zeros(weight.shape, weight.dtype) for weight in weights]

    def body(index: Any, total: list[Any]) -> list[Any]:
        part = order[index * batch : ops.minimum((index + 1) * batch, large)]
        with keras.StatelessScope(here):
            found = differentiate({key: ops.cast(part, "int64")})
        share = ops.cast(ops.size(part), "float32") / ops.cast(large, "float32")
        return [
            t if g is None else t + g * ops.cast(share, g.dtype)
            for t, g in zip(total, found, strict=True)
        ]

    count = (large + batch - 1) // batch
    return list(ops.fori_loop(0, count, body, blank))


def _like(weight: Any, name: str) -> Any:
    return keras.Variable(
        np.zeros(weight.shape), dtype=weight.dtype, trainable=False, name=f"{weight.name}_{name}"
    )


def _variable(value: Any, name: str, dtype: str = "float32") -> Any:
    return keras.Variable(value, dtype=dtype, trainable=False, name=name)
