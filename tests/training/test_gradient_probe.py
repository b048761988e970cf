"""Gradients looked at: against a plain tape, at weights that stay."""

from __future__ import annotations

from collections.abc import Iterator

import keras
import numpy as np
import pytest
import tensorflow as tf

from etude._fit import starting_recipe
from etude.budget import Budget
from etude.recipe import Recipe
from etude.training import memory
from etude.training.gradient_probe import GradientProbe
from etude.training.studio import Studio

from . import helpers

BATCH, PARTS, ROUNDS = 8, 3, 4


def plain(seed: int = 0) -> keras.Model:
    """Without dropout and normalization, so that a gradient depends on nothing but the batch."""
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input((8, 8, 1)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(4, 3, kernel_regularizer="l2"),
            layers.Flatten(),
            layers.Dense(helpers.CLASSES),
        ]
    )


def open_studio(model: keras.Model | None = None) -> Studio:
    problem = helpers.problem(model or plain())
    recipe = starting_recipe(problem, Recipe().give(compute={"batch_size": 16}))
    return Studio(problem, recipe, budget=Budget(None), seed=3)


def by_tape(studio: Studio, model: keras.Model) -> Iterator[list[np.ndarray]]:  # type: ignore[type-arg]
    """Gradients of the same batches, L2 penalty included."""
    resident = studio.train.resident
    assert resident is not None
    for row in studio.train.shuffled(BATCH, seed=studio.seed).skip(1):  # the first is the example
        x, y, _ = resident.gather(next(iter(row.values())))
        with tf.GradientTape() as tape:
            loss = helpers.loss()(y, model(x, training=True)) + sum(model.losses)
        values = tape.gradient(loss, [v.value for v in model.trainable_variables])
        yield [np.asarray(value, np.float64) for value in values]


def test_norms_are_those_of_a_plain_tape() -> None:
    model = plain()
    studio = open_studio(model)
    with studio.warmed_up(5, BATCH) as probe:
        oracle = by_tape(studio, model)
        small, large = probe.norms(PARTS, ROUNDS)
        for r in range(ROUNDS):
            parts = [next(oracle) for _ in range(PARTS)]
            norms = [sum(float((g**2).sum()) for g in part) for part in parts]
            means = [np.mean(values, axis=0) for values in zip(*parts, strict=True)]
            assert small[r] == pytest.approx(np.mean(norms), rel=1e-4)
            assert large[r] == pytest.approx(sum(float((m**2).sum()) for m in means), rel=1e-4)
            assert large[r] < small[r]


def test_it_is_warm_within_and_as_before_afterwards() -> None:
    model = helpers.sequential()
    studio = open_studio(model)
    before = helpers.weights(model)
    with studio.warmed_up(5, BATCH) as probe:
        within = helpers.weights(model)
        probe.norms(PARTS, 1)
    assert helpers.difference(before, within) > 1e-4
    assert helpers.difference(before, helpers.weights(model)) == 0.0


def test_looking_moves_no_weight() -> None:
    model = plain()
    studio = open_studio(model)
    with studio.warmed_up(5, BATCH) as probe:
        before = helpers.weights(model)
        probe.norms(PARTS, 2)
        probe.seconds([4, 16])
        assert helpers.difference(before, helpers.weights(model)) == 0.0


def test_every_size_that_fits_is_timed_with_one_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    studio = open_studio()
    with studio.warmed_up(2, BATCH) as probe:
        found = probe.seconds([4, 8, 64, 500])  # more than there are samples, too
        assert list(found) == [4, 8, 64, 500]
        assert all(seconds > 0 for seconds in found.values())
        assert probe._gradient.experimental_get_tracing_count() == 1
        asked: list[float] = []

        def refuses(before: int, factor: float) -> bool:
            asked.append(factor)
            return factor < 4

        monkeypatch.setattr(memory, "fits", refuses)
        assert list(probe.seconds([4, 8, 64, 500])) == [4, 8]
        assert asked == [2.0, 8.0]
        monkeypatch.setattr(memory, "fits", lambda before, factor: True)
        assert list(probe.seconds([4, 8], limit=-1.0)) == [4]


def test_a_size_that_is_too_large_for_the_device_ends_the_measurement() -> None:
    studio = open_studio()
    with studio.warmed_up(2, BATCH) as probe:
        true = probe._gradient

        def fails(data: dict[str, tf.Tensor]) -> object:
            (ids,) = data.values()
            if int(ids.shape[0]) > 8:
                raise tf.errors.ResourceExhaustedError(None, None, "OOM")
            return true(data)

        probe._gradient = fails
        assert list(probe.seconds([4, 8, 16, 32])) == [4, 8]


def test_a_loss_scale_is_taken_out() -> None:
    plain_norms, scaled_norms = [], []
    for scale, norms in ((None, plain_norms), (128.0, scaled_norms)):
        model = plain()
        model.compile(keras.optimizers.SGD(0.1, loss_scale_factor=scale), helpers.loss())
        studio = open_studio(model)
        assert isinstance(studio.trainer.optimizer, keras.optimizers.SGD)
        with studio.warmed_up(2, BATCH) as probe:
            norms += list(probe.norms(PARTS, 2)[0])
    np.testing.assert_allclose(scaled_norms, plain_norms, rtol=1e-3)


def test_memory_is_told_and_doubling_asks_for_twice_as_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    most, limit = memory.peak(), memory.limit()
    assert most is not None and limit is not None
    assert 2**26 < memory.held() <= most < limit
    monkeypatch.setattr(memory, "limit", lambda: 1000)
    monkeypatch.setattr(memory, "peak", lambda: 600)
    # 300 were held before: the work took 300, twice as much takes 300 more.
    assert not memory.fits(300, 2.0)  # 900 > 800
    assert memory.fits(400, 2.0)  # 800
    assert not memory.fits(400, 4.0)
    monkeypatch.setattr(memory, "peak", lambda: None)
    assert not memory.fits(0, 2.0)


def test_a_probe_of_streamed_data_opens_them_once() -> None:
    problem = helpers.problem(plain())
    recipe = starting_recipe(problem, Recipe())
    studio = Studio(problem, recipe, budget=Budget(None), memory_budget=0)
    assert studio.train.resident is None
    opened = []
    shuffled = studio.train.shuffled

    def counting(*args: object, **options: object) -> object:
        opened.append(args)
        return shuffled(*args, **options)  # type: ignore[arg-type]

    studio.train.shuffled = counting  # type: ignore[assignment,method-assign]
    probe = GradientProbe(
        studio.trainer, studio.train, studio.budget.clock, batch=BATCH, seed=studio.seed
    )
    small, _ = probe.norms(PARTS, 2)
    assert list(probe.seconds([4, 100])) == [4, 100]
    assert len(opened) == 1 and (small > 0).all()
