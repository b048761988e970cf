"""A session whose model becomes a teacher, the student after it, and what of it is stored."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from etude._choice import Key, Outcome
from etude._preparation import FINISH_SECONDS, PAGE_SECONDS
from etude._pupil import Lessons, Pupil
from etude._session import Session
from etude._trials import LABELLED_SHARE, TEACHER_SHARE
from etude.budget import Budget
from etude.data._base import Source
from etude.data.resident import as_input
from etude.problem import Problem
from etude.report import Report
from etude.storage import read_json, write_json

# The file of a run's folder, and the folder in it that is the student's.
KEPT, FOLDER = "choice.json", "student"
# What the student's events, parts and the like are told apart by.
PREFIX = "student: "


class SessionOf(Protocol):
    """Makes another session of the same call."""

    def __call__(
        self,
        problem: Problem,
        budget: Budget,
        *,
        method: str | None = None,
        seed: int | None = None,
        run_dir: str | Path | None = None,
    ) -> Session: ...


class Kept:
    """What of the choice is stored in a run's folder, so that a killed call goes on.

    Args:
        session: Whose folder.
    """

    def __init__(self, session: Session) -> None:
        self._path = None if session.store is None else session.store.folder / KEPT
        self._budget = session.budget
        self.values: dict[str, Any] = {}
        if self._path is not None and self._path.exists():
            self.values = dict(read_json(self._path))

    def put(self, **values: Any) -> None:
        """Stores values beside the others, with the time that was spent."""
        self.values |= {**values, "spent": self._budget.spent()}
        if self._path is not None:
            write_json(self._path, self.values)

    @property
    def method(self) -> str | None:
        """What was chosen; `None` before that."""
        method = self.values.get("method")
        return None if method is None else str(method)

    @property
    def trials(self) -> dict[Key, Outcome]:
        """Those that are finished."""
        rows = [Outcome(**row) for row in self.values.get("trials", ())]
        rows = [
            dataclasses.replace(
                row, losses=tuple(np.nan if x is None else float(x) for x in row.losses)
            )
            for row in rows
        ]
        return {row.key: row for row in rows}

    def begin(self, session: Session) -> None:
        """Counts the time of an earlier call in, which nothing else does before studies began."""
        store = session.store
        if store is not None and "spent" not in store.findings_meta():
            session.budget.resume(float(self.values.get("spent", 0.0)))


def pupil_of(session: Session) -> Pupil:
    """The session's problem, in memory."""
    ignore = session.problem.task.evidence.ignore
    return Pupil(session.problem, limit=session.memory_budget, ignore_label=ignore)


def taught(
    session: Session,
    session_of: SessionOf,
    kept: Kept,
    method: str,
    callbacks: Sequence[Any],
    *,
    study: bool,
) -> Report:
    """Trains the session's model, and a student by what it says; the better one is returned.

    Both begin with the weights that the model has.

    Args:
        session: The teacher's.
        session_of: Makes the student's.
        kept: What is stored.
        method: As of the recipe.
        callbacks: The user's.
        study: Whether studies are made.
    """
    budget, model = session.budget, session.problem.model
    pupil = pupil_of(session)
    if budget.seconds is not None and "teacher" not in kept.values:
        files = PAGE_SECONDS if session.store else 0.0
        part = TEACHER_SHARE * max(0.0, budget.remaining() - FINISH_SECONDS - files)
        kept.put(teacher=budget.spent() + part)
    with _until(budget, kept.values.get("teacher")):
        first = session.perform(callbacks, study=study)
    if not first.finished:
        return _told(session, pupil, [first], 0, None)
    start = budget.spent()
    score, weights = pupil.score(), model.get_weights()
    looked = budget.spent() - start
    start = budget.spent()
    lessons = pupil.lessons(pupil.probabilities(model), None)
    second = None
    if len(lessons.images):
        validation, test = session.problem.validation, session.problem.test
        each = min(looked / validation.count(), (budget.spent() - start) / pupil.count)
        reserved = looks_seconds(looked, each, 0 if test is None else test.count())
        reserved += FINISH_SECONDS + (PAGE_SECONDS if session.store else 0.0)
        second = _student(
            session, session_of, kept, method, pupil, lessons, reserved, callbacks, study=study
        )
    if second is None:
        model.set_weights(weights)
        return _told(session, pupil, [first], 0, lessons)
    better = pupil.beats(pupil.score(), [score])
    if not better:
        model.set_weights(weights)
    return _told(session, pupil, [first, second], int(better), lessons)


@contextlib.contextmanager
def _until(budget: Budget, seconds: float | None) -> Iterator[None]:
    """Within the context the budget ends sooner."""
    whole = budget.seconds
    budget.seconds = seconds
    try:
        yield
    finally:
        budget.seconds = whole


def looks_seconds(looked: float, each: float, tested: int) -> float:
    """What looking at both costs at the end.

    Args:
        looked: Seconds of a first look at the validation data. Most of it is tracing, if they are
            few, and there are two more such looks.
        each: Seconds of a sample beside that.
        tested: Test samples, which the second of these traces serves too.
    """
    return 2.0 * looked + each * tested


def _student(
    session: Session,
    session_of: SessionOf,
    kept: Kept,
    method: str,
    pupil: Pupil,
    lessons: Lessons,
    reserved: float,
    callbacks: Sequence[Any],
    *,
    study: bool,
) -> Report | None:
    """The report of a student's training; `None` where there is no time for one."""
    budget, problem = session.budget, session.problem
    seconds = None
    if budget.seconds is not None:
        if "student" not in kept.values:
            kept.put(student=budget.remaining() - reserved)
        seconds = float(kept.values["student"])
        if seconds <= 0.0:
            return None
    own = Budget(seconds, clock=budget.clock)
    start = budget.spent()
    pupil.model.set_weights(pupil.initial)
    train, held, options = pupil.lesson(pupil.joined(lessons, LABELLED_SHARE))
    options["memory_budget"] = 4 * session.memory_budget
    task = options.pop("task")
    looked = Problem.inspect(pupil.model, train, held, None, task, seed=session.seed, **options)
    posed = dataclasses.replace(
        looked,
        unlabeled=problem.unlabeled,
        notes=(),
        # What a teacher says may differ in the last bits when a killed call goes on.
        identity={**problem.identity, "student": method},
    )
    folder = None if session.store is None else session.store.folder / FOLDER
    student = session_of(posed, own, method=method, seed=session.seed + 1, run_dir=folder)
    report = student.perform(callbacks, study=study)
    budget.resume(own.spent() - (budget.spent() - start))
    return report


def _told(
    session: Session, pupil: Pupil, reports: list[Report], better: int, lessons: Lessons | None
) -> Report:
    """The report of all: of the model that is returned, with what the other one cost."""
    first, best, last = reports[0], reports[better], reports[-1]
    pupil.hand_back()
    start = session.budget.spent()
    outcome = dict(first.outcome)
    costs = [dict(row) for row in first.costs]
    if len(reports) > 1:
        outcome = _evaluated(pupil, session.problem.validation, "val_")
        if session.problem.test is not None:
            outcome |= _evaluated(pupil, session.problem.test, "test_")
        costs += [{**row, "part": f"{PREFIX}{row['part']}"} for row in last.costs]
        taken = session.budget.spent() - start
        costs.append({"part": "evaluating both", "predicted": None, "true": taken})
    findings = list(first.findings)
    if better:  # those of the student's own, and what was found before both
        learners = {one.learner for one in best.findings}
        findings = [one for one in findings if one.learner not in learners] + list(best.findings)
    events = [*first.events]
    if len(reports) > 1:
        events += [f"{PREFIX}{event}" for event in last.events]
    report = dataclasses.replace(
        best,
        problem=first.problem,
        outcome=outcome,
        notes=tuple(dict.fromkeys([*first.notes, *pupil.notes, _said(reports, better, lessons)])),
        findings=tuple(findings),
        costs=costs,
        events=tuple(events),
        budget={
            **best.budget,
            "time_budget": session.budget.seconds,
            "seconds": session.budget.spent(),
            "steps": sum(int(one.budget["steps"]) for one in reports),
        },
        finished=all(one.finished for one in reports),
        reason=last.reason,
        seed=session.seed,
        run_dir=first.run_dir,
        model=session.problem.model,
    )
    if session.store is not None:
        report.save(session.store.folder)
    return report


def _said(reports: Sequence[Report], better: int, lessons: Lessons | None) -> str:
    """What became of the student, in words."""
    if lessons is None:
        return "The training of the teacher did not end: there is no student."
    if not len(lessons.images):
        return "The teacher is sure of no image without a label: there is no student."
    if len(reports) < 2:
        return "No time was left for a student."
    told = lessons.told()
    return (
        f"A student learned from {told['taught']:,} samples ({told['images']:,} images) that a "
        f"teacher had labelled. The {'student' if better else 'teacher'} does better on the "
        f"validation data, and its weights are returned."
    )


def _evaluated(pupil: Pupil, source: Source, prefix: str) -> dict[str, float]:
    """All metrics of the model as it was handed back."""
    data = source.in_order(64).map(lambda x, *more: (as_input(x), *more))
    found = pupil.model.evaluate(data, verbose=0, return_dict=True)
    return {f"{prefix}{name}": float(value) for name, value in found.items()}
