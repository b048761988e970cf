"""Plain Keras for as long: the same as calling `model.fit`, stopped by the clock."""

from __future__ import annotations

import io

import keras
import numpy as np
import pytest
from rich.console import Console

from etude import _baseline, models
from etude._command_data import Sets
from etude.data import open_source
from etude.recipe import Recipe
from etude.report import Report

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (160, 8, 8, 1), dtype=np.uint8)
Y = RNG.integers(0, 3, 160)
SETS = Sets(
    open_source((X, Y)),
    open_source((X[:40], Y[:40]), name="validation"),
    open_source((X[40:60], Y[40:60]), name="test"),
)


class Ticks:
    """A clock that is a second further each time it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def network() -> keras.Model:
    return models.build("small_cnn", (8, 8, 1), 3, width=2, seed=4)


def test_it_is_model_fit_with_keras_defaults() -> None:
    ours, theirs = network(), network()
    done = _baseline.plain_fit(ours, SETS, seconds=5.0, seed=7, clock=Ticks())

    theirs.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    keras.utils.set_random_seed(7)
    theirs.fit(X, Y, verbose=0)  # 160 images are 5 batches of 32
    assert done.epochs == 1.0
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    expected = float(theirs.evaluate(X[40:60], Y[40:60], verbose=0))
    assert done.outcome["test_loss"] == pytest.approx(expected, rel=1e-6)
    assert set(done.outcome) == {"val_loss", "val_accuracy", "test_loss", "test_accuracy"}


@pytest.mark.parametrize(("seconds", "batches"), [(1.0, 1), (3.0, 3), (12.0, 12)])
def test_it_stops_with_the_first_batch_after_the_time(seconds: float, batches: int) -> None:
    done = _baseline.plain_fit(network(), SETS, seconds, clock=Ticks())
    assert done.epochs == pytest.approx(batches / 5)
    assert done.seconds == pytest.approx(seconds + 2)  # the clock is read twice more


def test_both_are_shown_side_by_side() -> None:
    report = Report(
        problem={},
        recipe=Recipe(),
        outcome={"val_accuracy": 0.91, "test_accuracy": 0.9},
        budget={"epochs_done": 12.25},
    )
    other = _baseline.Baseline(61.0, 8.5, {"val_accuracy": 0.85, "test_accuracy": 0.84})
    stream = io.StringIO()
    _baseline.show(report, 60.0, other, Console(file=stream, width=80))
    rows = {line[:22].strip(): line[22:].split() for line in stream.getvalue().splitlines()}
    assert rows["time"] == ["60.0", "s", "61.0", "s"]
    assert rows["epochs"] == ["12.2", "8.5"]
    assert rows["validation accuracy"] == ["0.9100", "0.8500"]
    assert rows["test accuracy"] == ["0.9000", "0.8400"]
    assert max(map(len, stream.getvalue().splitlines())) <= 80
