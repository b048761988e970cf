"""What the user compiled the model with: loss, metrics and optimizer, honoured or refused."""

from __future__ import annotations

import dataclasses
import weakref
from typing import TYPE_CHECKING, Any

from etude.errors import ModelError
from etude.inspection.outputs import Ending
from etude.training import _keras_compat

if TYPE_CHECKING:
    from etude.tasks import Task

_FAMILIES = {
    "sparsecategoricalcrossentropy": "sparse",
    "categoricalcrossentropy": "categorical",
    "categoricalfocalcrossentropy": "categorical",
    "binarycrossentropy": "binary",
    "binaryfocalcrossentropy": "binary",
    "maskedsparsecategoricalcrossentropy": "sparse",
    "maskedcategoricalcrossentropy": "categorical",
    "maskedbinarycrossentropy": "binary",
    "scalarbinarycrossentropy": "binary",
}
_BETTER_HIGH = (
    "acc", "auc", "iou", "f1", "fbeta", "precision", "recall", "dice", "r2", "cosine", "top",
)  # fmt: skip
_BETTER_LOW = ("loss", "error", "mse", "mae", "rmse", "crossentropy", "divergence", "hinge")


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What the model was compiled with.

    Attributes:
        loss: The loss as given: an object, a name or a function; `None` for none.
        family: `"sparse"`, `"categorical"`, `"binary"`, or `None` for any other loss.
        from_logits: Whether a loss of these families takes logits.
        metrics: The metrics as given, in a flat list.
        weighted_metrics: Likewise.
        optimizer: The optimizer, or `None` when the model was not compiled.
    """

    loss: Any = None
    family: str | None = None
    from_logits: bool = False
    metrics: tuple[Any, ...] = ()
    weighted_metrics: tuple[Any, ...] = ()
    optimizer: Any = None


def name_of(thing: Any) -> str:
    """What to call a loss or metric: its name, or its class or function name."""
    if isinstance(thing, str):
        return thing
    return str(getattr(thing, "name", None) or getattr(thing, "__name__", type(thing).__name__))


def family_of(loss: Any) -> str | None:
    """What a known loss wants of labels: `"sparse"`, `"categorical"`, `"binary"`; else `None`."""
    raw = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
    return _FAMILIES.get(str(raw).replace("_", "").lower())


# What owners compiled, for models that Étude compiled since: beside it, the arguments of
# Étude's own compilation, so that a later one by the owner counts again.
_owners: weakref.WeakKeyDictionary[Any, tuple[dict[str, Any], Compiled]] = (
    weakref.WeakKeyDictionary()
)


def remember(model: Any, owners: Compiled) -> None:
    """Notes that Étude compiled the model, and what its owner had compiled before."""
    _owners[model] = (_keras_compat.compile_arguments(model), owners)


def _is_ours(model: Any) -> bool:
    if model not in _owners:
        return False
    ours, now = _owners[model][0], _keras_compat.compile_arguments(model)
    return all(now.get(name) is ours.get(name) for name in ("optimizer", "loss", "metrics"))


def read(model: Any) -> Compiled:
    """What the model was compiled with by its owner.

    Raises:
        ModelError: Losses or metrics for several outputs.
    """
    import keras

    if not getattr(model, "compiled", False):
        return Compiled()
    if _is_ours(model):
        return _owners[model][1]
    loss = model.loss
    if isinstance(loss, dict | list | tuple):
        values = list(loss.values()) if isinstance(loss, dict) else list(loss)
        if len(values) != 1:
            raise ModelError(
                "The model was compiled with several losses.",
                required="one loss, for the one output",
                received=f"{len(values)} losses: {[name_of(v) for v in values]}",
                advice="compile it with one loss, or leave the loss to Étude",
            )
        loss = values[0]
    if loss in ("crossentropy", "ce"):
        loss = None  # Keras chooses among the three by the labels, as the task does.
    given = _keras_compat.compile_arguments(model)
    flat = {
        kind: tuple(m for m in keras.tree.flatten(given.get(kind) or []) if m is not None)
        for kind in ("metrics", "weighted_metrics")
    }
    return Compiled(
        loss=loss,
        family=None if loss is None else family_of(loss),
        from_logits=bool(getattr(loss, "from_logits", False)),
        optimizer=model.optimizer,
        **flat,
    )


def check_loss(compiled: Compiled, end: Ending, task: Task) -> list[str]:
    """Holds the compiled loss against the model's outputs and the labels.

    Returns:
        Notes.

    Raises:
        ModelError: They contradict each other.
    """
    if compiled.loss is None:
        return []
    notes = [f"The loss is the one that the model was compiled with: {name_of(compiled.loss)}."]
    if compiled.family is None:
        return notes
    notes += _logits(compiled, end)
    _labels(compiled, task)
    _ignored(compiled, task)
    return notes


def _logits(compiled: Compiled, end: Ending) -> list[str]:
    if compiled.from_logits == end.logits:
        return []
    loss = f"{name_of(compiled.loss)} with from_logits={compiled.from_logits}"
    found = "ends in" if end.seen else "gives, as measured on a few images,"
    if compiled.from_logits and not end.seen:
        return [
            f"The compiled loss takes logits, but the model's outputs look like {end.activation}; "
            f"if they are, compile the loss with from_logits=False."
        ]
    raise ModelError(
        "The compiled loss contradicts the model's outputs.",
        required="from_logits=True for outputs without softmax or sigmoid, and only for those",
        received=f"{loss}; the model {found} {end.activation}",
        advice=(
            "compile the loss with from_logits=False, or drop the model's last activation"
            if compiled.from_logits
            else "compile the loss object with from_logits=True, or leave the loss to Étude"
        ),
    )


def _labels(compiled: Compiled, task: Task) -> None:
    label, output = task.evidence.label_shape, task.evidence.output_shape
    one_hot = _is_one_hot(task)
    single = output == () or output[-1] == 1
    wanted = {
        "sparse": "integer labels, and one output for each class",
        "categorical": "one-hot labels, and one output for each class",
        "binary": "labels 0 and 1 of the outputs' shape",
    }[str(compiled.family)]
    good = {
        "sparse": not one_hot and not single,
        "categorical": one_hot and not single,
        "binary": one_hot or single,
    }[str(compiled.family)]
    if not good:
        raise ModelError(
            "The compiled loss does not go with the labels.",
            required=f"for {name_of(compiled.loss)}: {wanted}",
            received=f"labels of shape {label}, outputs of shape {output}",
            advice="compile another loss, or leave the loss to Étude: compile without one, or not "
            "at all",
        )


def _ignored(compiled: Compiled, task: Task) -> None:
    """One-hot masks have rows of zeros for ignored pixels, which need no label."""
    ignore = task.evidence.ignore
    if ignore is None or _is_one_hot(task) or _ignores(compiled.loss, ignore):
        return
    sparse = compiled.family == "sparse"
    raise ModelError(
        "The compiled loss does not leave out the pixels that count for nothing.",
        required=f"a loss that ignores the label {ignore}, as ignore_label says",
        received=f"{name_of(compiled.loss)} with "
        f"ignore_class={getattr(compiled.loss, 'ignore_class', None)}",
        advice=(
            f"compile it with ignore_class={ignore}, or leave the loss to Étude"
            if sparse
            else "leave the loss to Étude: compile without one, or not at all (Keras' own has no "
            "ignore_class)"
        ),
    )


def _ignores(thing: Any, ignore: int) -> bool:
    """Whether a loss or metric leaves out pixels of that label."""
    settings = getattr(thing, "how", thing)  # Étude's metrics hold theirs there
    return bool(getattr(settings, "ignore_class", None) == ignore)


def _is_one_hot(task: Task) -> bool:
    label, output = task.evidence.label_shape, task.evidence.output_shape
    return len(label) > 0 and len(label) == len(output) and label[-1] != 1


def copies(compiled: Compiled, task: Task) -> list[Any]:
    """Fresh metrics: copies of those the user compiled, or the task's.

    Returns:
        Keras metric objects. `"accuracy"` is resolved as Keras does, by the shapes of labels
        and outputs; functions are wrapped.
    """
    if not compiled.metrics:
        return list(task.metrics())
    return [copy(metric, task) for metric in compiled.metrics]


def copy(metric: Any, task: Task) -> Any:
    """A fresh metric of the kind of `metric`."""
    import keras

    if isinstance(metric, keras.metrics.Metric):
        return _keras_compat.copy_metric(metric)
    if isinstance(metric, str) and metric.lower() in ("accuracy", "acc"):
        return _accuracy(metric, task)
    found = keras.metrics.get(metric)
    if isinstance(found, keras.metrics.Metric):
        fresh = _keras_compat.copy_metric(found)
    else:
        fresh = keras.metrics.MeanMetricWrapper(found)
    # As Keras does: the name in the logs is the name that was given.
    fresh.name = name_of(metric)
    return fresh


def _accuracy(name: str, task: Task) -> Any:
    """What Keras makes of `"accuracy"`, by the shapes of labels and outputs."""
    import keras

    label, output = task.evidence.label_shape, task.evidence.output_shape
    if output == () or output[-1] == 1:
        return keras.metrics.BinaryAccuracy(name=name)
    if len(label) < len(output) or label[-1] == 1:
        return keras.metrics.SparseCategoricalAccuracy(name=name)
    return keras.metrics.CategoricalAccuracy(name=name)


def monitor(compiled: Compiled, task: Task) -> tuple[str, str]:
    """By what the best weights are chosen: `("val_accuracy", "max")`.

    The task's monitor when the metrics are the task's or have one of that name; else the
    first of the user's metrics of which it is known which way is better; else the loss.
    """
    if not compiled.metrics:
        return f"val_{task.monitor}", task.mode
    names = [name_of(metric) for metric in compiled.metrics]
    if task.monitor in names:
        return f"val_{task.monitor}", task.mode
    for name in names:
        if any(part in name.lower() for part in _BETTER_HIGH):
            return f"val_{name}", "max"
        if any(part in name.lower() for part in _BETTER_LOW):
            return f"val_{name}", "min"
    return "val_loss", "min"


def _counting(compiled: Compiled, task: Task) -> list[str]:
    """Names of Keras' own metrics that count ignored pixels; of others nothing is known."""
    ignore = task.evidence.ignore
    if ignore is None or _is_one_hot(task):
        return []
    given = [*compiled.metrics, *compiled.weighted_metrics]
    return [name_of(m) for m in given if _is_kerass(m) and not _ignores(m, ignore)]


def _counting_unknown(compiled: Compiled, task: Task) -> list[str]:
    """Names of Keras' own loss and metrics of depth, where there are pixels without one."""
    from etude.tasks import depth

    if task.name != "depth" or depth.known(task.evidence.labels, task.evidence.ignore).all():
        return []
    given = [compiled.loss, *compiled.metrics, *compiled.weighted_metrics]
    return [name_of(thing) for thing in given if thing is not None and _is_kerass(thing)]


def _is_kerass(metric: Any) -> bool:
    if isinstance(metric, str):
        return True
    kind = metric if hasattr(metric, "__name__") else type(metric)
    return str(kind.__module__).split(".")[0] == "keras"


def notes(compiled: Compiled, end: Ending, task: Task) -> list[str]:
    """What is worth saying of the metrics that were compiled."""
    said = []
    plain = [m for m in compiled.metrics if m in ("accuracy", "acc", "binary_accuracy")]
    binary = compiled.family == "binary" and task.evidence.output_shape[-1:] in ((), (1,))
    if plain and end.logits and binary:
        said.append(
            "The compiled 'accuracy' cuts at 0.5, but the outputs are logits, whose middle is 0: "
            "compile `keras.metrics.BinaryAccuracy(threshold=0.0)` instead."
        )
    if plain and task.name == "multi_label":
        said.append(
            "The compiled 'accuracy' means to Keras that the greatest output is right, which says "
            "little when an image can have several classes: compile `keras.metrics.AUC("
            "multi_label=True)` or `keras.metrics.BinaryAccuracy()` instead."
        )
    counting = _counting(compiled, task)
    if counting:
        said.append(
            f"The compiled {', '.join(counting)} count pixels of the label "
            f"{task.evidence.ignore} too, which ignore_label leaves out: compile them with "
            f"ignore_class={task.evidence.ignore} where Keras has it, or leave the metrics to "
            f"Étude."
        )
    unknown = _counting_unknown(compiled, task)
    if unknown:
        said.append(
            f"The compiled {', '.join(unknown)} take pixels without a depth for depths of 0: leave "
            f"loss and metrics to Étude, or leave such pixels out yourself."
        )
    if compiled.metrics:
        said.append(
            "Metrics are those that the model was compiled with: "
            + ", ".join(name_of(metric) for metric in compiled.metrics)
            + "."
        )
    return said
