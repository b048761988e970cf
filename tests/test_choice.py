"""What images without labels are for: decided by made-up losses, and chosen in whole calls."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import etude
from etude import _choice, _trials, _use
from etude._choice import BOTH, NONE, PRETRAINED, STUDENT, Outcome
from etude._pupil import Pupil
from etude._session import Session
from etude._student import looks_seconds
from etude.data._base import Arrays
from etude.errors import RecipeError, RunError
from etude.recipe import Recipe
from etude.report import Report
from etude.training.pretrainer import Pretrainer
from etude_metalearners import pairs

from .machine import Machine
from .training import helpers

EITHER = {PRETRAINED, STUDENT}
NOISE = np.random.default_rng(0).normal(size=100)
NOISE = (NOISE - NOISE.mean()) / NOISE.std(ddof=1)  # of mean 0 and deviation 1


def outcome(arm: str, order: int = 0, gain: float = 0.0) -> Outcome:
    """A trial whose losses are lower than those of `none` by a gain, in standard errors.

    The spread of the differences is 1, and of 100 samples the mean has a standard error of .1.
    """
    losses = 2.0 + 0.3 * np.arange(100.0) / 100.0
    if arm != NONE:
        losses = losses + NOISE - 0.1 * gain
    return Outcome(arm, order, tuple(losses), 0.5, 1.0, 10)


def done(*outcomes: Outcome) -> dict[_choice.Key, Outcome]:
    return {one.key: one for one in outcomes}


# -- The decision ------------------------------------------------------------------------------


def test_differences_are_those_by_hand() -> None:
    found = _choice.against(done(outcome(NONE), outcome(PRETRAINED, gain=4.0)), PRETRAINED, NONE)
    assert found is not None
    assert found.mean == pytest.approx(-0.4)
    assert found.error == pytest.approx(0.1)
    assert 2.8 < found.bound < 2.95  # of Student's distribution with 99 degrees of freedom


@pytest.mark.parametrize(
    ("gains", "again", "picked"),
    [
        ({PRETRAINED: 0.0, STUDENT: 0.0}, {}, NONE),  # ties stay off
        ({PRETRAINED: -5.0, STUDENT: -9.0}, {}, NONE),
        ({PRETRAINED: 2.7, STUDENT: 2.7}, {}, NONE),
        ({PRETRAINED: 4.0, BOTH: 4.0}, {PRETRAINED: 2.0}, PRETRAINED),
        ({PRETRAINED: 4.0, BOTH: 4.0}, {PRETRAINED: 0.5}, NONE),  # by chance
        ({PRETRAINED: 4.0, BOTH: 4.0}, {PRETRAINED: -3.0}, NONE),
        ({PRETRAINED: 1.0, STUDENT: 4.0}, {STUDENT: 2.0}, STUDENT),
        ({STUDENT: 4.0}, {STUDENT: 2.0}, STUDENT),
        ({PRETRAINED: 4.0}, {PRETRAINED: 2.0}, PRETRAINED),
    ],
)
def test_only_what_is_better_twice_is_adopted(
    gains: dict[str, float], again: dict[str, float], picked: str
) -> None:
    trials = done(
        outcome(NONE),
        *(outcome(arm, gain=gain) for arm, gain in gains.items()),
        outcome(NONE, 1),
        *(outcome(arm, 1, gain) for arm, gain in again.items()),
    )
    assert _choice.pick(trials) == picked
    found = _choice.evidence(trials, {})
    assert found["pick"] == picked
    for row in found["arms"]:
        if row["arm"] != NONE:
            gain = (again if row["order"] else gains)[row["arm"]]
            if row["against"] == NONE:
                assert row["difference"] == pytest.approx(-0.1 * gain)


def test_a_student_is_held_against_its_own_teacher() -> None:
    """It gains on nothing what pre-training gains, and nothing on that: it is not adopted."""
    better = outcome(BOTH, gain=4.0)
    losses = np.asarray(outcome(PRETRAINED, gain=4.0).losses) - 0.5 - 0.1 * NOISE[::-1]
    much = dataclasses.replace(better, losses=tuple(losses))
    start = [outcome(NONE), outcome(PRETRAINED, gain=4.0), outcome(NONE, 1)]
    assert _choice.favourite(done(*start, better)) == PRETRAINED
    assert _choice.favourite(done(*start, much)) == BOTH
    assert _choice.pick(done(*start, much)) == NONE  # not tried again yet
    assert _choice.pick(done(*start, much, outcome(BOTH, 1, 3.0))) == BOTH


def test_losses_that_are_not_finite_never_win() -> None:
    lost = dataclasses.replace(outcome(STUDENT), losses=(math.nan,) * 100)
    assert _choice.favourite(done(outcome(NONE), lost)) == NONE
    broken = dataclasses.replace(outcome(NONE), losses=(math.nan,) * 100)
    assert _choice.favourite(done(broken, outcome(STUDENT))) == STUDENT


def orders(possible: set[str], gains: dict[str, float]) -> list[_choice.Key]:
    """The trials that a decision takes, where each says what it is said to."""
    trials: dict[_choice.Key, Outcome] = {}
    while (key := _choice.following(trials, possible)) is not None:
        trials[key] = outcome(*key, gains.get(key[0], 0.0))
        assert len(trials) < 9
    return list(trials)


@pytest.mark.parametrize(
    ("possible", "gains", "expected"),
    [
        (EITHER, {}, [(NONE, 0), (PRETRAINED, 0), (STUDENT, 0)]),
        (
            EITHER,
            {PRETRAINED: 5.0},
            [(NONE, 0), (PRETRAINED, 0), (BOTH, 0), (NONE, 1), (PRETRAINED, 1)],
        ),
        ({STUDENT}, {STUDENT: 5.0}, [(NONE, 0), (STUDENT, 0), (NONE, 1), (STUDENT, 1)]),
        ({PRETRAINED}, {}, [(NONE, 0), (PRETRAINED, 0)]),
        (set(), {}, []),
    ],
)
def test_no_more_is_tried_than_the_decision_waits_for(
    possible: set[str], gains: dict[str, float], expected: list[_choice.Key]
) -> None:
    found = orders(possible, gains)
    assert found == expected
    assert not found or len(found) <= _choice.most(possible)


def test_what_was_found_is_said() -> None:
    nothing = done(outcome(NONE), outcome(PRETRAINED, gain=1.0))
    assert "pre-training differs by -1.0 standard errors" in _choice.why(nothing, {STUDENT: "so"})
    assert "Not tried: a noisy student, since so." in _choice.why(nothing, {STUDENT: "so"})
    assert _choice.why(done(outcome(NONE)), {}) == "There is nothing to compare."
    once = done(outcome(NONE), outcome(STUDENT, gain=4.0), outcome(NONE, 1), outcome(STUDENT, 1))
    assert "lower by 4.0 standard errors" in _choice.why(once, {})
    assert "not confirmed" in _choice.why(once, {})
    twice = {**once, (STUDENT, 1): outcome(STUDENT, 1, 4.0)}
    assert "lower again" in _choice.why(twice, {})


# -- Who judges --------------------------------------------------------------------------------


def test_held_out_labels_judge_with_some_of_the_others() -> None:
    x, y = helpers.images(160)
    train, held = Arrays(x[:130], y[:130]), Arrays(x[130:], y[130:])
    own, judges, withheld = _trials.parted(train, held, y[:130], 3)
    assert (len(judges), withheld, len(own)) == (53, 23, 107)  # a third of 160
    # Each sample is on one side.
    both = np.concatenate([own.images, judges.images])
    assert len(np.unique(both.reshape(160, -1), axis=0)) == 160
    counts = np.bincount(np.asarray(own.labels))
    assert counts.max() - counts.min() <= 2
    again = _trials.parted(train, held, y[:130], 3)
    np.testing.assert_array_equal(again[0].images, own.images)
    assert _trials.parted(held, train, y[130:], 3)[2] == 0  # there are enough


def test_images_that_judge_are_not_learned_from() -> None:
    x = helpers.images(40)[0]
    np.testing.assert_array_equal(_trials.unseen(x, x[5:25]), np.concatenate([x[:5], x[25:]]))


# -- Whole calls -------------------------------------------------------------------------------


class Tick(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
    """Moves the clock by so many seconds a step."""

    def __init__(self, machine: Machine, seconds: float) -> None:
        super().__init__()
        self.machine, self.seconds = machine, seconds

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.machine.now += self.seconds


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A slow machine with short trials, on which a pre-training's steps take time, too."""
    made = Machine(step=0.1, trace=0.2, augment=0.3)
    made.install(monkeypatch)
    fit = Pretrainer.fit

    def ticking(self: Any, data: Any, **options: Any) -> Any:
        options["callbacks"] = [Tick(made, 0.1), *(options.get("callbacks") or [])]
        return fit(self, data, **options)

    monkeypatch.setattr(Pretrainer, "fit", ticking)
    monkeypatch.setattr(_use, "LEAST_SECONDS", 5.0)
    monkeypatch.setattr(_trials, "LEAST_STEPS", 8)
    monkeypatch.setattr(_use, "LEAST_STEPS", 8)
    monkeypatch.setattr(_trials, "LEAST_PRETRAINING", 4)
    lessons = Pupil.lessons

    def all_sure(self: Pupil, said: Any, threshold: float | None) -> Any:
        return lessons(self, said, 0.0)

    monkeypatch.setattr(Pupil, "lessons", all_sure)
    return made


class Told:
    """Lets trials say what they are told to, without training.

    Args:
        gains: Of arms, in standard errors; of the second order too.
        seconds: Of each.
    """

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, machine: Machine, gains: dict[str, float]
    ) -> None:
        self.ran: list[_choice.Key] = []
        self.failing: dict[_choice.Key, BaseException] = {}
        told = self

        def run(self: _trials.Trials, arm: str, order: int) -> Outcome:
            if (arm, order) in told.failing:
                raise told.failing.pop((arm, order))
            told.ran.append((arm, order))
            machine.now += 1.0
            return outcome(arm, order, gains.get(arm, 0.0))

        monkeypatch.setattr(_trials.Trials, "run", run)


def fitted(machine: Machine, model: Any = None, unlabeled: Any = None, **given: Any) -> Report:
    options: dict[str, Any] = {
        "time_budget": 30.0,
        "clock": machine,
        "verbose": 0,
        "seed": 1,
    } | given
    options["callbacks"] = [Tick(machine, 0.102)]
    # Of the studies that of batch normalization is left.
    kept = {"compute", "optimization", "augmentation", "regularization"}
    options["keep"] = [*kept, *given.get("keep", ())]
    others = helpers.images(100, seed=7)[0] if unlabeled is None else unlabeled
    return etude.fit(
        model or helpers.functional(), helpers.images(160), unlabeled=others, **options
    )


def found(report: Report) -> Any:
    return next(one for one in report.findings if one.learner == _use.LEARNER)


@pytest.mark.slow
def test_real_trials_leave_no_trace(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> None:
    """The weights are those of a call that trains as long without them; others are of another
    size, fewer than labelled ones, and some of them labelled."""
    at: list[float] = []
    settled = _use._settled

    def noting(*args: Any, **options: Any) -> Any:
        result = settled(*args, **options)
        at.append(machine.now)
        return result

    monkeypatch.setattr(_use, "_settled", noting)
    monkeypatch.setattr(_choice, "favourite", lambda done: STUDENT)
    monkeypatch.setattr(_choice, "confirmed", lambda done: False)
    small = np.repeat(np.repeat(helpers.images(30, seed=7)[0], 2, axis=1), 2, axis=2)
    first = helpers.functional()
    report = fitted(machine, first, small)
    assert machine.now <= 30.0
    rows = found(report).evidence["arms"]
    tried = [(row["arm"], row["order"]) for row in rows]
    assert tried == [(NONE, 0), (PRETRAINED, 0), (STUDENT, 0), (NONE, 1), (STUDENT, 1)]
    assert found(report).changes == {}
    assert at[0] <= 1.2 * 30.0 / 3.0
    for row in rows:  # equal time, but for what labelling takes and a step is not divided by
        assert row["seconds"] == pytest.approx(rows[0]["seconds"], rel=0.25)

    def nothing(session: Any, kept: Any, *, study: bool) -> Any:
        session.prepared.begin()
        machine.now = at[0]
        return NONE, None

    monkeypatch.setattr(_use, "_settled", nothing)
    machine.now = 0.0
    second = helpers.functional()
    fitted(machine, second, small)
    assert helpers.difference(helpers.weights(first), helpers.weights(second)) == 0.0


def test_what_wins_is_done_in_time(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> None:
    told = Told(monkeypatch, machine, {PRETRAINED: 5.0})
    pretrained: list[float] = []
    within = _use.Prepared.within

    def noting(self: Any, time: Any, epochs: Any = None, **options: Any) -> Any:
        pretrained.append(time.seconds)
        assert self.feed.size == 136 + 100  # labelled ones, and the others
        return within(self, time, epochs, **options)

    monkeypatch.setattr(_use.Prepared, "within", noting)
    model = helpers.functional()
    report = fitted(machine, model)
    assert told.ran == [(NONE, 0), (PRETRAINED, 0), (BOTH, 0), (NONE, 1), (PRETRAINED, 1)]
    assert report.recipe.semisupervised.method == PRETRAINED
    assert str(report.recipe.mark("semisupervised.method")) == "learned by unlabeled_use"
    parts = {row["part"]: row["true"] for row in report.costs}
    assert parts["pre-training"] == pytest.approx(pretrained[0], rel=0.1)
    whole = sum(parts.values())
    assert whole == pytest.approx(report.budget["seconds"], abs=0.5)
    assert 24.0 < machine.now <= 30.0
    values = model.evaluate(*helpers.images(160), verbose=0, return_dict=True)
    assert {"loss", "accuracy"} <= set(values)


def test_a_look_at_many_test_samples_is_not_many_traces() -> None:
    """A second for a first look at a few samples, and a millisecond for each one more."""
    assert looks_seconds(1.0, 1e-3, 0) == 2.0
    assert looks_seconds(1.0, 1e-3, 10_000) == pytest.approx(12.0)


@pytest.mark.slow
def test_a_student_that_wins_is_taught(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> None:
    Told(monkeypatch, machine, {STUDENT: 5.0})
    sets: list[int] = []
    perform = Session.perform

    def noting(self: Session, *args: Any, **options: Any) -> Report:
        sets.append(self.problem.train.count())
        return perform(self, *args, **options)

    monkeypatch.setattr(Session, "perform", noting)
    monkeypatch.setattr(_trials.Trials, "possible", {STUDENT}, raising=False)
    model, test = helpers.functional(), helpers.images(40, seed=9)
    kept = Recipe().give(optimization={"learning_rate": 0.01})
    report = fitted(machine, model, test=test, recipe=kept, time_budget=40.0)
    assert report.recipe.semisupervised.method == STUDENT
    assert machine.now <= 40.0
    assert sets[0] == 136
    values = model.evaluate(*test, verbose=0, return_dict=True)
    assert report.outcome["test_accuracy"] == pytest.approx(values["accuracy"])
    note = report.notes[-1]
    if len(sets) == 2:
        assert sets[1] > 136 and "does better on the validation data" in note
        assert any(row["part"].startswith("student: ") for row in report.costs)
    else:
        assert "no student" in note
    assert Report.from_dict(report.to_dict()).findings[0].learner == _use.LEARNER


@pytest.mark.slow
def test_a_killed_call_goes_on(
    monkeypatch: pytest.MonkeyPatch, machine: Machine, tmp_path: Path
) -> None:
    told = Told(monkeypatch, machine, {PRETRAINED: 5.0})
    told.failing[BOTH, 0] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        fitted(machine, run_dir=tmp_path)
    assert told.ran == [(NONE, 0), (PRETRAINED, 0)]
    perform = Session.perform

    def killed(self: Session, *args: Any, **options: Any) -> Report:
        raise KeyboardInterrupt

    monkeypatch.setattr(Session, "perform", killed)
    with pytest.raises(KeyboardInterrupt):  # after the pre-training
        fitted(machine, run_dir=tmp_path)
    assert told.ran == [(NONE, 0), (PRETRAINED, 0), (BOTH, 0), (NONE, 1), (PRETRAINED, 1)]
    monkeypatch.setattr(Session, "perform", perform)
    monkeypatch.setattr(_use.Prepared, "within", None)  # it is not pre-trained again
    report = fitted(machine, run_dir=tmp_path)
    assert len(told.ran) == 5
    assert report.recipe.semisupervised.method == PRETRAINED
    again = fitted(machine, run_dir=tmp_path)
    assert again.budget["steps"] == report.budget["steps"]
    assert found(again).why == found(report).why
    assert report.budget["seconds"] <= 30.0


@pytest.mark.slow
def test_a_trial_that_fails_is_left_out(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> None:
    told = Told(monkeypatch, machine, {})
    told.failing[PRETRAINED, 0] = RecipeError("It is not so.", required="", received="", advice="")
    report = fitted(machine)
    assert told.ran == [(NONE, 0), (STUDENT, 0)]
    assert found(report).evidence["left_out"] == {PRETRAINED: "it is not so"}
    assert "since it is not so" in found(report).why


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"time_budget": None, "epochs": 1}, "equal time"),
        ({"epochs": 1}, "equal time"),
        ({"time_budget": 4.0}, "at least 5 s"),
        ({"keep": ["semisupervised"], "epochs": 1}, "fixed by you"),
        (
            {"recipe": Recipe().give(semisupervised={"batch_norm": "joint"}), "epochs": 1},
            "fixed by you",
        ),
    ],
)
def test_where_nothing_can_be_chosen_it_is_said(
    options: dict[str, Any], why: str, monkeypatch: pytest.MonkeyPatch, machine: Machine
) -> None:
    told = Told(monkeypatch, machine, {STUDENT: 9.0})

    def untrained(self: Session, *args: Any, **options: Any) -> Report:
        return Report(
            problem={}, recipe=self.prepared.recipe, findings=tuple(self.prepared.findings)
        )

    monkeypatch.setattr(Session, "perform", untrained)
    report = fitted(machine, **options)
    assert not told.ran
    assert found(report).why.startswith("Not tried: ")
    assert why in found(report).why
    assert report.recipe.semisupervised.method == NONE


@pytest.mark.slow
def test_a_pretraining_that_diverges_is_left_out(
    monkeypatch: pytest.MonkeyPatch, machine: Machine, tmp_path: Path
) -> None:
    def diverged(self: Any, *args: Any, **options: Any) -> Any:
        raise RunError("It diverged.", required="", received="nan in epoch 3", advice="")

    def killed(self: Session, *args: Any, **options: Any) -> Report:
        raise KeyboardInterrupt

    monkeypatch.setattr(_use.Prepared, "within", diverged)
    given = Recipe().give(semisupervised={"method": PRETRAINED})
    with monkeypatch.context() as context:
        context.setattr(Session, "perform", killed)
        with pytest.raises(KeyboardInterrupt):
            fitted(machine, recipe=given, run_dir=tmp_path)
    monkeypatch.setattr(_use.Prepared, "within", None)  # it is not begun again, and still said
    report = fitted(machine, recipe=given, run_dir=tmp_path)
    assert "Training began without it: it diverged, nan in epoch 3." in report.notes
    assert report.budget["steps"] > 0


@pytest.mark.slow
def test_what_the_recipe_says_is_done_without_trials(
    monkeypatch: pytest.MonkeyPatch, machine: Machine
) -> None:
    told = Told(monkeypatch, machine, {})
    given = Recipe().give(semisupervised={"method": PRETRAINED})
    report = fitted(machine, recipe=given)
    assert not told.ran
    assert "pre-training" in {row["part"] for row in report.costs}
    with pytest.raises(RecipeError, match="images without labels"):
        etude.fit(helpers.functional(), helpers.images(), recipe=given, verbose=0)
    with pytest.raises(RecipeError, match="method"):
        Recipe().give(semisupervised={"method": "magic"})


def test_a_plan_counts_trials_in(machine: Machine) -> None:
    plan = etude.plan(
        helpers.functional(), helpers.images(160), unlabeled=helpers.images(100, seed=7)[0],
        time_budget=30.0, clock=machine, verbose=0,
    )  # fmt: skip
    assert plan.seconds[_use.TRIALS] == pytest.approx(10.0, rel=0.1)
    assert sum(plan.seconds.values()) <= 30.0


def test_adoption_takes_what_the_house_takes() -> None:
    assert pairs.BOUND == 2.8
