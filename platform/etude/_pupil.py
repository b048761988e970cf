"""A model, its data, and what a teacher says of them: how a student is brought up."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from etude.data._base import Arrays, Source
from etude.errors import DataError, ModelError
from etude.inspection import compiled, outputs
from etude.problem import Problem
from etude.ssl import pseudo_labels
from etude.training.checks import is_crossentropy

# Images that a teacher looks at in one call; its outputs are masks, maybe.
BLOCK = 1024
# Masks are learned from where at least this share of their pixels is sure.
SURE_PIXELS = 0.5
# Where no threshold is given, the way from chance to certainty that a teacher has to have gone; and
# where it has not with so many images (with answers, not masks), the shorter way for the surest.
SURE, LEAST_SURE, SURE_AT_ALL = 0.5, 0.2, 0.1
# The mask value for pixels that the teacher is unsure of, where the user names none.
UNSURE = 255
# How far the probabilities of a teacher's may be from a sum of 1.
TOLERANCE = 1e-2
Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True)
class Lessons:
    """What a teacher says of images that it is sure of.

    Attributes:
        images: Which of them, each as often as it is to be seen.
        labels: Of these, in the form that the student learns from.
        counts: How many of each class.
    """

    images: pseudo_labels.Ids
    labels: Array
    counts: Array

    def told(self) -> dict[str, Any]:
        """The facts that a `Round` has of them."""
        return {
            "taught": len(self.images),
            "images": len(np.unique(self.images)),
            "counts": tuple(int(count) for count in self.counts),
        }


class Pupil:
    """A model, its data in memory, and how they are brought together for a student.

    Args:
        problem: What is learned from what.
        limit: Bytes that a set may take.
        ignore_label: As of `fit`.

    Raises:
        DataError: A set does not fit into memory.
        ModelError: The task has no classes.
    """

    def __init__(self, problem: Problem, *, limit: int, ignore_label: int | None) -> None:
        if problem.task.classes() is None:
            raise ModelError(
                f"A teacher cannot teach task {problem.task.name!r}.",
                required="a task with classes, of which a teacher is sure or not",
                received=f"task {problem.task.name!r}",
                advice="train on the labels that there are, by `etude.fit`",
            )
        self.problem = problem
        self.notes = list(self.problem.notes)
        self.model = self.problem.model
        self.initial = self.model.get_weights()
        self.train = _held(self.problem.train, limit)
        self.validation = _held(self.problem.validation, limit)
        others = self.problem.unlabeled
        self.unlabelled = None if others is None else _held(others, limit).images
        self.count = 0 if self.unlabelled is None else len(self.unlabelled)
        self.limit = limit
        name = self.problem.task.name
        self.classes = self.problem.task.classes() or 2
        self.exclusive = name in ("single_label", "semantic_segmentation") and not self._yes_or_no()
        # Their own loss would not take rows in the place of numbers.
        self.soft = name == "single_label" and is_crossentropy(self.problem.loss, self.problem.task)
        if name == "single_label" and not self.soft:
            self.notes.append(
                "Students learn from the teacher's answers, and not from its distributions: the "
                "loss is not a plain cross-entropy."
            )
        self.ignore = ignore_label
        if name == "semantic_segmentation" and ignore_label is None:
            self.ignore = UNSURE

    def _yes_or_no(self) -> bool:
        return self.problem.task.evidence.output_shape[-1:] in ((1,), ())

    # -- What a teacher says -------------------------------------------------------------

    def probabilities(self, teacher: Any, images: Array | None = None) -> Iterator[Array]:
        """What a teacher says, in blocks of `(images, ..., classes)`.

        Args:
            teacher: A model or a function.
            images: Of which; those without labels if left out.
        """
        images = self.unlabelled if images is None else images
        assert images is not None
        asked: Callable[[Array], Any] = teacher
        logits = False
        if hasattr(teacher, "predict"):
            logits = outputs.ending(teacher, images[:4]).logits

            def asked(block: Array) -> Any:
                return teacher.predict(block, batch_size=64, verbose=0)

        wide = tuple(self.problem.task.evidence.output_shape)
        for first in range(0, len(images), BLOCK):
            block = images[first : first + BLOCK]
            said = np.asarray(asked(block), np.float32)
            if said.shape != (len(block), *wide):
                raise DataError(
                    "The teacher does not answer as the model does.",
                    required=f"outputs of shape {(len(block), *wide)}",
                    received=f"{said.shape}",
                    advice="take a teacher of the same classes, or wrap it by a function",
                )
            told = pseudo_labels.distributions(said, logits=logits, exclusive=self.exclusive)
            self._check(told)
            yield told

    def _check(self, told: Array) -> None:
        """Raises a `DataError` unless these are probabilities."""
        sound = np.isfinite(told).all() and told.min() >= 0.0 and told.max() <= 1.0 + TOLERANCE
        if sound and self.exclusive:
            sound = bool((np.abs(told.sum(axis=-1) - 1.0) <= TOLERANCE).all())
        if not sound:
            raise DataError(
                "What the teacher says are no probabilities.",
                required="finite numbers from 0 to 1"
                + (", whose sum over the classes is 1" if self.exclusive else ""),
                received=f"numbers from {told.min():g} to {told.max():g}",
                advice="let a function give probabilities and not logits; of a model, look at its "
                "weights",
            )

    def lessons(self, said: Iterable[Array], threshold: float | None) -> Lessons:
        """What a student learns from what a teacher says of all images without labels."""
        task, given = self.problem.task, threshold is not None
        chance = 1.0 / self.classes if self.exclusive else 0.5
        if threshold is None:
            threshold = chance + SURE * (1.0 - chance)
        if task.name == "semantic_segmentation":
            return self._masks(said, threshold)
        told = np.concatenate(list(said))
        sure = pseudo_labels.certainty(
            told.reshape(len(told), -1), exclusive=self.exclusive
        )  # of one output without an axis, too
        if not given:
            # A teacher that learned little is sure of nothing, and yet its surest answers are worth
            # learning from: they are balanced, and a student that does not help is dropped.
            least = chance + SURE_AT_ALL * (1.0 - chance)
            threshold = min(threshold, max(least, float(np.quantile(sure, 1.0 - LEAST_SURE))))
        answers = self._answers(told)
        if task.name == "multi_label":
            chosen = np.flatnonzero(sure >= threshold)
        else:
            counts = task.counts(np.asarray(self.train.labels)).astype(np.float64)
            kinds = task.strata(answers)
            chosen = pseudo_labels.balanced(kinds, sure, counts / counts.sum(), threshold=threshold)
        labels = told if self.soft else answers
        return Lessons(chosen, labels[chosen], task.counts(answers[chosen]))

    def _masks(self, said: Iterable[Array], threshold: float) -> Lessons:
        kept: list[Array] = []
        which: list[int] = []
        first = 0
        for block in said:
            masks = self._answers(block)
            sure = pseudo_labels.certainty(block, exclusive=self.exclusive) >= threshold
            masks = self._without(masks, ~sure)
            for place in np.flatnonzero(sure.mean(axis=(1, 2)) >= SURE_PIXELS):
                kept.append(masks[place])
                which.append(first + int(place))
            first += len(block)
        counts = np.zeros(self.classes, np.int64)
        if not kept:
            return Lessons(np.empty(0, np.int64), np.empty(0), counts)
        labels = np.stack(kept)
        taught = [self._answers_counted(mask) for mask in labels]
        return Lessons(np.asarray(which, np.int64), labels, np.sum(taught, axis=0))

    def _answers(self, probabilities: Array) -> Array:
        """In the form of the labels. A task decodes outputs, which may be logits."""
        task = self.problem.task
        values = probabilities
        if task.evidence.logits:
            values = probabilities - 0.5  # only signs and the largest matter
        return task.decode(values)

    def _without(self, masks: Array, unsure: Array) -> Array:
        """Masks in which pixels count for nothing."""
        if getattr(self.problem.task, "one_hot", False):
            return np.where(unsure[..., None], np.zeros((), masks.dtype), masks)
        assert self.ignore is not None
        masks = masks.astype(np.result_type(masks.dtype, np.min_scalar_type(self.ignore)))
        place = unsure if masks.ndim == 3 else unsure[..., None]
        return np.where(place, masks.dtype.type(self.ignore), masks)

    def _answers_counted(self, mask: Array) -> Array:
        """Pixels of each class in a mask."""
        task: Any = self.problem.task
        if task.one_hot:
            return np.asarray(mask.reshape(-1, mask.shape[-1]).sum(axis=0), np.int64)
        pixels = mask[mask != self.ignore].astype(np.int64)
        return np.bincount(pixels, minlength=self.classes)[: self.classes]

    # -- What a student is trained by ----------------------------------------------------

    def rows(self, labels: Any) -> Array:
        """Labels as rows of classes, `(samples, classes)` float32."""
        labels = np.asarray(labels)
        if labels.ndim == 2 and labels.shape[-1] == self.classes:
            return labels.astype(np.float32)
        return np.eye(self.classes, dtype=np.float32)[labels.reshape(-1).astype(np.int64)]

    def joined(
        self,
        lessons: Lessons,
        share: float,
        *,
        own: Arrays | None = None,
        others: Array | None = None,
    ) -> Arrays:
        """Labelled samples, repeated so that they are at least a share, and a teacher's.

        Args:
            lessons: What the teacher says.
            share: Of labelled samples.
            own: These, if they are not all of the problem's.
            others: The images that the lessons are of, if they are not all without labels.
        """
        own = self.train if own is None else own
        others = self.unlabelled if others is None else others
        assert others is not None
        times = pseudo_labels.repeated(len(own), len(lessons.images), share)
        again = np.tile(np.arange(len(own)), times)
        labels = self.rows(own.labels) if self.soft else np.asarray(own.labels)
        kept = own.take(again)
        return Arrays(
            np.concatenate([kept.images, others[lessons.images]]),
            np.concatenate([labels[again], lessons.labels]),
            joined_weights(kept, len(lessons.images)),
        )

    def in_rows(self, labelled: Arrays) -> Arrays:
        """Labelled samples in the form of a student's."""
        if not self.soft:
            return labelled
        return dataclasses.replace(labelled, labels=self.rows(labelled.labels))

    def lesson(
        self, data: Arrays | None, held: Arrays | None = None
    ) -> tuple[Any, Any, dict[str, Any]]:
        """What the model is to be trained on: both sets, and what else an inspection is told.

        The model tells from then on what goes with them.

        Args:
            data: A student's; `None` for the labelled samples.
            held: The validation data, if they are not those of the problem.
        """
        own, task = self.problem.compiled, self.problem.task
        held, ignore = held or self.validation, task.evidence.ignore
        if data is not None:
            ignore = self.ignore if task.name == "semantic_segmentation" else None
            held = self.in_rows(held)
            if self.soft:
                own = dataclasses.replace(
                    own, loss=None, family=None, metrics=(), weighted_metrics=()
                )
        if getattr(self.model, "compiled", False):
            compiled.remember(self.model, own)
        options = {"task": task.name, "ignore_label": ignore, "memory_budget": 4 * self.limit}
        return _tuple(self.train if data is None else data), _tuple(held), options

    def hand_back(self) -> None:
        """Compiles the model for the user's own labels, as `fit` leaves it."""
        problem = self.problem
        self.model.compile(
            self.model.optimizer,
            problem.loss,
            metrics=problem.metrics(),
            weighted_metrics=problem.weighted_metrics() or None,
        )
        compiled.remember(self.model, problem.compiled)

    def score(self) -> float:
        """The monitor on the validation data, with the weights as they are."""
        self.hand_back()
        held = self.validation
        found = self.model.evaluate(
            held.images,
            held.labels,
            sample_weight=held.weights,
            batch_size=64,
            verbose=0,
            return_dict=True,
        )
        return float(found[self.problem.monitor.removeprefix("val_")])

    def beats(self, score: float, others: Sequence[float]) -> bool:
        """Whether a score is better than all others."""
        if self.problem.mode == "max":
            return score > max(others)
        return score < min(others)


def _held(source: Source, limit: int) -> Arrays:
    """A set in memory."""
    held = source.arrays(limit)
    if held is None:
        raise DataError(
            f"The {source.name} data are not held in memory.",
            required=f"a set of at most {limit / 2**30:.1f} GiB with an end",
            received=f"{source.size or 'endlessly many'} samples",
            advice="raise `memory_budget`, or pass fewer or smaller images",
        )
    return held


def joined_weights(own: Arrays, others: int) -> Array | None:
    """Weights of samples with labels, and of as many more, which weigh 1."""
    if own.weights is None:
        return None
    return np.concatenate([own.weights, np.ones(others, np.float32)])


def _tuple(arrays: Arrays) -> tuple[Any, ...]:
    if arrays.weights is None:
        return arrays.images, arrays.labels
    return arrays.images, arrays.labels, arrays.weights
