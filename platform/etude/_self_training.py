"""`noisy_student` and `distill`: a model learns from what a teacher says of images."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from etude._fit import fit
from etude._pupil import Lessons, Pupil, joined_weights
from etude.budget import Budget, Clock, parse_bytes, parse_duration
from etude.data._base import Arrays
from etude.errors import BudgetError, DataError, RecipeError
from etude.inspection import compiled
from etude.problem import Problem
from etude.recipe import Recipe
from etude.report import Report

Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True)
class Round:
    """A model that was trained, the teacher's or a student's.

    Attributes:
        report: Of its training.
        score: The monitor, on the validation data.
        taught: Samples of its training set that a teacher labelled, as often as they are in it.
        images: How many different images these are.
        counts: Of these samples those of each class, or pixels of masks; `None` for a teacher.
    """

    report: Report
    score: float
    taught: int = 0
    images: int = 0
    counts: tuple[int, ...] | None = None


@dataclasses.dataclass(frozen=True)
class SelfTraining:
    """What came of it.

    Attributes:
        rounds: The teacher's, where it was trained here, and each student's.
        returned: Whose weights the model has: an index into `rounds`.
        monitor: By which that was chosen.
        notes: What is to be said.
        model: The model that was passed in.
    """

    rounds: tuple[Round, ...]
    returned: int
    monitor: str
    notes: tuple[str, ...]
    model: Any


def noisy_student(
    model: Any,
    train: Any,
    unlabeled: Any,
    validation: Any = None,
    *,
    teacher: Any = None,
    rounds: int = 2,
    threshold: float | None = None,
    labelled_share: float = 0.1,
    noise: Any = None,
    task: str | None = None,
    recipe: Recipe | str | Path | None = None,
    keep: Iterable[str] = (),
    epochs: float | None = None,
    time_budget: str | float | None = None,
    seed: int = 0,
    callbacks: Sequence[Any] = (),
    class_weight: str | Mapping[int, float] | None = None,
    validation_split: float = 0.15,
    memory_budget: str | int = "4GiB",
    resize: Any = None,
    ignore_label: int | None = None,
    verbose: int = 1,
    clock: Clock | None = None,
) -> SelfTraining:
    """Trains a teacher, lets it label images, trains a student on all of them, and so on.

    *Self-training with Noisy Student* (Xie et al. 2020). A teacher learns from the labelled
    samples. Of the images without labels it labels those that it is sure of: with its whole
    distribution over the classes where one holds (single-label), else with its answer, pixels
    that it is unsure of left out. Where one class holds, classes are brought to the shares that
    they have in the labelled samples. A student begins with the weights that the model was passed
    with, and learns from both, with augmentation that `fit` finds or that is given; it is the
    teacher of the next. The model ends with the weights of that among all of them which does best
    on the validation data.

    Each of them is a call of `fit`, with an equal part of the time that is left.

    Args:
        model: As of `fit`.
        train: As of `fit`; it has to fit into memory, and so do the images.
        unlabeled: As of `fit`.
        validation: As of `fit`.
        teacher: A model, or a function from images to probabilities, in the place of the first
            teacher. It sees the images as the model does.
        rounds: Students, one after the other.
        threshold: How sure the teacher has to be, from 0 to 1; left out, halfway between chance
            and certainty, or as sure as it is of the surest fifth where that is less, and a tenth
            of the way at least. Of masks it is halfway in any case.
        labelled_share: The share of a student's samples that labelled ones are at least: they are
            repeated where they are fewer.
        noise: The students' `augmentation.policy`; left out, as the recipe says, or as a study
            finds.
        task: As of `fit`.
        recipe: As of `fit`; of the teacher and of the students.
        keep: As of `fit`.
        epochs: Passes over the training data of each of them; a student has more samples.
        time_budget: Of all together.
        seed: As of `fit`.
        callbacks: As of `fit`; each of them has them.
        class_weight: As of `fit`.
        validation_split: As of `fit`.
        memory_budget: As of `fit`.
        resize: As of `fit`.
        ignore_label: As of `fit`.
        verbose: As of `fit`.
        clock: As of `fit`.

    Raises:
        EtudeError: Anything that a user can mend, before the first step.

    Example:
        >>> found = etude.noisy_student(model, (x, y), images, time_budget="1h")  # doctest: +SKIP
        >>> [round.score for round in found.rounds]  # doctest: +SKIP
    """
    budget = Budget(None if time_budget is None else parse_duration(time_budget), clock=clock)
    _check(rounds, threshold, labelled_share)
    pupil = _pupil(
        model,
        train,
        validation,
        unlabeled,
        task=task,
        seed=seed,
        validation_split=validation_split,
        memory_budget=memory_budget,
        resize=resize,
        ignore_label=ignore_label,
    )
    arguments = {
        "keep": list(keep), "epochs": epochs, "callbacks": callbacks, "class_weight": class_weight,
        "verbose": verbose, "clock": clock,
    }  # fmt: skip
    base = Recipe.load(recipe) if isinstance(recipe, str | Path) else recipe or Recipe()
    students = base if noise is None else base.give(augmentation={"policy": noise})
    fits = rounds + (teacher is None)
    done: list[Round] = []
    best: list[Array] = []

    def trained(data: Arrays | None, given: Recipe, lessons: Lessons | None) -> None:
        nonlocal best
        time = {} if budget.seconds is None else {"time_budget": _part(budget, fits - len(done))}
        report = _trained(pupil, data, recipe=given, seed=seed + len(done), **time, **arguments)
        score = pupil.score()
        found = {} if lessons is None else lessons.told()
        better = not done or pupil.beats(score, [one.score for one in done])
        done.append(Round(report, score, **found))
        if better:
            best = pupil.model.get_weights()

    if teacher is None:
        trained(None, base, None)
    says = pupil.probabilities(pupil.model if teacher is None else teacher)
    for number in range(rounds):
        lessons = pupil.lessons(says, threshold)
        if not len(lessons.images):
            pupil.notes.append(
                f"The teacher is sure of none of {pupil.count} images: no student was trained in "
                f"round {number + 1}."
            )
            break
        trained(pupil.joined(lessons, labelled_share), students, lessons)
        says = pupil.probabilities(pupil.model)
    if not done:
        raise DataError(
            "The teacher is sure of no image.",
            required="predictions that are surer than the threshold",
            received=f"{pupil.count} images, and none of them",
            advice="lower `threshold`, or leave `teacher` out",
        )
    pupil.model.set_weights(best)
    pupil.hand_back()
    scores = [one.score for one in done]
    top = max(scores) if pupil.problem.mode == "max" else min(scores)
    return SelfTraining(
        tuple(done), scores.index(top), pupil.problem.monitor, tuple(pupil.notes), pupil.model
    )


def distill(
    model: Any,
    teacher: Any,
    train: Any,
    unlabeled: Any = None,
    validation: Any = None,
    *,
    alpha: float = 0.5,
    task: str | None = None,
    recipe: Recipe | str | Path | None = None,
    keep: Iterable[str] = (),
    epochs: float | None = None,
    time_budget: str | float | None = None,
    seed: int = 0,
    callbacks: Sequence[Any] = (),
    class_weight: str | Mapping[int, float] | None = None,
    validation_split: float = 0.15,
    memory_budget: str | int = "4GiB",
    resize: Any = None,
    verbose: int = 1,
    clock: Clock | None = None,
) -> Report:
    """Trains a model to say what a teacher says (Hinton et al. 2015, at temperature 1).

    A labelled image is taught by its label and the teacher's distribution over the classes, in
    shares; an image without a label by the latter alone. What the teacher says is asked once, of
    images as they are. The teacher may be the model itself, which then learns from what it says
    now.

    Args:
        model: As of `fit`, for one class of several (single-label).
        teacher: A model with as many outputs, or a function from images to probabilities. It sees
            the images as the model does.
        train: As of `fit`; it has to fit into memory, and so do the images.
        unlabeled: As of `fit`.
        validation: As of `fit`.
        alpha: The share of the labels; 0 is the teacher alone.
        task: As of `fit`.
        recipe: As of `fit`.
        keep: As of `fit`.
        epochs: As of `fit`.
        time_budget: As of `fit`.
        seed: As of `fit`.
        callbacks: As of `fit`.
        class_weight: As of `fit`.
        validation_split: As of `fit`.
        memory_budget: As of `fit`.
        resize: As of `fit`.
        verbose: As of `fit`.
        clock: As of `fit`.

    Returns:
        The report of `fit`.

    Raises:
        EtudeError: Anything that a user can mend, before the first step.

    Example:
        >>> etude.distill(small, large, (x, y), images, time_budget="10m")  # doctest: +SKIP
    """
    budget = Budget(None if time_budget is None else parse_duration(time_budget), clock=clock)
    if not 0.0 <= alpha <= 1.0:
        raise RecipeError(
            "The share of the labels is none.",
            required="alpha from 0 to 1",
            received=repr(alpha),
            advice="mend the value",
        )
    pupil = _pupil(
        model,
        train,
        validation,
        unlabeled,
        task=task,
        seed=seed,
        validation_split=validation_split,
        memory_budget=memory_budget,
        resize=resize,
        ignore_label=None,
    )
    if not pupil.soft:
        raise DataError(
            "There is no distribution over classes to learn.",
            required="one class of several per image, and a plain cross-entropy",
            received=f"task {pupil.problem.task.name!r}, loss "
            f"{compiled.name_of(pupil.problem.loss)}",
            advice="take `noisy_student`, or compile the model without a loss",
        )
    own = pupil.train
    said = np.concatenate(list(pupil.probabilities(teacher, own.images)))
    images, rows = own.images, alpha * pupil.rows(own.labels) + (1.0 - alpha) * said
    weights = own.weights
    if unlabeled is not None:
        more = np.concatenate(list(pupil.probabilities(teacher)))
        images, rows = np.concatenate([images, pupil.unlabelled]), np.concatenate([rows, more])
        weights = joined_weights(own, len(more))
    time = {} if budget.seconds is None else {"time_budget": _part(budget, 1)}
    report = _trained(
        pupil,
        Arrays(images, rows.astype(np.float32), weights),
        recipe=recipe,
        keep=list(keep),
        epochs=epochs,
        seed=seed,
        callbacks=callbacks,
        class_weight=class_weight,
        verbose=verbose,
        clock=clock,
        **time,
    )
    pupil.hand_back()
    return dataclasses.replace(report, notes=(*report.notes, *pupil.notes))


def _pupil(
    model: Any,
    train: Any,
    validation: Any,
    unlabeled: Any,
    *,
    memory_budget: str | int,
    task: str | None,
    ignore_label: int | None,
    **options: Any,
) -> Pupil:
    """A model and its data, looked at. Arguments are those of `fit`."""
    limit = parse_bytes(memory_budget)
    problem = Problem.inspect(
        model,
        train,
        validation,
        unlabeled,
        task,
        memory_budget=limit,
        ignore_label=ignore_label,
        **options,
    )
    return Pupil(problem, limit=limit, ignore_label=ignore_label)


def _trained(pupil: Pupil, data: Arrays | None, **arguments: Any) -> Report:
    """A call of `fit` from the weights that the model was passed with.

    Args:
        pupil: The model.
        data: A student's; `None` for the labelled samples.
        **arguments: Of `fit`.
    """
    pupil.model.set_weights(pupil.initial)
    train, held, options = pupil.lesson(data)
    return fit(pupil.model, train, held, **options, **arguments)


def _check(rounds: int, threshold: float | None, share: float) -> None:
    sound = rounds >= 1 and (threshold is None or 0.0 <= threshold <= 1.0) and 0.0 <= share < 1.0
    if not sound:
        raise RecipeError(
            "The numbers of self-training are not usable.",
            required="rounds of 1 and more, a threshold from 0 to 1, a labelled share below 1",
            received=f"rounds={rounds!r}, threshold={threshold!r}, labelled_share={share!r}",
            advice="mend the values",
        )


def _part(budget: Budget, of: int) -> float:
    """Seconds: one of so many equal parts of what is left."""
    left = budget.remaining()
    if left <= 0.0:
        raise BudgetError(
            "The time is over before the next model could be trained.",
            required="time for the teacher and each student",
            received=f"{budget.seconds} s",
            advice="give more time, or fewer rounds",
        )
    return left / of
