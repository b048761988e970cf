"""One step's choice of samples: read more than a batch, score, draw, and say what came of it.

All of it is in the compiled step. What costs time is in one branch of a `cond`, which changes
nothing: what its passes moved (statistics of batch normalization, the state of draws) it returns.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from etude.data.resident import own_part, parted
from etude.errors import RecipeError
from etude.sampling import drawing
from etude.sampling.strategies import Presampled, Remembering
from etude.training import gradients
from etude.training.selecting import Scorer, Selector
from etude.training.step import Batch

_PARTS = ("ids", "x", "y", "weight", "target")


@dataclasses.dataclass(frozen=True)
class Shown:
    """What metrics are told of a step.

    Attributes:
        x: Images.
        y: Labels.
        y_pred: Outputs.
        weight: Of samples, or `None`.
        loss: The mean.
    """

    x: Any
    y: Any
    y_pred: Any
    weight: Any
    loss: Any


@dataclasses.dataclass(frozen=True)
class Selection:
    """A choice of samples.

    Attributes:
        batch: What the step is on.
        finished: To be called after the loss and before the update; takes what was seen of the
            batch and gives what metrics are to see.
    """

    batch: Batch
    finished: Callable[[Shown], Shown]


@dataclasses.dataclass(frozen=True)
class Stages:
    """What a choice needs of the step around it.

    Attributes:
        gathered: The samples of a batch of data.
        staged: A batch, of which so many are those of a step, after augmentation and all else that
            comes before mixing.
        blended: A batch after mixing.
        forward: Outputs of images, as in training.
        data_loss: The mean loss of a batch and its outputs, without penalties.
        drawing: The state of what `staged` draws.
        statistics: What `forward` moves, and evaluation goes by.
        output_shape: Of one sample.
        micro_batches: How many a batch is computed in.
    """

    gathered: Callable[[Any], Batch]
    staged: Callable[[Batch, Any], Batch]
    blended: Callable[[Batch], Batch]
    forward: Callable[[Any], Any]
    data_loss: Callable[[Batch, Any], Any]
    drawing: Sequence[Any]
    statistics: Sequence[Any]
    output_shape: tuple[int, ...]
    micro_batches: int


def presampled(
    selector: Selector, scorer: Scorer, stages: Stages, data: Any, step: Any, share: Any
) -> Selection:
    """A batch drawn from itself and the samples beside it; itself while the gate is shut.

    Args:
        selector: Says whether and whom.
        scorer: Scores samples.
        stages: Of the step.
        data: A batch with samples beside it.
        step: Steps done before.
        share: Of the run that is over.
    """
    strategy = selector.strategy
    assert isinstance(strategy, Presampled)
    own, beside = parted(data)
    if beside is None:
        raise RecipeError(
            "Importance sampling reads samples beside each batch, to draw from both.",
            required="data that `fit` takes",
            received="a batch by itself, as of `train_on_batch`",
            advice="train by `fit`, or sample uniformly",
        )
    first = stages.gathered(own)
    size = ops.shape(first.x)[0]
    is_open = selector.is_open(share)
    uniform = keras.random.uniform((size + _size(beside),), seed=selector.seeds)
    numbers = selector.numbers()

    def shut() -> dict[str, Any]:
        with keras.StatelessScope() as scope:
            batch = stages.staged(first, size)
            state = _values(scope, stages.drawing)
        zero = ops.zeros((), "float32")
        outputs = ops.zeros((size, *stages.output_shape), "float32")
        return {
            "batch": _parts(_weighted(batch, ops.ones((size,), "float32"))),
            "seen": _seen(batch, outputs, zero, zero, zero),
            "drawing": state,
            "statistics": [ops.copy(variable.value) for variable in stages.statistics],
        }

    def opened() -> dict[str, Any]:
        with keras.StatelessScope() as scope:
            whole = stages.staged(_joined(first, stages.gathered(beside)), size)
            state = _values(scope, stages.drawing)
            outputs = _in_parts(stages.forward, whole.x, stages.micro_batches)
            outputs = ops.cast(outputs, "float32")
            statistics = _values(scope, stages.statistics)
            found = scorer(whole, outputs)
            head = _rows(whole, lambda part: part[:size])
            loss = ops.cast(stages.data_loss(head, outputs[:size]), "float32")
        chances = strategy.probabilities(found, numbers)
        count = strategy.count(chances, size, numbers)
        chosen = strategy.drawn(chances, count, uniform)
        batch = _rows(whole, lambda part: ops.take(part, chosen, axis=0))
        moments = (ops.mean(found), ops.mean(ops.square(found)))
        return {
            "batch": _parts(_weighted(batch, strategy.weights(chances, chosen, numbers))),
            "seen": _seen(head, outputs[:size], loss, *moments),
            "drawing": state,
            "statistics": statistics,
        }

    found = ops.cond(is_open, opened, shut)
    for variable, value in zip(stages.drawing, found["drawing"], strict=True):
        variable.assign(value)
    chosen, seen = Batch(**{"ids": None, "weight": None} | found["batch"]), found["seen"]
    batch = stages.blended(chosen)

    def finished(shown: Shown) -> Shown:
        for variable, value in zip(stages.statistics, found["statistics"], strict=True):
            # By what is representative: of the batch alone they would be those of hard samples.
            variable.assign(ops.where(is_open, value, variable.value))
        outputs = ops.cast(shown.y_pred, "float32")
        scores = scorer(batch, outputs)
        mean = ops.where(is_open, seen["mean"], ops.mean(scores))
        square = ops.where(is_open, seen["square"], ops.mean(ops.square(scores)))
        selector.note(is_open, mean, square, step, shown.loss)
        selector.count(batch.ids, is_open)
        usual = {"y": chosen.y, "outputs": outputs}
        if "weight" in seen:
            usual["weight"] = chosen.weight
        uniform_part = ops.cond(
            is_open, lambda: {name: seen[name] for name in usual}, lambda: usual
        )
        whole = ops.cast(shown.loss, "float32")
        penalties = whole - ops.cast(stages.data_loss(batch, shown.y_pred), "float32")
        return Shown(
            first.x,
            uniform_part["y"],
            uniform_part["outputs"],
            uniform_part.get("weight"),
            ops.where(is_open, seen["loss"] + penalties, whole),
        )

    return Selection(batch, finished)


def remembered(
    selector: Selector, scorer: Scorer, stages: Stages, data: Any, step: Any, share: Any
) -> Selection:
    """A batch drawn from the whole set by what is remembered of each sample.

    Args:
        selector: Says whether and whom.
        scorer: Scores samples.
        stages: Of the step.
        data: A batch of ids, which are taken while the strategy is not at work.
        step: Steps done before.
        share: Of the run that is over.
    """
    strategy = selector.strategy
    assert isinstance(strategy, Remembering)
    (key, ids), *_ = own_part(data).items()
    tables = {name: variable.value for name, variable in selector.tables.items()}
    is_open = selector.is_open(share)
    numbers = selector.numbers()
    chances = strategy.probabilities(tables, numbers, ops.clip(share, 0.0, 1.0))
    # Of float32 there are too few to tell a million samples apart.
    uniform = keras.random.uniform(ops.shape(ids), dtype="float64", seed=selector.seeds)
    drawn = ops.cast(drawing.with_replacement(chances, uniform), ids.dtype)
    weights = strategy.weights(chances, ops.cast(drawn, "int32"), numbers, share)
    ids = ops.where(is_open, drawn, ids)
    plain = stages.staged(stages.gathered({key: ids}), ops.shape(ids)[0])
    weights = ops.where(is_open, weights, ops.ones_like(weights))
    batch = stages.blended(_weighted(plain, weights))

    def finished(shown: Shown) -> Shown:
        # Where images are mixed, by their mixed labels.
        scored = dataclasses.replace(batch, weight=plain.weight)
        found = scorer(scored, ops.cast(shown.y_pred, "float32"))
        even = ops.ones_like(chances) / float(chances.shape[0])
        by = ops.where(is_open, chances, even)
        after = strategy.updated(tables, ops.cast(ids, "int32"), found, by, numbers)
        for name, variable in selector.tables.items():
            variable.assign(after[name])
        # Weighted, so that they are the moments of uniform samples.
        worth = ops.take(even / by, ops.cast(ids, "int32"), axis=0)
        mean, square = ops.mean(worth * found), ops.mean(worth * ops.square(found))
        selector.note(is_open, mean, square, step, shown.loss)
        selector.count(ids, is_open)
        return dataclasses.replace(shown, y=plain.y, weight=batch.weight)

    return Selection(batch, finished)


def _size(data: Any) -> Any:
    """How many samples a batch of ids, or of samples, has."""
    part = next(iter(data.values())) if isinstance(data, Mapping) else data[0]
    return ops.shape(part)[0]


def _seen(head: Batch, outputs: Any, loss: Any, mean: Any, square: Any) -> dict[str, Any]:
    """What is seen of uniform samples."""
    found = {"y": head.y, "outputs": outputs, "loss": loss, "mean": mean, "square": square}
    if head.weight is not None:
        found["weight"] = ops.cast(head.weight, "float32")
    return found


def _in_parts(forward: Callable[[Any], Any], x: Any, count: int) -> Any:
    """Outputs of images that are computed a part at a time."""
    if count == 1:
        return forward(x)
    found = []
    for index in range(count):
        part, _ = gradients.micro_batch(x, index, count)
        found.append(forward(part))
    return ops.concatenate(found, axis=0)[: ops.shape(x)[0]]


def _values(scope: Any, variables: Sequence[Any]) -> list[Any]:
    """What variables are within a scope, which they do not leave."""
    found = []
    for variable in variables:
        value = scope.get_current_value(variable)
        found.append(ops.copy(variable.value) if value is None else value)
    return found


def _rows(batch: Batch, pick: Callable[[Any], Any]) -> Batch:
    values = {name: getattr(batch, name) for name in _PARTS}
    return Batch(**{name: None if v is None else pick(v) for name, v in values.items()})


def _joined(one: Batch, other: Batch) -> Batch:
    pairs = {name: (getattr(one, name), getattr(other, name)) for name in _PARTS}
    return Batch(
        **{
            name: None if a is None else ops.concatenate([a, b], axis=0)
            for name, (a, b) in pairs.items()
        }
    )


def _weighted(batch: Batch, weights: Any) -> Batch:
    """A batch whose samples count so many times as much."""
    if batch.weight is None:
        return dataclasses.replace(batch, weight=weights)
    own = ops.cast(batch.weight, "float32")
    shape = (-1,) + (1,) * (len(own.shape) - 1)
    return dataclasses.replace(batch, weight=own * ops.reshape(weights, shape))


def _parts(batch: Batch) -> dict[str, Any]:
    """The parts of a batch that there are."""
    values = {name: getattr(batch, name) for name in _PARTS}
    return {name: value for name, value in values.items() if value is not None}
