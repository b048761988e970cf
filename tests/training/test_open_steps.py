"""A step that is open to any policy: its trials need no other trace, and leave nothing behind."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from etude.augment.policy import Choice, Mixing, Policy, Slot
from etude.budget import Budget
from etude.data.feed import Feed
from etude.data.tfdata import DatasetSource
from etude.recipe import Recipe
from etude.training import dropout
from etude.training.sample_losses import SampleLosses
from etude.training.studio import Studio

from . import helpers

MIRROR = Policy((Slot((Choice("mirror_horizontal", 100.0, 100.0),)),))
GIVEN = Recipe().give(compute={"batch_size": 16}, optimization={"learning_rate": 0.01})


def studio() -> Studio:
    problem = helpers.problem(helpers.sequential(), seed=0)
    return Studio(problem, GIVEN, budget=Budget(None), seed=1)


def searched(policy: Policy = Policy(), **regularization: float) -> Recipe:  # noqa: B008
    return GIVEN.learn(
        "augmentation", augmentation={"policy": policy}, regularization=regularization
    )


def losses(made: Studio, recipe: Recipe, steps: int = 4) -> Any:
    with made.at(recipe):
        return made.trial(steps).losses


def test_a_step_that_is_open_trains_as_one_that_is_not() -> None:
    made = studio()
    plain = losses(made, GIVEN)
    np.testing.assert_allclose(losses(made, searched()), plain, rtol=1e-4)


def test_all_candidates_share_one_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    made = studio()
    first = losses(made, searched())
    traced = []
    step = type(made.trainer).train_step

    def noted(*given: Any, **options: Any) -> Any:
        traced.append(given)
        return step(*given, **options)

    monkeypatch.setattr(type(made.trainer), "train_step", noted)
    found = [
        losses(made, recipe)
        for recipe in (
            searched(MIRROR),
            searched(Policy(mixing=Mixing(cutmix=1.0))),
            searched(label_smoothing=0.3),
            searched(dropout=0.0),
            searched(dropout=4.0),
        )
    ]
    assert not traced
    for index, one in enumerate([first, *found]):
        for other in found[index:]:
            assert not np.array_equal(one, other)
    np.testing.assert_array_equal(losses(made, searched()), first)


@pytest.mark.slow
def test_the_amount_of_smoothing_is_that_of_a_step_of_its_own() -> None:
    made = studio()
    own = GIVEN.give(regularization={"label_smoothing": 0.3})
    open_ = losses(made, searched(label_smoothing=0.3))
    np.testing.assert_allclose(open_, losses(made, own), rtol=1e-4)


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0, 2.0, 100.0])
def test_dropout_drops_so_many_times_as_much(factor: float) -> None:
    layer = keras.layers.Dropout(0.4, seed=0)
    model = keras.Sequential([keras.layers.Input((5000,)), layer])

    @tf.function
    def run(value: Any) -> Any:
        with dropout.moving(dropout.layers_of(model), value):
            return model(tf.ones((4, 5000)), training=True), model(tf.ones((4, 5000)))

    drawn, still = run(tf.constant(factor))
    rate = min(0.4 * factor, dropout.HIGHEST)
    assert np.mean(drawn.numpy() == 0.0) == pytest.approx(rate, abs=4 * np.sqrt(0.25 / 20_000))
    assert drawn.numpy().max() == pytest.approx(1.0 / (1.0 - rate), rel=1e-5)
    assert (still.numpy() == 1.0).all()
    assert "call" not in vars(layer)  # the layer's own again
    assert layer.rate == 0.4


def test_a_noise_shape_stays() -> None:
    layer = keras.layers.Dropout(0.5, noise_shape=(None, 1, 6), seed=0)
    model = keras.Sequential([keras.layers.Input((9, 6)), layer])
    with dropout.moving(dropout.layers_of(model), tf.constant(1.0)):
        drawn = np.asarray(model(np.ones((7, 9, 6), np.float32), training=True))
    assert (drawn == drawn[:, :1]).all()
    assert 0 < (drawn[:, 0] == 0.0).sum() < drawn[:, 0].size


def test_branches_begin_with_the_same_state_and_leave_it() -> None:
    made = studio()
    before = helpers.weights(made.problem.model)
    options: dict[str, Any] = {"batch": 8, "part": 24}
    with made.warmed(searched(), 6, **options):
        warm = helpers.weights(made.problem.model)
        first = made.branch(searched(), 3, samples=20, order=0, **options)
        mirrored = made.branch(searched(MIRROR), 3, samples=20, order=0, **options)
        other = made.branch(searched(), 3, samples=20, order=1, **options)
        again = made.branch(searched(), 3, samples=20, order=0, **options)
        more = made.branch(searched(), 3, samples=20, order=0, beyond=10, **options)
        assert helpers.difference(warm, helpers.weights(made.problem.model)) == 0.0
    assert helpers.difference(before, warm) > 0.0
    assert helpers.difference(before, helpers.weights(made.problem.model)) == 0.0
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, more[:-10])
    assert len(more) == len(first) + 10
    assert not np.array_equal(first, mirrored)
    assert not np.array_equal(first, other)
    assert first.shape == (made.problem.validation.count(),)


def test_samples_beyond_a_part_are_all_the_others() -> None:
    made = studio()
    resident = made.train.resident
    assert resident is not None
    size = len(resident)
    batches = made.train.part(24, 8, seed=1, order=0).take(3)
    ids = np.concatenate([next(iter(batch.values())).numpy() for batch in batches])
    others = list(resident.beyond(24, size, 10, seed=1))
    images = np.concatenate([parts[0].numpy() for parts in others])
    seen = np.asarray(resident.gather(ids)[0])
    assert len(images) == size - 24 == made.beyond(24, 10**6)
    assert [len(parts[0]) for parts in others[:-1]] == [10] * (len(others) - 1)
    both = {image.tobytes() for image in images} | {image.tobytes() for image in seen}
    everything = np.asarray(resident.gather(np.arange(size))[0])
    assert both == {image.tobytes() for image in everything}
    assert made.beyond(24, 7) == 7
    assert made.beyond(size, 7) == made.beyond(24, -5) == 0


def test_a_part_is_the_same_few_samples_in_any_order() -> None:
    made = studio()
    seen = []
    for order in (0, 1):
        batches = made.train.part(24, 8, seed=1, order=order).take(9)
        ids = [next(iter(batch.values())).numpy() for batch in batches]
        passes = np.concatenate(ids).reshape(3, 24)
        assert all(len(set(one)) == 24 for one in passes)
        seen.append(passes)
    assert set(seen[0].ravel()) == set(seen[1].ravel())
    assert not np.array_equal(seen[0], seen[1])


def test_a_part_of_a_stream_is_its_first_batches_in_any_order() -> None:
    """It is read once for each order."""
    reads: list[None] = []

    def samples() -> Any:
        reads.append(None)
        for k in range(4_000):
            yield np.full((8, 8, 3), k, np.float32), k % 10

    spec = (tf.TensorSpec((8, 8, 3), "float32"), tf.TensorSpec((), "int64"))
    stream = tf.data.Dataset.from_generator(samples, output_signature=spec)
    feed = Feed(DatasetSource(stream), limit=0)
    assert feed.resident is None
    seen = []
    for order in (0, 1):
        data = feed.part(24, 8, seed=1, order=order)
        before = len(reads)
        twice = []
        for _ in range(2):
            ids = [batch[0].numpy()[:, 0, 0, 0] for batch in data.take(9)]
            twice.append(np.stack(ids))
        np.testing.assert_array_equal(*twice)
        assert len(reads) == before + 1
        passes = twice[0].reshape(3, 24)
        assert all(len(set(one)) == 24 for one in passes)
        seen.append(passes)
    assert set(seen[0].ravel()) == set(seen[1].ravel())
    assert not np.array_equal(seen[0], seen[1])
    sample = 8 * 8 * 3 * 4 + 8
    assert Feed(DatasetSource(stream), limit=8 * 40 * sample).most_in_part == 40


@pytest.mark.parametrize(
    "loss",
    [
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "mean_squared_error",
        lambda y, outputs: (
            keras.ops.mean(outputs**2, axis=-1) + keras.ops.cast(y[..., 0], "float32")
        ),
    ],
)
def test_losses_of_single_samples_are_those_of_batches_of_one(loss: Any) -> None:
    model = helpers.functional()
    x, y = helpers.images(20)
    y = y[:, None]
    weight = np.linspace(0.0, 2.0, 20).astype(np.float32)
    data = tf.data.Dataset.from_tensor_slices((x, y, weight)).batch(8)
    found = SampleLosses(model, loss).of(data)
    assert SampleLosses.able(model, loss)
    outputs = np.asarray(model(x.astype(np.float32)))
    function = keras.losses.get(loss) if isinstance(loss, str) else loss
    for index in range(20):
        one = function(keras.ops.array(y[index : index + 1]), outputs[index : index + 1])
        assert found[index] == pytest.approx(weight[index] * float(np.mean(one)), rel=1e-5)


def test_a_model_with_a_loss_of_its_own_has_none_of_single_samples() -> None:
    class Own(keras.Model):  # type: ignore[misc, unused-ignore]
        def compute_loss(self, *args: Any, **options: Any) -> Any:
            return super().compute_loss(*args, **options)

    assert not SampleLosses.able(Own(), "mse")
