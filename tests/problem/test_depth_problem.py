"""What inspection says of depth, and what resizing does to it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

import etude
from etude.problem import Problem

N = 20


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (N, 8, 12, 3)).astype(np.uint8)
    return x, rng.uniform(0.6, 4.0, (N, 8, 12)).astype(np.float32)


def inspect(y: np.ndarray, sides: tuple[int, int] = (8, 12), **options: Any) -> Problem:
    model = etude.models.build("dispnet", (*sides, 3), 1, width=2, farthest=5.0, seed=0)
    if "loss" in options:
        model.compile(loss=options.pop("loss"), metrics=options.pop("metrics", None))
    return Problem.inspect(model, (data()[0], y), **options)


def said(problem: Problem, part: str) -> bool:
    return any(part in note for note in problem.notes)


def test_a_problem_of_depth() -> None:
    found = inspect(data()[1])
    assert found.task.name == "depth" and (found.monitor, found.mode) == ("val_delta_1", "max")
    assert found.facts["classes"] is None and found.facts["logits"] is None
    assert found.facts["metrics"] == [
        "delta_1",
        "delta_2",
        "delta_3",
        "abs_rel",
        "rmse",
        "rmse_log",
    ]
    assert not said(found, "no pixel that counts") and not said(found, "depths of 0")


def test_samples_without_depth_are_counted_and_named() -> None:
    y = data()[1]
    y[[7, 9, 13]] = np.nan
    found = inspect(y)
    assert said(found, "3 of the 20 samples of train") and said(found, "the first is sample 7")


def test_losses_of_keras_that_take_a_gap_for_a_depth_are_told() -> None:
    y = data()[1]
    assert not said(inspect(y, loss="mae", metrics=["mse"]), "depths of 0")
    y[:, :2] = 0.0
    found = inspect(y, loss="mae", metrics=[keras.metrics.RootMeanSquaredError()])
    assert said(found, "mae, root_mean_squared_error take pixels without a depth for depths of 0")
    own = found.task
    assert not said(inspect(y, loss=own.loss(), metrics=own.metrics()), "depths of 0")


def test_maps_are_resized_by_the_nearest_pixel_and_padded_with_no_depth() -> None:
    y = data()[1]
    doubled = inspect(y, (16, 24), resize=(16, 24)).train.arrays(10**9)
    assert doubled is not None and doubled.labels is not None
    wide = y.repeat(2, axis=1).repeat(2, axis=2)
    assert all((wide == label).all(axis=(1, 2)).any() for label in doubled.labels)
    policy = {"size": (12, 12), "how": "pad"}
    padded = inspect(y, (12, 12), resize=policy, task="depth").train.arrays(10**9)
    assert padded is not None and padded.labels is not None
    assert not padded.labels[:, :2].any() and not padded.labels[:, 10:].any()
    assert all((y == label[2:10]).all(axis=(1, 2)).any() for label in padded.labels)
