"""Runs: the schedule is kept, faults are survived, nothing is lost."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import etude
from etude.budget import Budget
from etude.errors import RunError
from etude.recipe import Recipe
from etude.training import best_evaluation, conductor, progress, snapshot
from etude.training import run as runs

from . import helpers

RECIPE = Recipe().give(
    compute={"batch_size": 16},
    optimization={
        "optimizer": "nesterov", "learning_rate": 0.05, "schedule": "one_cycle",
        "cycle_momentum": True,
    },
    regularization={"ema_decay": 0.9, "clip_norm": 1.0, "label_smoothing": 0.1},
)  # fmt: skip


def _train(recipe: Recipe = RECIPE, model: Any = None, **options: Any) -> tuple[Any, Any]:
    """A run without study on 136 training and 24 validation samples: 8.5 steps an epoch."""
    model = model or helpers.sequential()
    options = {"epochs": 4, "verbose": 0} | options
    return model, etude.train(helpers.problem(model), recipe, **options)


def test_the_schedule_is_kept_and_the_report_is_true() -> None:
    model, report = _train()
    assert report.finished
    assert report.reason == progress.FINISHED
    assert report.budget["steps"] == round(4 * 136 / 16)
    # Segments are rounded epochs; the last one ends where the schedule ends.
    assert report.history["epoch"] == pytest.approx([8 / 8.5, 17 / 8.5, 26 / 8.5, 4.0])
    assert report.history["learning_rate"][-1] < 0.001 * 0.05 * 5
    assert report.keras_history.history is report.history or report.keras_history.history == (
        report.history
    )
    held = helpers.problem(helpers.sequential()).validation.arrays(10**9)
    assert held is not None
    values = model.evaluate(held.images, held.labels, verbose=0, return_dict=True)
    assert report.outcome["val_accuracy"] == pytest.approx(values["accuracy"], abs=1e-6)
    assert report.outcome["val_loss"] == pytest.approx(values["loss"], abs=1e-5)
    assert report.outcome["val_accuracy"] == max(report.history["val_accuracy"])


def test_the_weights_are_those_of_the_evaluation_that_is_judged_best(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Judged by twos from the third one on; the same after a kill."""
    monkeypatch.setattr(best_evaluation, "SHARE", 2)
    model, report = _train(epochs=8)
    best = 0
    values = report.history["val_accuracy"]
    for place in range(1, len(values)):
        window = 1 + place // 2
        start = max(0, best + 1 - window)
        if sum(values[place + 1 - window : place + 1]) > sum(values[start : start + window]) + 1e-9:
            best = place
    assert report.outcome["val_accuracy"] == values[best]
    assert report.outcome["val_loss"] == report.history["val_loss"][best]
    assert report.budget["epoch_returned"] == report.history["epoch"][best]
    held = helpers.problem(helpers.sequential()).validation.arrays(10**9)
    assert held is not None
    now = model.evaluate(held.images, held.labels, verbose=0, return_dict=True)
    assert now["loss"] == pytest.approx(report.outcome["val_loss"], abs=1e-5)
    with pytest.raises(Killed):
        _train(epochs=8, run_dir=tmp_path, callbacks=[KillAt(40)])
    again, told = _train(epochs=8, run_dir=tmp_path)
    assert told.budget["epoch_returned"] == report.budget["epoch_returned"]
    assert helpers.difference(helpers.weights(again), helpers.weights(model)) == 0.0


def test_the_same_call_gives_the_same_weights() -> None:
    first, second = _train()[0], _train()[0]
    assert helpers.difference(helpers.weights(first), helpers.weights(second)) == 0.0
    other = _train(seed=1)[0]
    assert helpers.difference(helpers.weights(first), helpers.weights(other)) > 1e-4


class Killed(BaseException):
    """Stands for SIGKILL: nothing may catch it."""


class KillAt(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
    """Raises at the end of a step: a kill, an interruption, or too little memory."""

    def __init__(self, step: int, error: type[BaseException] | BaseException = Killed) -> None:
        super().__init__()
        self._left = step
        self._error = error

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._left -= 1
        if self._left == 0:
            raise self._error


EXHAUSTED = tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")


# A kill before a segment ends, and as it ends; the others among the slow ones.
KILLS = [7, 8, *(pytest.param(step, marks=pytest.mark.slow) for step in (1, 9, 20, 33))]


@pytest.mark.parametrize("step", KILLS)
def test_a_killed_run_ends_with_the_same_bits(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conductor, "STORE_SECONDS", 0.0)  # a state after every step
    monkeypatch.setattr(conductor, "STORE_SHARE", 0.0)
    want = helpers.weights(_train()[0])
    with pytest.raises(Killed):
        _train(run_dir=tmp_path, callbacks=[KillAt(step)])
    model, report = _train(run_dir=tmp_path, model=helpers.sequential(seed=99))
    assert helpers.difference(helpers.weights(model), want) == 0.0
    assert report.budget["steps"] == 34
    assert len(report.history["loss"]) == 4
    assert not any(math.isnan(value) for value in report.history["val_loss"])


def test_a_run_that_ended_is_only_read(tmp_path: Path) -> None:
    model, report = _train(run_dir=tmp_path)
    again, second = _train(run_dir=tmp_path, model=helpers.sequential(seed=99))
    assert helpers.difference(helpers.weights(model), helpers.weights(again)) == 0.0
    assert second.outcome == pytest.approx(report.outcome)
    assert second.budget == report.budget


def test_another_call_is_not_mixed_in(tmp_path: Path) -> None:
    _train(run_dir=tmp_path, epochs=1)
    with pytest.raises(RunError, match="epochs differ"):
        _train(run_dir=tmp_path, epochs=2)


def test_a_broken_state_says_so(tmp_path: Path) -> None:
    _train(run_dir=tmp_path, epochs=1)
    (tmp_path / "state.npz").write_bytes(b"half a file")
    with pytest.raises(RunError, match="cannot be read"):
        _train(run_dir=tmp_path, epochs=1)


def test_callbacks_go_on_with_their_state(tmp_path: Path) -> None:
    class Counter(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.epochs = 0
            self.seen: list[int] = []

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.epochs += 1
            self.seen.append(epoch)

    with pytest.raises(Killed):
        _train(run_dir=tmp_path, callbacks=[Counter(), KillAt(20)])
    counter = Counter()
    _train(run_dir=tmp_path, callbacks=[counter, KillAt(10**6)])
    assert counter.epochs == 4
    assert counter.seen == [0, 1, 2, 3]


def test_ctrl_c_returns_the_best_so_far() -> None:
    model, report = _train(callbacks=[KillAt(20, KeyboardInterrupt)])
    assert not report.finished
    assert report.reason == "interrupted"
    assert report.outcome["val_accuracy"] == max(report.history["val_accuracy"])
    assert len(report.history["loss"]) == 2
    held = helpers.problem(helpers.sequential()).validation.arrays(10**9)
    assert held is not None
    value = model.evaluate(held.images, held.labels, verbose=0, return_dict=True)["accuracy"]
    assert value == pytest.approx(report.outcome["val_accuracy"], abs=1e-6)


def test_an_interrupted_run_goes_on_from_the_step_it_had_reached(tmp_path: Path) -> None:
    class Interrupt(KillAt):
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            if self._left == 0:
                self._left = -1
                raise KeyboardInterrupt

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self._left -= 1

    want = helpers.weights(_train()[0])
    _, report = _train(run_dir=tmp_path, callbacks=[Interrupt(5)])
    assert report.reason == "interrupted"
    model, report = _train(run_dir=tmp_path)
    assert "Gone on from step 5." in report.events
    assert report.finished
    assert helpers.difference(helpers.weights(model), want) == 0.0


class Poison(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
    """Makes a weight NaN at one step, or at all from there on."""

    def __init__(self, step: int, times: int) -> None:
        super().__init__()
        # Private, so that going back to a stored state does not bring the fault back.
        self._step, self._times, self._done = step, times, 0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._done += 1
        if self._done >= self._step and self._times > 0:
            self._times -= 1
            self.model.model.trainable_variables[0].assign_add(
                np.full(self.model.model.trainable_variables[0].shape, np.nan, np.float32)
            )


def test_a_loss_that_is_not_finite_goes_back_with_half_the_rate() -> None:
    _, report = _train(callbacks=[Poison(12, 1)])
    assert report.finished
    assert report.budget["steps"] == 34
    assert sum("half the learning rate" in event for event in report.events) == 1
    assert np.isfinite(report.outcome["val_loss"])
    plain = _train()[1]
    ratio = report.history["learning_rate"][2] / plain.history["learning_rate"][2]
    assert ratio == pytest.approx(0.5, rel=1e-4)
    assert report.history["learning_rate"][0] == plain.history["learning_rate"][0]


def test_a_loss_that_stays_bad_ends_the_run_with_the_best_so_far() -> None:
    _, report = _train(callbacks=[Poison(12, 10**6)])
    assert not report.finished
    assert report.reason == progress.NOT_FINITE
    assert sum("half the learning rate" in event for event in report.events) == runs.RETRIES
    assert np.isfinite(report.outcome["val_loss"])
    with pytest.raises(RunError, match="does not stay finite"):
        _train(callbacks=[Poison(1, 10**6)])


@pytest.mark.slow
def test_out_of_memory_halves_the_micro_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault is injected: any step with more than 4 samples in a micro-batch."""
    from etude.training.trainer import Trainer

    whole = Trainer._differentiate_part

    def limited(self: Any, batch: Any) -> Any:
        if self.recipe.compute.accumulate < 4:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")
        return whole(self, batch)

    monkeypatch.setattr(Trainer, "_differentiate_part", limited)
    _, report = _train()
    assert report.finished
    assert [e for e in report.events if e.startswith("Out of memory")] == [
        "Out of memory: the batch of 16 is now computed in 2 micro-batches of 8.",
        "Out of memory: the batch of 16 is now computed in 4 micro-batches of 4.",
    ]
    monkeypatch.setattr(Trainer, "_differentiate_part", whole)
    want = _train(RECIPE.give(compute={"accumulate": 4}))[0]
    assert helpers.difference(helpers.weights(report.model), helpers.weights(want)) == 0.0


def test_out_of_memory_in_the_middle_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    _, report = _train(callbacks=[KillAt(12, EXHAUSTED)])
    assert report.finished
    assert report.budget["steps"] == 34
    assert any("2 micro-batches of 8" in event for event in report.events)


def test_early_stopping_and_callbacks_end_the_run_on_purpose() -> None:
    up = RECIPE.give(
        regularization={"early_stopping": "gl", "early_stopping_threshold": 0.0},
        optimization={"learning_rate": 0.0},
    )
    # With a rate of 0 nothing improves or worsens: GL stays 0 and the run goes to its end.
    assert _train(up)[1].reason == progress.FINISHED
    stopper = keras.callbacks.EarlyStopping("val_loss", patience=0, min_delta=10.0)
    report = _train(callbacks=[stopper])[1]
    assert report.reason == progress.STOPPED_BY_CALLBACK
    assert report.finished
    assert len(report.history["loss"]) == 2


def test_early_stopping_ends_the_run_where_the_criterion_says() -> None:
    """A rate that destroys what was learned: the first rise of the error ends the run."""
    worse = RECIPE.give(
        regularization={
            "early_stopping": "gl", "early_stopping_threshold": 0.0, "ema_decay": None,
            "clip_norm": None,
        },
        optimization={"learning_rate": 3.0, "schedule": "constant", "cycle_momentum": False},
    )  # fmt: skip
    _, report = _train(worse, epochs=30)
    assert report.reason == progress.STOPPED_EARLY
    assert report.finished
    errors = 1.0 - np.array(report.history["val_accuracy"])
    # Generalization loss is above 0 exactly when the error is above the least so far.
    first = next(i for i in range(1, 30) if errors[i] > errors[:i].min())
    assert len(errors) == first + 1


def test_a_callback_that_sets_the_rate_of_every_step_is_followed() -> None:
    class Cycle(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self._step = 0
            self.used: list[float] = []

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            self._step += 1
            self.model.optimizer.learning_rate = 0.01 * self._step

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.used.append(float(self.model.optimizer.learning_rate))

    constant = RECIPE.give(optimization={"schedule": "constant", "cycle_momentum": False})
    cycle = Cycle()
    _, report = _train(constant, callbacks=[cycle])
    np.testing.assert_allclose(cycle.used, 0.01 * np.arange(1, 35), rtol=1e-5)
    told = [event for event in report.events if "learning rate" in event]
    assert len(told) == conductor.FOLLOWED_SAID + 1  # and not one for every step


def test_a_callback_that_lowers_the_rate_is_followed() -> None:
    class Tenth(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if epoch == 1:
                optimizer = self.model.optimizer
                optimizer.learning_rate = float(optimizer.learning_rate) * 0.1

    plain, ours = _train()[1], _train(callbacks=[Tenth()])[1]
    ratio = ours.history["learning_rate"][2] / plain.history["learning_rate"][2]
    assert ratio == pytest.approx(0.1, rel=1e-3)
    assert any("A callback changed the learning rate" in event for event in ours.events)


class FakeClock:
    """A clock that only moves when steps are done."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _train_by_clock(
    monkeypatch: pytest.MonkeyPatch,
    step_seconds: Callable[[float], float],
    preparation: float = 0.0,
    evaluation: float = 0.0,
) -> tuple[float, Any]:
    """Trains for 30 s of a clock that steps, evaluations and preparation move.

    Returns the clock's end and the report.
    """
    clock = FakeClock()

    class Tick(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            clock.now += step_seconds(clock.now)

        def on_test_end(self, logs: Any = None) -> None:
            clock.now += evaluation

    from etude.training.studio import Studio

    measured = Studio.measure

    def measure(self: Studio, limit: float = 3.0) -> Any:
        measured(self, limit)
        assert self.costs is not None
        clock.now += preparation
        self.costs = dataclasses.replace(self.costs, step=0.1, evaluation=evaluation)
        return self.costs

    monkeypatch.setattr(Studio, "measure", measure)
    _, report = _train(time_budget=30.0, epochs=None, clock=clock, callbacks=[Tick()])
    return clock.now, report


@pytest.mark.parametrize("slowdown", [1.0, 1.5, 0.7, 1.03])
def test_a_time_budget_is_kept_when_the_pace_changes(
    slowdown: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half-way through the run steps begin to cost `slowdown` times as much."""
    end, report = _train_by_clock(
        monkeypatch, lambda now: 0.1 * (slowdown if now > 15.0 else 1.0), preparation=0.0
    )
    assert report.finished
    assert 0.9 * 30.0 <= end <= 30.0
    rates = report.history["learning_rate"]
    assert rates[-1] < 0.02 * max(rates)


@pytest.mark.slow
@pytest.mark.parametrize("fast_from", [27.5, 28.0])
def test_a_schedule_that_ends_early_is_finished(
    fast_from: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last steps cost next to nothing, so that some time is left; no callback stops the run."""
    end, report = _train_by_clock(monkeypatch, lambda now: 0.001 if now > fast_from else 0.1)
    assert end < 30.0
    assert report.reason == progress.FINISHED
    rates = report.history["learning_rate"]
    assert rates[-1] < 0.02 * max(rates)


@pytest.mark.parametrize("slow_from", [4.0, 9.0, 13.0, 17.5])
@pytest.mark.parametrize("slowdown", [3.0, 20.0])
def test_a_run_cut_short_still_ends_with_an_evaluation(
    slow_from: float, slowdown: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evaluations are dear, so that most segments have none; the last one always does."""
    _, report = _train_by_clock(
        monkeypatch, lambda now: 0.1 * (slowdown if now > slow_from else 1.0), evaluation=1.0
    )
    assert report.finished
    evaluated = [math.isfinite(value) for value in report.history["val_loss"]]
    assert not all(evaluated)
    assert evaluated[-1]


def test_a_run_whose_preparation_took_all_the_time_still_trains(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For a twentieth of its budget: 1.5 s, 15 steps of 0.1 s."""
    end, report = _train_by_clock(monkeypatch, lambda now: 0.1, preparation=31.0)
    assert report.finished
    assert report.budget["steps"] == 15
    assert end == pytest.approx(31.0 + 1.5)
    rates = report.history["learning_rate"]
    assert rates[-1] < 0.02 * max(rates)
    assert any("only 15 steps are trained" in note for note in report.notes)


def test_states_read_back_to_the_bit() -> None:
    import ml_dtypes

    state = {
        "a": np.array([1.5, np.nan, -0.0], np.float32),
        "b": np.arange(6).reshape(2, 3).astype(ml_dtypes.bfloat16),
        "c": np.array(7, np.int64),
        "d": np.array([1, 2], np.uint32),
    }
    back, meta = snapshot.from_bytes(snapshot.to_bytes(state, {"x": [1.25, None]}))
    assert meta == {"x": [1.25, None]}
    assert list(back) == list(state)
    for name, value in state.items():
        assert back[name].dtype == value.dtype
        assert back[name].tobytes() == value.tobytes()


def test_budget_counts_only_active_time() -> None:
    clock = FakeClock()
    budget = Budget(100.0, clock=clock)
    clock.now = 30.0
    budget.resume(50.0)
    assert budget.spent() == 80.0
    assert budget.remaining() == 20.0


@pytest.mark.slow
def test_a_stream_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data that do not fit the memory budget are read from where the run was killed."""
    monkeypatch.setattr(conductor, "STORE_SECONDS", 0.0)
    monkeypatch.setattr(conductor, "STORE_SHARE", 0.0)
    x, y = helpers.images()
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(10)
    held = (x[:24], y[:24])

    def train(**options: Any) -> tuple[Any, Any]:
        model = helpers.sequential()
        problem = etude.Problem.inspect(model, data, held, memory_budget=1000)
        report = etude.train(problem, RECIPE, epochs=2, verbose=0, memory_budget=1000, **options)
        return model, report

    model, report = train()
    assert report.budget["steps"] == 20
    with pytest.raises(Killed):
        train(run_dir=tmp_path, callbacks=[KillAt(13)])
    again, _ = train(run_dir=tmp_path)
    assert helpers.difference(helpers.weights(model), helpers.weights(again)) == 0.0


def test_a_run_under_a_strategy_uses_its_optimizer() -> None:
    with tf.distribute.OneDeviceStrategy("CPU:0").scope():
        model = helpers.functional()
    _, report = _train(RECIPE.give(regularization={"ema_decay": None}), model=model, epochs=1)
    assert report.finished
    assert report.outcome["val_accuracy"] > 0
