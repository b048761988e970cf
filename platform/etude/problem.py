"""The Problem: model, data and task, looked at and checked before anything runs."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from etude.data._base import Source
from etude.errors import EtudeError, ModelError
from etude.inspection import checks, compiled, fingerprint, outputs, preprocessing
from etude.inspection import model as models
from etude.inspection.sets import Opener, Set, compare, ignored_label, padding
from etude.tasks import Evidence, Task, choose

if TYPE_CHECKING:
    import keras

_KEPT = 256  # labels that a task keeps as its evidence


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """What is to be learned, from what, by which model. Made by `Problem.inspect`.

    Attributes:
        model: The user's own model, built.
        task: What the labels mean.
        train: The training set, adapted to the model (channels, size).
        validation: The set by which choices are made.
        test: The set for reporting, or `None`.
        unlabeled: Images without labels, or `None`.
        loss: The loss to train with: the user's compiled one as given, or the task's.
        user_loss: Whether it is the user's.
        monitor: By what the best weights are chosen, for example `"val_accuracy"`.
        mode: `"max"` or `"min"`: which way the monitor is better.
        compiled_optimizer: The optimizer that the model was compiled with, or `None`.
        held_out: Whether validation was split off the training data.
        facts: All that was found, ready for JSON.
        notes: What is worth saying aloud.

    Example:
        >>> import keras, numpy as np
        >>> x = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 1)).astype("uint8")
        >>> layers = [keras.layers.Rescaling(1 / 255), keras.layers.Flatten()]
        >>> model = keras.Sequential([*layers, keras.layers.Dense(3)])
        >>> problem = Problem.inspect(model, (x, np.arange(60) % 3))
        >>> problem.task.name, problem.train.size, problem.validation.size
        ('single_label', 51, 9)
    """

    model: Any
    task: Task
    train: Source
    validation: Source
    test: Source | None
    unlabeled: Source | None
    loss: Any
    user_loss: bool
    monitor: str
    mode: str
    compiled_optimizer: Any
    held_out: bool
    facts: dict[str, Any]
    notes: tuple[str, ...]
    compiled: compiled.Compiled
    identity: dict[str, Any]

    @classmethod
    def inspect(
        cls,
        model: Any,
        train: Any,
        validation: Any = None,
        unlabeled: Any = None,
        task: str | None = None,
        *,
        test: Any = None,
        seed: int = 0,
        validation_split: float = 0.15,
        memory_budget: int = 4 * 2**30,
        resize: Any = None,
        ignore_label: int | None = None,
    ) -> Problem:
        """Looks at model and data, and checks that the one can learn from the other.

        Args:
            model: A `keras.Model`, built or not, compiled or not, or a `.keras` file.
            train: Data as `etude.data.open_source` takes them.
            validation: Likewise; `None` splits it off `train`, stratified.
            unlabeled: Likewise, without labels.
            task: A task's name, or `None` to choose by labels and outputs.
            test: As `validation`; only for reporting.
            seed: Seed of the split.
            validation_split: Share of `train` that is held out without `validation`.
            memory_budget: Bytes within which a set is held in memory.
            resize: As in `etude.data.open_source`.
            ignore_label: The label of pixels that count for nothing.

        Raises:
            EtudeError: The model cannot be trained on these data, and why. Nothing was
                trained, and a built model is unchanged.
        """
        model = models.take(model)
        ignore_label = ignored_label(ignore_label)
        fill = padding(task, ignore_label)
        opener = Opener(models.wants(model), resize, memory_budget, fill)
        opened, notes = opener.open(train, "train", finite="split" if validation is None else "")
        look = _look(model, opened, task, ignore_label)
        labels = checks.check_labels(opened.source, opened.arrays, look.task)
        notes += [*look.notes, *checks.check_classes(labels, look.task)]
        notes += checks.check_empty(labels, opened.source.name)
        parts: dict[str, Set] = {"train": opened}
        if validation is None:
            said = _hold_out(parts, look.task, seed, validation_split, memory_budget)
            notes.append(said)
        for name, data in (("validation", validation), ("test", test), ("unlabeled", unlabeled)):
            if data is not None:
                known = None if name == "unlabeled" else labels
                parts[name], more = opener.open(
                    data,
                    name,
                    labelled=known is not None,
                    finite="" if name == "unlabeled" else "evaluated",
                    class_names=opened.source.class_names,
                    beside=opened.source.spec.image_shape if known is None else None,
                )
                notes += more + compare(opened, parts[name], known, look.task, name)[1]
        monitor, mode = compiled.monitor(look.given, look.task)
        facts = _facts(look, parts, labels)
        notes += _lost(labels, facts["class_counts"])
        facts |= {"monitor": monitor, "mode": mode, "held_out": validation is None}
        split = [seed, validation_split] if validation is None else None
        loss = look.given.loss
        return cls(
            model=model,
            task=look.task,
            train=parts["train"].source,
            validation=parts["validation"].source,
            test=parts["test"].source if "test" in parts else None,
            unlabeled=parts["unlabeled"].source if "unlabeled" in parts else None,
            loss=look.task.loss() if loss is None else loss,
            user_loss=loss is not None,
            monitor=monitor,
            mode=mode,
            compiled_optimizer=look.given.optimizer,
            held_out=validation is None,
            facts=facts,
            notes=tuple(dict.fromkeys(notes)),
            compiled=look.given,
            identity=_identity(look, {**parts, "train": opened}, split),
        )

    def metrics(self) -> list[keras.metrics.Metric]:
        """Fresh metrics: copies of those that the user compiled, or the task's."""
        return compiled.copies(self.compiled, self.task)

    def weighted_metrics(self) -> list[keras.metrics.Metric]:
        """Fresh copies of the weighted metrics that the user compiled; mostly none."""
        return [compiled.copy(metric, self.task) for metric in self.compiled.weighted_metrics]

    @property
    def value_range(self) -> tuple[float, float]:
        """Lowest and highest value that a pixel can have, as far as the training images tell.

        0 to 255, 0 to 1 or -1 to 1 where they lie within one of these; else what was seen.
        """
        image = self.facts["image"]
        return checks.value_range(image["dtype"], float(image["low"]), float(image["high"]))

    def fingerprint(self) -> str:
        """16 hexadecimal digits: the same for the same architecture (not weights), contents
        of the data, task, loss and split, also in another process."""
        return fingerprint.digest(self.identity)

    def describe(self) -> dict[str, Any]:
        """Facts, notes and fingerprint, ready for JSON."""
        return {**self.facts, "notes": list(self.notes), "fingerprint": self.fingerprint()}


def _sample(opened: Set) -> np.ndarray[Any, Any]:
    """The first images, up to four."""
    if opened.arrays is not None:
        return np.asarray(opened.arrays.images[:4])
    for batch in opened.source.in_order(4):
        return np.asarray(batch[0])
    raise checks.empty(opened.source.name)


@dataclasses.dataclass(frozen=True)
class _Look:
    """What a look at the model, and at the first samples, gave."""

    model: Any
    facts: models.ModelFacts
    end: outputs.Ending
    given: compiled.Compiled
    steps: preprocessing.Preprocessing
    task: Task
    notes: tuple[str, ...]


def _look(model: Any, opened: Set, name: str | None, ignore: int | None) -> _Look:
    sample = _sample(opened)
    facts = models.inspect(model, sample)
    labels = checks.first_labels(opened.source, opened.arrays)
    end = outputs.ending(model, sample)
    given = compiled.read(model)
    task = _task(opened, labels, facts, end, given, name, ignore)
    if given.loss is None:
        outputs.check_ending(end, facts.output_shape, measures=task.measures)
    notes = (
        task.remarks() + compiled.check_loss(given, end, task) + compiled.notes(given, end, task)
    )
    _check_metrics(given, task)
    steps = preprocessing.read(model)
    scan = opened.scan
    notes += preprocessing.check_range(steps, scan.min, scan.max, checks.deviation(scan), "train")
    notes += _model_notes(facts, end, task)
    return _Look(model, facts, end, given, steps, task, tuple(notes))


def _identity(look: _Look, parts: dict[str, Set], split: list[float] | None) -> dict[str, Any]:
    """What the fingerprint is made of. `train` is the set before anything was held out.

    The contents of a set that comes differently in every pass do not tell it. Where a part of it
    was held out they must all the same: what was trained on could be held out the next time.
    """
    loss, evidence = look.given.loss, look.task.evidence
    return {
        "model": fingerprint.digest({"architecture": fingerprint.architecture(look.model)}),
        "task": [look.task.name, evidence.ignore, evidence.logits],
        "loss": None if loss is None else compiled.name_of(loss),
        "data": {
            name: [
                part.source.size,
                str(part.source.spec),
                part.scan.checksum if part.steady or split is not None else "differs",
            ]
            for name, part in parts.items()
            if split is None or name != "validation"
        },
        "split": split,
    }


def _task(
    opened: Set,
    labels: np.ndarray[Any, Any],
    facts: models.ModelFacts,
    end: outputs.Ending,
    given: compiled.Compiled,
    name: str | None,
    ignore: int | None,
) -> Task:
    spec = opened.source.spec
    assert spec.label_shape is not None and spec.label_dtype is not None  # checked before
    evidence = Evidence(
        label_shape=spec.label_shape,
        label_dtype=spec.label_dtype,
        labels=labels,
        output_shape=facts.output_shape,
        logits=end.logits if given.family is None else given.from_logits,
        image_shape=spec.image_shape,
        ignore=ignore,
        activation=end.activation if end.seen else None,
        loss=given.family,
        output_range=end.limits,
    )
    chosen = choose(evidence, name)
    # A task keeps some of the labels only: masks take room.
    return type(chosen)(dataclasses.replace(evidence, labels=labels[:_KEPT].copy()))


def _check_metrics(given: compiled.Compiled, task: Task) -> None:
    try:
        compiled.copies(given, task)
        for metric in given.weighted_metrics:
            compiled.copy(metric, task)
    except EtudeError:
        raise
    except Exception as error:
        raise ModelError(
            "A metric that the model was compiled with cannot be copied.",
            required="metrics by name, functions, or metrics with a working get_config",
            received=f"{type(error).__name__}: {error}",
            advice="give the metric a `get_config`, or compile the model without it",
        ) from error


def _hold_out(parts: dict[str, Set], task: Task, seed: int, fraction: float, budget: int) -> str:
    """Splits `parts["train"]` in two, in place, and says how."""
    from etude.data import split
    from etude.data.splitting import by_chance, period_of

    whole = parts["train"]
    labels = checks.whole(whole.source, whole.arrays)
    strata = None if labels is None else task.strata(labels)
    kept, held = split(whole.source, fraction, seed=seed, strata=strata)
    held.name = "validation"
    for name, source in (("train", kept), ("validation", held)):
        arrays = None if whole.arrays is None else source.arrays(budget)
        parts[name] = Set(source, arrays, whole.scan)
    if not by_chance(whole.source):
        how = f"one of every {period_of(fraction)}, in the order of the stream"
    else:
        how = f"{'by chance' if strata is None else 'stratified'}, with seed {seed}"
    count = "some" if held.size is None else f"{held.size} of {whole.source.size}"
    if held.size is not None and whole.source.size is not None:
        asked = round(fraction * whole.source.size)
        if strata is not None and held.size > max(asked + 1, 1.1 * asked):
            how += f"; more than the {asked} asked for, so that both parts have every class"
    return (
        f"No validation data were given: {count} training samples are held out ({how}) and not "
        f"trained on."
    )


def _lost(labels: checks.LabelFacts, counts: list[int] | None) -> list[str]:
    """Says which classes a split took wholly out of the training set."""
    if labels.counts is None or counts is None or not labels.complete:
        return []
    lost = np.flatnonzero((labels.counts > 0) & (np.asarray(counts) == 0))
    return [
        f"The split left no training sample of class {int(c)}: pass validation data." for c in lost
    ]


def _model_notes(facts: models.ModelFacts, end: outputs.Ending, task: Task) -> list[str]:
    notes = []
    if facts.trainable < facts.parameters / 2:
        notes.append(
            f"{facts.trainable:,} of the model's {facts.parameters:,} parameters are trained; the "
            f"others are frozen (or statistics)."
        )
    if facts.own_compute_loss:
        notes.append(
            "The model's own compute_loss is used, and the task's loss only where it asks."
        )
    if not end.seen and not task.measures:
        kind = "logits" if end.logits else f"probabilities ({end.activation})"
        notes.append(
            f"The model's last activation cannot be read; on a few images its outputs look like "
            f"{kind}."
        )
    return notes


def _facts(look: _Look, parts: dict[str, Set], labels: checks.LabelFacts) -> dict[str, Any]:
    """All that was found, as plain numbers, names and lists."""
    facts, end, given, task = look.facts, look.end, look.given, look.task
    train = parts["train"]
    spec, scan = train.source.spec, train.scan
    counts = labels.counts
    if labels.complete and counts is not None:
        after = checks.known_counts(train.source, train.arrays, task)  # after the split
        counts = counts if after is None else after
    names = getattr(train.source, "class_names", None)
    shape = spec.label_shape
    return {
        "task": task.name,
        "classes": task.classes(),
        "class_counts": None if counts is None else [int(count) for count in counts],
        "class_names": None if names is None else [str(name) for name in names],
        "sizes": {name: part.source.size for name, part in parts.items()},
        "image": {
            "shape": list(spec.image_shape), "dtype": spec.image_dtype, "low": scan.min,
            "high": scan.max, "mean": list(scan.mean), "std": list(scan.std),
        },
        "label": {"shape": None if shape is None else list(shape), "dtype": spec.label_dtype},
        "weighted": spec.weighted,
        "checked": {"samples": scan.samples, "complete": scan.complete},
        "shuffle": train.source.shuffle,
        "input_shape": None if facts.input_shape is None else list(facts.input_shape),
        "output_shape": list(facts.output_shape),
        "logits": None if task.measures else task.evidence.logits,
        "activation": end.activation,
        "activation_seen": end.seen,
        "preprocessing": look.steps.describe(),
        "model": {"name": look.model.name, "class": type(look.model).__name__, **_plain(facts)},
        "own_compute_loss": facts.own_compute_loss,
        "loss": compiled.name_of(given.loss if given.loss is not None else task.loss()),
        "user_loss": given.loss is not None,
        "metrics": [metric.name for metric in compiled.copies(given, task)],
        "user_metrics": bool(given.metrics),
        "compiled_optimizer": None if given.optimizer is None else type(given.optimizer).__name__,
        "ignore_label": task.evidence.ignore,
    }  # fmt: skip


def _plain(facts: models.ModelFacts) -> dict[str, Any]:
    return {
        "kind": facts.kind,
        "parameters": facts.parameters,
        "trainable": facts.trainable,
        "layers": facts.layers,
        "policy": facts.policy,
    }
