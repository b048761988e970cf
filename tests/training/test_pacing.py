"""Training that ends in time, by a clock that the tests turn."""

from __future__ import annotations

import types
from typing import Any

import keras
import numpy as np
import pytest

import etude
from etude.budget import MARGIN, Budget
from etude.errors import BudgetError, RecipeError
from etude.training.pacing import Paced
from etude.training.pretrainer import Pretrainer

from ..machine import first_fast
from . import helpers


class Turned:
    """A clock that stands still until it is turned."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def ended(
    timed: float, true: Any, seconds: float, *, epoch: int = 10**9, look: float = 0.0
) -> tuple[list[float], float, int]:
    """Lengths of the schedule after each step, when it ended, and how many steps there were.

    Args:
        timed: Seconds of a step, as measured before.
        true: Seconds of step number i.
        seconds: The budget.
        epoch: Steps of an epoch.
        look: Seconds that something else takes after an epoch.
    """
    clock = Turned()
    paced = Paced(Budget(seconds, clock=clock), timed)
    trainer = types.SimpleNamespace(
        controls=types.SimpleNamespace(total=keras.Variable(0.0)), stop_training=False
    )
    paced.set_model(trainer)
    paced.on_train_begin()
    lengths, step = [], 0
    while not trainer.stop_training:
        paced.on_epoch_begin(0)
        for _ in range(epoch):
            clock.now += true(step)
            step += 1
            paced.on_train_batch_end(0)
            lengths.append(float(trainer.controls.total))
            if trainer.stop_training:
                break
        clock.now += look
        paced.on_epoch_end(0)
    return lengths, clock.now, step


def test_a_steady_pace_ends_as_planned() -> None:
    lengths, end, steps = ended(1.0, lambda i: 1.0, 100.0)
    # The margin is of what is left, so that the end moves towards the budget's, never past it.
    assert lengths[0] == int(100 * (1.0 - MARGIN))
    assert lengths == sorted(lengths)
    assert lengths[-1] == steps == end
    assert lengths[0] <= end <= 100


@pytest.mark.parametrize("factor", [0.4, 0.9, 1.3, 3.0])
def test_another_pace_than_was_timed_ends_in_time_too(factor: float) -> None:
    lengths, end, steps = ended(1.0, lambda i: factor, 300.0)
    assert 0.93 * 300.0 <= end <= 300.0
    assert lengths[-1] == steps  # the schedule is over when the training is


def test_a_pace_that_falls_at_the_end_is_stopped() -> None:
    _, end, steps = ended(1.0, lambda i: 1.0 if i < 190 else 20.0, 200.0)
    assert end <= 200.0 + 20.0
    assert steps < 195


def test_time_is_left_for_what_comes_after_an_epoch() -> None:
    _, end, _ = ended(1.0, lambda i: 1.0, 200.0, epoch=20, look=5.0)
    assert 180.0 < end <= 200.0


def test_fewer_steps_than_there_is_time_for() -> None:
    paced = Paced(Budget(100.0, clock=Turned()), 1.0, most=7)
    assert paced.total == 7


def flat(seed: int = 0) -> keras.Model:
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    stack = [layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(6), layers.Dense(4)]
    return keras.Sequential([layers.Input((8, 8, 1)), *stack])


@pytest.fixture
def turned(monkeypatch: pytest.MonkeyPatch) -> Turned:
    """A clock that each step of a pre-training turns by a hundredth of a second."""
    clock = Turned()
    fit: Any = Pretrainer.fit

    class Turning(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            clock.now += 0.01

    def turning(self: Any, *args: Any, callbacks: Any = (), **named: Any) -> Any:
        return fit(self, *args, callbacks=[Turning(), *callbacks], **named)

    monkeypatch.setattr(Pretrainer, "fit", turning)
    return clock


@pytest.mark.parametrize("objective", first_fast("byol", "moco", "dino", "vicreg"))
def test_timing_leaves_no_trace(objective: str, turned: Turned) -> None:
    x, _ = helpers.images(48)
    found = []
    for time in ({}, {"time_budget": "1h", "clock": turned}):
        model = flat()
        done = etude.pretrain(
            model, x, objective=objective, epochs=2, batch_size=16, policy="standard_cifar",
            verbose=0, **time,
        )  # fmt: skip
        found.append((helpers.weights(model), done.history["loss"]))
    assert helpers.difference(found[0][0], found[1][0]) == 0.0
    assert found[0][1] == found[1][1]


def test_pre_training_ends_in_time(turned: Turned) -> None:
    x, _ = helpers.images(48)
    done = etude.pretrain(
        flat(), x, time_budget=6.0, batch_size=16, policy="standard_cifar", verbose=0, clock=turned
    )
    assert np.isfinite(done.history["loss"]).all()
    assert 6.0 * (1.0 - 2 * MARGIN) <= turned.now <= 6.0


def test_what_does_not_go_with_a_time_is_said() -> None:
    x, _ = helpers.images(48)
    with pytest.raises(RecipeError, match="grow"):
        etude.pretrain(flat(), x, time_budget=5.0, callbacks=[etude.Progressive(4)])
    with pytest.raises(BudgetError, match="duration"):
        etude.pretrain(flat(), x, time_budget="soon")
    with pytest.raises(BudgetError, match="epochs"):
        etude.pretrain(flat(), x, epochs=0)
