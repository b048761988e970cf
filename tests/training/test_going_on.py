"""Runs that were killed where it hurts: the same call goes on as if nothing had been."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import keras
import pytest
import tensorflow as tf

import etude
from etude.budget import CostModel
from etude.recipe import Recipe
from etude.report import Report
from etude.report.progress import Progress
from etude.training import progress
from etude.training.store import Store
from etude.training.studio import Studio
from etude_metalearners import META_LEARNERS, Augmentation

from ..short_studies import shorten
from . import helpers
from .test_run import EXHAUSTED, RECIPE, KillAt, Killed, _train

LEARNED = (
    Recipe()
    .give(compute={"batch_size": 16}, optimization={"optimizer": "sgd", "schedule": "one_cycle"})
    .learn("learning_rate", optimization={"learning_rate": 0.3})
)


@pytest.mark.parametrize("step", [1, 12])
def test_a_learned_rate_is_still_the_rate(step: int, tmp_path: Path) -> None:
    """States are only at segments' ends here, so the first kill goes back to step 0."""
    plain, report = _train(LEARNED)
    with pytest.raises(Killed):
        _train(LEARNED, run_dir=tmp_path, callbacks=[KillAt(step)])
    model, again = _train(LEARNED, run_dir=tmp_path)
    assert helpers.difference(helpers.weights(model), helpers.weights(plain)) == 0.0
    assert again.history["learning_rate"] == report.history["learning_rate"]
    assert not any("A callback changed" in event for event in again.events)
    # And the optimizer has its own rate afterwards, as without the kill: SGD's default.
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01)
    assert float(plain.optimizer.learning_rate) == pytest.approx(0.01)


@pytest.mark.slow
def test_a_studied_run_goes_on_with_what_was_found(tmp_path: Path) -> None:
    def fit(folder: Path, *callbacks: Any) -> Any:
        model = helpers.sequential()
        report = etude.fit(
            model, helpers.images(480), epochs=12, run_dir=folder, callbacks=callbacks, verbose=0
        )
        return model, report

    whole, report = fit(tmp_path / "whole")
    found = report.recipe.optimization.learning_rate
    assert found is not None and str(report.recipe.mark("optimization.learning_rate")) == (
        "learned by learning_rate"
    )
    with pytest.raises(Killed):
        fit(tmp_path / "killed", KillAt(3))
    model, again = fit(tmp_path / "killed")
    assert again.recipe.optimization.learning_rate == found
    assert max(again.history["learning_rate"]) > 0.5 * found
    assert helpers.difference(helpers.weights(model), helpers.weights(whole)) == 0.0


def kill_in(monkeypatch: pytest.MonkeyPatch, phase: str, step: int) -> None:
    """Kills at so many steps of a phase, in the midst of a trial."""
    begin, advance = Progress.phase, Progress.advance
    now = {"phase": "", "steps": 0}

    def begins(self: Progress, name: str, *args: Any, **options: Any) -> None:
        now.update(phase=name, steps=0)
        begin(self, name, *args, **options)

    def advances(self: Progress, steps: int, **metrics: float) -> None:
        now["steps"] += steps
        if now["phase"] == phase and now["steps"] >= step:
            raise Killed
        advance(self, steps, **metrics)

    monkeypatch.setattr(Progress, "phase", begins)
    monkeypatch.setattr(Progress, "advance", advances)


def told(findings: Any) -> list[tuple[Any, ...]]:
    """What findings say, but for the time that they took."""
    return [(f.learner, f.key, f.changes, f.evidence, f.why, f.true.steps) for f in findings]


def not_again(*args: Any) -> Any:
    raise AssertionError("this study was over before the kill")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("phase", "step", "done"),
    [("learning rate", 25, ["optimizer"]), ("descent", 30, ["optimizer", "learning_rate"])],
)
def test_a_run_killed_in_a_later_study_keeps_what_the_earlier_ones_found(
    phase: str, step: int, done: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And ends with the weights of one that never stopped, though its model has others by then."""
    shorten(monkeypatch)

    def fit(name: str, seed: int = 1) -> tuple[Any, Any]:
        model = helpers.sequential(seed)
        return model, etude.fit(
            model, helpers.images(480), epochs=14, run_dir=tmp_path / name, verbose=0
        )

    whole, report = fit("whole")
    studied = [finding.learner for finding in report.findings if finding.evidence]
    assert studied == ["optimizer", "learning_rate", "descent"]
    with monkeypatch.context() as patched:
        kill_in(patched, f"studying the {phase}", step)
        with pytest.raises(Killed):
            fit("killed")
    stored = Store(tmp_path / "killed").findings()
    assert [finding.learner for finding in stored if finding.evidence] == done
    with monkeypatch.context() as patched:
        for name in done:
            patched.setattr(META_LEARNERS[name], "learn", not_again)
        model, again = fit("killed", seed=99)
    assert told(again.findings) == told(report.findings)
    assert again.findings[1].true == stored[1].true  # the very finding
    assert again.recipe == report.recipe
    assert helpers.difference(helpers.weights(model), helpers.weights(whole)) == 0.0
    # Without what was found it would have come to other weights.
    other = helpers.sequential()
    etude.fit(other, helpers.images(480), epochs=14, keep=["optimization"], verbose=0)
    assert helpers.difference(helpers.weights(other), helpers.weights(whole)) > 1e-3


@pytest.mark.slow
def test_a_run_killed_in_the_search_for_an_augmentation_ends_as_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By features that have no name of their own; and killed again, after the search."""

    def fit(name: str, seed: int = 1, callbacks: Any = ()) -> tuple[Any, Any]:
        model = helpers.functional(seed)
        report = etude.fit(
            model,
            helpers.images(800),
            epochs=60,
            recipe=Recipe().give(compute={"batch_size": 16}, optimization={"learning_rate": 0.01}),
            keep=["compute", "optimization"],
            learners=[Augmentation(lambda images: images[:, ::3, ::3, 0])],
            run_dir=tmp_path / name,
            callbacks=callbacks,
            verbose=0,
        )
        return model, report

    whole, report = fit("whole")
    (found,) = (one for one in report.findings if one.learner == "augmentation")
    assert found.evidence, found.why
    assert len(found.evidence["trials"]) >= 3, found.why
    with monkeypatch.context() as patched:
        kill_in(patched, "studying the augmentation", 60)
        with pytest.raises(Killed):
            fit("killed")
    stored = Store(tmp_path / "killed").findings()
    assert all(one.learner != "augmentation" for one in stored)
    with pytest.raises(Killed):
        fit("killed", seed=8, callbacks=[KillAt(100)])
    model, again = fit("killed", seed=9)
    assert again.recipe == report.recipe
    assert [f.changes for f in again.findings] == [f.changes for f in report.findings]
    (same,) = (one for one in again.findings if one.learner == "augmentation")
    for name in ("trials", "distances"):
        assert same.evidence[name] == found.evidence[name]
    assert helpers.difference(helpers.weights(model), helpers.weights(whole)) == 0.0


@pytest.mark.slow
def test_a_tuning_killed_in_the_batch_sizes_study_goes_on_after_the_race(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By time, on a clock that stands still: what comes out is what the losses say."""
    shorten(monkeypatch)

    def measure(self: Studio, limit: float = 3.0) -> CostModel:
        self.warm()
        self.costs = CostModel(step=0.1, evaluation=0.01)
        return self.costs

    monkeypatch.setattr(Studio, "measure", measure)
    monkeypatch.setattr(Studio, "step_seconds", lambda self, size, steps=3: 0.1)

    def tune(name: str, seed: int = 1) -> tuple[list[Any], Any]:
        model = helpers.sequential(seed)
        tuning = etude.tune(
            model, helpers.images(480), time_budget=100.0, run_dir=tmp_path / name, verbose=0,
            keep=["precision", "xla", "steps_per_execution"], clock=lambda: 0.0,
        )  # fmt: skip
        return helpers.weights(model), tuning

    weights, whole = tune("whole")
    assert whole.recipe.compute.batch_size == 16  # as many as an epoch of 20 steps allows
    with monkeypatch.context() as patched:
        kill_in(patched, "studying the batch size", 10)
        with pytest.raises(Killed):
            tune("killed")
    with monkeypatch.context() as patched:
        patched.setattr(META_LEARNERS["optimizer"], "learn", not_again)
        left, again = tune("killed", seed=99)
    assert told(again.findings) == told(whole.findings)
    assert {"optimizer", "batch_size", "learning_rate"} <= {
        finding.learner for finding in again.findings if finding.evidence
    }
    assert again.recipe == whole.recipe
    assert helpers.difference(left, weights) == 0.0  # those that the killed call was given


def test_a_scheduler_sets_the_rate_of_the_segment_that_begins(tmp_path: Path) -> None:
    recipe = Recipe().give(
        compute={"batch_size": 16}, optimization={"optimizer": "sgd", "schedule": "constant"}
    )

    def scheduler() -> Any:
        return keras.callbacks.LearningRateScheduler(lambda epoch: 0.2 * 0.5**epoch)

    plain, report = _train(recipe, callbacks=[scheduler()])
    assert report.history["learning_rate"] == pytest.approx([0.2, 0.1, 0.05, 0.025])
    with pytest.raises(Killed):
        _train(recipe, callbacks=[scheduler(), KillAt(20)], run_dir=tmp_path)
    model, again = _train(recipe, callbacks=[scheduler()], run_dir=tmp_path)
    assert again.history["learning_rate"] == pytest.approx([0.2, 0.1, 0.05, 0.025])
    assert helpers.difference(helpers.weights(model), helpers.weights(plain)) == 0.0


@pytest.mark.slow
def test_the_report_of_an_interruption_is_not_that_of_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (
        _train(run_dir=tmp_path, callbacks=[KillAt(12, KeyboardInterrupt)])[1].reason
        == progress.INTERRUPTED
    )

    def killed(*args: Any) -> Any:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Report, "save", killed)
        with pytest.raises(Killed):  # it has trained to its end, and is killed before the report
            _train(run_dir=tmp_path)
    model, report = _train(run_dir=tmp_path)
    assert report.reason == progress.FINISHED
    assert report.budget["steps"] == 34
    assert helpers.difference(helpers.weights(model), helpers.weights(_train()[0])) == 0.0


@pytest.mark.slow
def test_averaged_weights_are_those_of_a_run_opened_again(tmp_path: Path) -> None:
    recipe = RECIPE.give(regularization={"best_weights": False})
    model, _ = _train(recipe, run_dir=tmp_path)
    shutil.rmtree(tmp_path / "model.keras", ignore_errors=True)
    (tmp_path / "report.json").unlink()
    again, _ = _train(recipe, run_dir=tmp_path)
    assert helpers.difference(helpers.weights(again), helpers.weights(model)) == 0.0
    other, _ = _train(recipe.give(regularization={"ema_decay": None}))
    assert helpers.difference(helpers.weights(other), helpers.weights(model)) > 1e-4


@pytest.mark.slow
def test_memory_that_ran_out_is_remembered(tmp_path: Path) -> None:
    plain, report = _train(callbacks=[KillAt(12, EXHAUSTED)])
    assert report.recipe.compute.accumulate == 2
    # Back to step 8 after 12 steps; 20 steps on, in another segment, it is killed.
    with pytest.raises(Killed):
        _train(callbacks=[KillAt(12, EXHAUSTED), KillAt(32)], run_dir=tmp_path)
    model, again = _train(callbacks=[], run_dir=tmp_path)
    assert again.recipe.compute.accumulate == 2
    assert helpers.difference(helpers.weights(model), helpers.weights(plain)) == 0.0


def test_memory_that_ran_out_leaves_the_owners_rate() -> None:
    """The schedule goes on from its own peak, and the optimizer ends with its owner's rate."""
    model = helpers.sequential()
    model.compile(keras.optimizers.SGD(0.03), helpers.loss())
    rates: list[float] = []
    seen = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: rates.append(float(model.optimizer.learning_rate))
    )
    _, report = _train(
        Recipe().give(
            compute={"batch_size": 16},
            optimization={"optimizer": "compiled", "schedule": "one_cycle"},
        ),
        model=model,
        callbacks=[KillAt(12, EXHAUSTED), seen],
    )
    assert report.recipe.compute.accumulate == 2
    assert max(rates) == pytest.approx(0.03, rel=0.05)
    assert max(rates[12:]) == pytest.approx(max(rates[4:12]), rel=0.2)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.03)


def test_evaluation_is_cut_as_training_is() -> None:
    problem = helpers.problem()
    recipe = RECIPE.give(compute={"batch_size": 64, "accumulate": 16})
    from etude.budget import Budget

    studio = Studio(problem, recipe, budget=Budget(None))
    assert studio.evaluation_batch == 4 * 4
    sizes = []
    for _ in range(2):
        studio.halve_micro_batch(MemoryError("none left"))
        sizes.append(studio.recipe.compute.accumulate)
    assert sizes == [32, 64]
    with pytest.raises(etude.errors.RunError, match="a single sample"):
        studio.halve_micro_batch(MemoryError("none left"))
    odd = Studio(
        problem, RECIPE.give(compute={"batch_size": 48, "accumulate": 32}), budget=Budget(None)
    )
    odd.halve_micro_batch(MemoryError("none left"))
    assert odd.recipe.compute.accumulate == 48  # single samples are tried before giving up


def test_a_stream_that_augments_at_random_goes_on(tmp_path: Path) -> None:
    """With other draws, so not with the same bits, but from where it was."""
    x, y = helpers.images()

    def fit(*callbacks: Any) -> Any:
        stream = tf.data.Dataset.from_tensor_slices((x, y)).map(
            lambda image, label: (tf.image.random_flip_left_right(image), label)
        )
        return etude.fit(
            helpers.sequential(), stream, helpers.images(40, seed=3), epochs=4, run_dir=tmp_path,
            recipe=Recipe().give(compute={"batch_size": 16}), callbacks=callbacks, verbose=0,
        )  # fmt: skip

    with pytest.raises(Killed):
        fit(KillAt(25))
    report = fit()
    assert any(event.startswith("Gone on from step") for event in report.events)
    assert report.finished and report.budget["steps"] == 40
