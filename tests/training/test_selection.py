"""Importance sampling in the step: by hand, without a trace left, and uniform while shut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from etude.augment.policy import Choice, Mixing, Policy, Slot
from etude.budget import Budget
from etude.data._base import Arrays
from etude.data.resident import Resident
from etude.errors import DataError, RecipeError
from etude.problem import Problem
from etude.recipe import Recipe
from etude.sampling.strategies import STRATEGIES, Presampled
from etude.training import low_resolution, selecting, snapshot
from etude.training.importance_sampling import ImportanceSampling
from etude.training.isolation import isolated
from etude.training.studio import Studio
from etude.training.trainer import Trainer

from ..machine import first_fast
from . import helpers
from .test_run import RECIPE, KillAt, Killed, _train

X, Y = helpers.images(96)
ALWAYS = {"threshold": -1.0, "warm_up": 0.0, "cool_down": 0.0}


def model(norm: bool = True) -> Any:
    keras.utils.set_random_seed(0)
    inputs = keras.Input(X.shape[1:])
    x = layers.Rescaling(1 / 255)(inputs)
    x = layers.Conv2D(4, 3, strides=2, use_bias=not norm)(x)
    if norm:
        x = layers.BatchNormalization()(x)
    x = layers.Flatten()(layers.ReLU()(x))
    return keras.Model(inputs, layers.Dense(4)(x))


def recipe(strategy: str, policy: Policy | None = None, **numbers: Any) -> Recipe:
    given = Recipe().give(
        compute={"batch_size": 16}, sampling={"strategy": strategy, **(ALWAYS | numbers)}
    )
    return given if policy is None else given.give(augmentation={"policy": policy})


def trainer(stated: Recipe, made: Any = None, seed: int = 0, **options: Any) -> Trainer:
    found = Trainer(made or model(), stated, seed=seed, **options)
    found.compile(keras.optimizers.SGD(0.1), helpers.loss(), metrics=["accuracy"])
    return found


def data(weights: Any = None) -> Resident:
    return Resident(Arrays(X, Y, weights))


def trained(stated: Recipe, steps: int = 6, **options: Any) -> Trainer:
    found = trainer(stated, **options)
    found.fit(data(), steps_per_epoch=steps, epochs=1, verbose=0)
    return found


def drawn(found: Trainer) -> Any:
    assert found.selector is not None
    return np.asarray(found.selector.drawn)


def test_what_is_remembered_is_of_one_set() -> None:
    """Of other data, of as many samples or of more, nothing is left, and the first is forgotten."""
    found = trainer(recipe("online_batch"))
    one, other = data(), Resident(Arrays(X[::-1].copy(), Y[::-1].copy()))
    found.fit(one, steps_per_epoch=6, epochs=1, verbose=0)
    assert drawn(found).sum() == 96
    assert found.selector is not None
    before = np.asarray(found.selector.tables["losses"])
    found.expect(one)
    np.testing.assert_array_equal(found.selector.tables["losses"], before)
    for next_one in (other, Resident(Arrays(X[:40], Y[:40])), one):
        found.expect(next_one)
        assert found.selector.tables["losses"].shape == (len(next_one),)
        assert np.asarray(found.selector.tables["losses"]).min() > 1e30  # never seen
        found.fit(next_one, steps_per_epoch=4, epochs=1, verbose=0)
        assert drawn(found).sum() == 64


def test_a_sum_over_fewer_samples_is_refused() -> None:
    found = Trainer(model(), recipe("constant_time"))
    summed = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")
    with pytest.raises(RecipeError, match="A sum over fewer samples is less"):
        found.compile("sgd", summed)
    Trainer(model(), recipe("upper_bound")).compile("sgd", summed)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_gate_that_is_shut_trains_as_uniform_sampling_does(name: str) -> None:
    uniform = trained(Recipe().give(compute={"batch_size": 16}))
    shut = trained(recipe(name, warm_up=1.0))
    # Weights of 1 are summed in another order.
    assert helpers.difference(helpers.weights(uniform.model), helpers.weights(shut.model)) < 1e-6
    assert drawn(shut).sum() == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", STRATEGIES)
def test_a_seed_gives_the_same_weights_and_another_others(name: str) -> None:
    first, again, other = (trained(recipe(name), seed=seed) for seed in (3, 3, 4))
    assert helpers.difference(helpers.weights(first.model), helpers.weights(again.model)) == 0.0
    assert helpers.difference(helpers.weights(first.model), helpers.weights(other.model)) > 0.0
    uniform = trained(Recipe().give(compute={"batch_size": 16}), seed=3)
    assert helpers.difference(helpers.weights(first.model), helpers.weights(uniform.model)) > 0.0
    assert drawn(first).sum() > 0


@pytest.mark.parametrize("draws", ["systematic", "independent"])
def test_a_step_is_that_of_a_batch_drawn_by_hand(draws: str) -> None:
    """Ids of both streams, scores, chances, draws, weights and the update, in NumPy."""
    stated = recipe("upper_bound", presample=2.0, draws=draws)
    by_step = trainer(stated, model(norm=False))
    resident = data()
    by_step.expect(resident)
    batches = resident.shuffled(16, seed=by_step.seed, beside=16)
    one = next(iter(batches))
    ids = np.concatenate([next(iter(one[part].values())).numpy() for part in ("batch", "beside")])
    assert len(ids) == 32
    before = helpers.weights(by_step.model)
    logits = by_step.model(X[ids].astype("float32")).numpy()
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    bound = np.linalg.norm(p - np.eye(4)[Y[ids]], axis=1)
    chances = bound / bound.sum()
    seeds = keras.random.SeedGenerator((by_step.seed + 1) % 2**32)
    uniform = np.asarray(keras.random.uniform((32,), seed=seeds))[:16]
    if draws == "systematic":
        uniform = (np.arange(16) + uniform[0]) / 16
    picked = np.searchsorted(np.cumsum(chances), uniform * chances.sum(), side="right")
    weights = 1.0 / (32 * chances[picked])
    with tf.GradientTape() as tape:
        outputs = by_step.model(X[ids[picked]].astype("float32"), training=True)
        loss = helpers.loss()(Y[ids[picked]], outputs, sample_weight=weights)
    grads = tape.gradient(loss, [w.value for w in by_step.model.trainable_weights])
    by_step.fit(resident, steps_per_epoch=1, epochs=1, verbose=0)
    for old, new, grad in zip(before, helpers.weights(by_step.model), grads, strict=True):
        np.testing.assert_allclose(new, old - 0.1 * grad, atol=1e-5)
    counted = np.bincount(ids[picked], minlength=len(X))
    np.testing.assert_array_equal(drawn(by_step), counted)
    selector = by_step.selector
    assert selector is not None
    tau = np.sqrt(32 * np.sum(chances**2))
    assert float(selector.tau()) == pytest.approx(tau, rel=1e-4)


def test_statistics_are_those_of_the_uniform_samples() -> None:
    stated = recipe("upper_bound", presample=2.0)
    found = trainer(stated)
    resident = data()
    found.expect(resident)
    one = next(iter(resident.shuffled(16, seed=found.seed, beside=16)))
    ids = np.concatenate([next(iter(one[part].values())).numpy() for part in ("batch", "beside")])
    twin = model()
    twin(X[ids].astype("float32"), training=True)
    found.fit(resident, steps_per_epoch=1, epochs=1, verbose=0)
    layer, other = (m.layers[3] for m in (found.model, twin))
    np.testing.assert_allclose(layer.moving_mean, other.moving_mean, rtol=1e-4)
    np.testing.assert_allclose(layer.moving_variance, other.moving_variance, rtol=1e-4)


def test_what_is_shown_is_of_the_uniform_samples() -> None:
    stated = recipe("greedy", presample=4.0)
    found = trainer(stated, model(norm=False))
    resident = data()
    found.expect(resident)
    one = next(iter(resident.shuffled(16, seed=found.seed, beside=48)))
    ids = next(iter(one["batch"].values())).numpy()
    loss, accuracy = found.model.evaluate(X[ids].astype("float32"), Y[ids], verbose=0)
    logs = found.fit(resident, steps_per_epoch=1, epochs=1, verbose=0).history
    assert logs["loss"][0] == pytest.approx(loss, rel=1e-4)
    assert logs["accuracy"][0] == pytest.approx(accuracy, rel=1e-5)
    assert logs["sampled_loss"][0] > 1.05 * loss
    assert logs["sampling"][0] == 1.0


def test_the_gate_opens_and_shuts_without_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    traced: list[int] = []
    step = Trainer.train_step

    def noted(self: Any, batch: Any) -> Any:
        traced.append(1)
        return step(self, batch)

    monkeypatch.setattr(Trainer, "train_step", noted)
    found = trainer(recipe("upper_bound", threshold=1e6))
    resident = data()
    found.fit(resident, steps_per_epoch=3, epochs=1, verbose=0)
    before = len(traced)
    assert found.selector is not None
    for threshold, share in ((-1.0, 1.0), (1e6, 0.0)):
        found.selector.threshold.assign(threshold)
        logs = found.fit(resident, steps_per_epoch=3, epochs=1, verbose=0).history
        assert logs["sampling"][-1] == share
    found.take_over(recipe("upper_bound", presample=5.0))
    found.fit(resident, steps_per_epoch=3, epochs=1, verbose=0)
    assert len(traced) == before


def test_the_gate_goes_by_tau_and_by_the_run() -> None:
    found = trained(recipe("upper_bound", threshold=None, forward=0.4), steps=4)
    selector = found.selector
    assert selector is not None
    assert float(selector.threshold) == pytest.approx((2.2**-2 - 3**-2) ** -0.25, rel=1e-5)
    alone = trained(
        recipe("upper_bound", threshold=None, forward=0.4, draws="independent"), steps=1
    )
    assert alone.selector is not None
    expected = np.sqrt(1 / (1 / 2.2 - 1 / 3))
    assert float(alone.selector.threshold) == pytest.approx(expected, rel=1e-5)
    assert np.asarray(selector.opened)[:4].sum() == 0
    assert (np.asarray(selector.taus)[:4] >= 1.0).all()
    spans = trained(recipe("fast_selection", warm_up=0.25, cool_down=0.5), steps=8)
    assert spans.selector is not None
    opened = np.asarray(spans.selector.opened)[:8]
    np.testing.assert_array_equal(opened, [0, 0, 1, 1, 0, 0, 0, 0])


def test_a_rate_of_its_own_holds_while_the_gate_is_open() -> None:
    """Plain descent: an update is as much longer, and what is recorded is the rate it had."""
    schedule = {"schedule": "cosine", "learning_rate": 0.1}

    def moved(threshold: float, rate: float) -> tuple[list[Any], float]:
        stated = recipe("upper_bound", threshold=threshold, rate=rate).give(optimization=schedule)
        found = trainer(stated, model(norm=False))
        before = helpers.weights(found.model)
        found.fit(data(), steps_per_epoch=1, epochs=1, verbose=0)
        assert found.controls is not None
        after = helpers.weights(found.model)
        return [b - a for a, b in zip(before, after, strict=True)], float(found.controls.latest)

    (plain, low), (lifted, high) = moved(-1.0, 1.0), moved(-1.0, 2.5)
    assert high == pytest.approx(2.5 * low)
    for one, other in zip(plain, lifted, strict=True):
        np.testing.assert_allclose(other, 2.5 * one, rtol=1e-3, atol=1e-6)
    (shut, same), (as_it_was, _) = moved(1e6, 2.5), moved(1e6, 1.0)
    assert same == pytest.approx(low)
    assert helpers.difference(shut, as_it_was) == 0.0


def test_a_rate_that_nobody_would_set_is_refused() -> None:
    with pytest.raises(RecipeError, match="not the step's to change"):
        trainer(recipe("upper_bound", rate=2.0))
    stated = recipe("upper_bound", rate=2.0).give(optimization={"schedule": "cosine"})
    found = Trainer(model(), stated)
    own = keras.optimizers.schedules.CosineDecay(0.1, 10)
    with pytest.raises(RecipeError, match="not the step's to change"):
        found.compile(keras.optimizers.SGD(own), helpers.loss())


def test_user_weights_count_in_scores_and_in_the_loss() -> None:
    """Samples of weight 0 are never drawn, and the others as if they were alone."""
    weights = np.ones(len(X), np.float32)
    weights[::2] = 0.0
    found = trainer(recipe("upper_bound"), model(norm=False))
    found.fit(data(weights), steps_per_epoch=6, epochs=1, verbose=0)
    counts = drawn(found)
    assert counts[::2].sum() == 0
    assert counts[1::2].sum() == 6 * 16


@pytest.mark.parametrize("name", first_fast("upper_bound", "fast_selection", "prioritized"))
def test_it_goes_with_augmentation_and_mixing(name: str) -> None:
    task = Problem.inspect(model(), (X, Y), seed=0).task
    slot = Slot((Choice("translation_x", 0.0, 50.0),))
    policy = Policy((slot,), mixing=Mixing(mixup=0.5, cutmix=0.25))
    runs = []
    for _ in range(2):
        found = Trainer(model(), recipe(name, policy), task=task, value_range=(0, 255), seed=1)
        found.compile(keras.optimizers.SGD(0.1), helpers.loss())
        logs = found.fit(data(), steps_per_epoch=5, epochs=1, verbose=0).history
        assert np.isfinite(logs["sampled_loss"]).all()
        runs.append(helpers.weights(found.model))
    assert helpers.difference(*runs) == 0.0


def test_micro_batches_come_to_the_same() -> None:
    whole = trained(recipe("upper_bound"), made=model(norm=False))
    stated = recipe("upper_bound").give(compute={"accumulate": 4})
    parts = trained(stated, made=model(norm=False))
    assert helpers.difference(helpers.weights(whole.model), helpers.weights(parts.model)) < 1e-5


@pytest.mark.parametrize("name", first_fast("upper_bound", "constant_variance", "bandit"))
def test_its_state_is_stored_and_a_trial_leaves_it(name: str) -> None:
    found = trained(recipe(name))
    state = snapshot.capture(found)
    with isolated(found):
        found.fit(data(), steps_per_epoch=3, epochs=1, verbose=0)
        moved = snapshot.capture(found, ["selector"])
    changed = [key for key in moved if not np.array_equal(moved[key], state[key])]
    assert changed
    for key, value in snapshot.capture(found).items():
        np.testing.assert_array_equal(value, state[key])


def test_a_stream_serves_what_draws_from_fresh_samples() -> None:
    batches = tf.data.Dataset.from_tensor_slices((X.astype("float32"), Y)).batch(16)
    found = trainer(recipe("upper_bound"))
    logs = found.fit(batches, epochs=2, verbose=0).history
    assert logs["sampling"] == [1.0, 1.0]
    with pytest.raises(RecipeError, match="remembers every sample"):
        trainer(recipe("bandit")).fit(batches, verbose=0)
    with pytest.raises(RecipeError, match="a batch by itself"):
        found.train_on_batch(X[:16].astype("float32"), Y[:16])
    one = next(iter(selecting.streamed(trainer(recipe("upper_bound")).selector, batches)))
    np.testing.assert_array_equal(one["batch"][1], Y[:16])
    np.testing.assert_array_equal(one["beside"][1], Y[16:48])


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (np.array([3, 1, 2]), [3, 1, 2]),
        (np.array([[3], [1], [2]]), [3, 1, 2]),
        (np.eye(4)[[3, 1, 2]], [3, 1, 2]),
        (np.array([[1, 1], [0, 1], [0, 0]]), None),
        (np.full((3, 2), 0.5), None),
        (np.zeros((3, 8, 8)), None),
    ],
)
def test_classes_are_read_off_labels_of_one_each(labels: Any, classes: Any) -> None:
    found = selecting.classes_of(labels)
    assert (None if found is None else found.tolist()) == classes


@pytest.mark.parametrize("name", first_fast("upper_bound", "fast_selection", "bandit"))
def test_xla_compiles_it(name: str) -> None:
    """XLA's random numbers are others; while the gate is shut none are used."""
    compiled = {"compute": {"xla": True}}
    first, again = (trained(recipe(name).give(**compiled)) for _ in range(2))
    assert helpers.difference(helpers.weights(first.model), helpers.weights(again.model)) == 0.0
    assert drawn(first).sum() == 6 * 16
    shut = trained(recipe(name, warm_up=1.0).give(**compiled))
    uniform = trained(Recipe().give(compute={"batch_size": 16}))
    assert helpers.difference(helpers.weights(shut.model), helpers.weights(uniform.model)) < 1e-4


def test_what_cannot_be_done_is_refused() -> None:
    class Own(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.body = model()

        def call(self, x: Any) -> Any:
            return self.body(x)

        def compute_loss(self, *args: Any, **options: Any) -> Any:
            return super().compute_loss(*args, **options)

    with pytest.raises(RecipeError, match="own `compute_loss`"):
        Trainer(Own(), recipe("loss"))
    with pytest.raises(RecipeError, match="no such strategy"):
        Trainer(model(), recipe("importance"))
    for name in ("constant_variance", "scsg"):
        with pytest.raises(RecipeError, match="as many samples as it finds right"):
            Trainer(model(), recipe(name).give(compute={"xla": True}))
    found = Trainer(model(), recipe("loss"))
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )
    with pytest.raises(RecipeError, match="sum of weights"):
        found.compile("sgd", loss)


def test_any_loss_of_single_samples_is_scored() -> None:
    def hinge(y: Any, outputs: Any) -> Any:
        wanted = keras.ops.one_hot(keras.ops.cast(y, "int32"), 4) * 2.0 - 1.0
        return keras.ops.mean(keras.ops.relu(1.0 - wanted * outputs), axis=-1)

    for name in ("upper_bound", "loss"):
        found = Trainer(model(), recipe(name))
        found.compile(keras.optimizers.SGD(0.1), hinge)
        logs = found.fit(data(), steps_per_epoch=4, epochs=1, verbose=0).history
        assert np.isfinite(logs["loss"]).all()
        assert drawn(found).sum() == 4 * 16


def test_presampling_strategies_say_how_much_they_read() -> None:
    for name, kind in STRATEGIES.items():
        found = trainer(recipe(name))
        reads = issubclass(kind, Presampled)
        assert found.beside(16) == (round((kind.presample - 1) * 16) if reads else 0)


def pooled(side: int = 32) -> Any:
    keras.utils.set_random_seed(0)
    stack = [
        layers.Input((side, side, 1)),
        layers.Conv2D(4, 3),
        layers.BatchNormalization(),
        layers.GlobalAveragePooling2D(),
        layers.Dense(4),
    ]
    return keras.Sequential(stack)


def test_smaller_images_are_scored_by_the_same_weights() -> None:
    made = pooled()
    twin, sides = low_resolution.smaller(made, 0.5)
    assert sides == (16, 16)
    assert [id(w) for w in twin.weights] == [id(w) for w in made.weights]
    images = np.random.default_rng(0).random((3, 32, 32, 1)).astype("float32")
    small = low_resolution.resized(images, sides)
    assert small.shape == (3, 16, 16, 1)
    np.testing.assert_allclose(np.mean(small), images.mean(), rtol=0.02)
    layer = made.layers[-1]
    features = keras.ops.mean(made.layers[1](made.layers[0](small)), axis=(1, 2))
    np.testing.assert_allclose(twin(small), layer(features), rtol=1e-4)


def test_selection_at_a_lower_resolution_trains_and_keeps_statistics() -> None:
    x, y = np.random.default_rng(0).random((64, 32, 32, 1)).astype("float32"), np.arange(64) % 4
    made = pooled()
    stated = recipe("fast_selection", resolution=0.5)
    found = Trainer(made, stated)
    found.compile(keras.optimizers.SGD(0.0), helpers.loss())
    resident = Resident(Arrays(x, y))
    found.fit(resident, steps_per_epoch=1, epochs=1, verbose=0)
    picked = np.repeat(np.arange(64), drawn(found).astype(int))
    assert len(picked) == 16
    twin = pooled()
    twin(x[picked], training=True)  # a step's own batch, not the smaller images
    np.testing.assert_allclose(made.layers[1].moving_mean, twin.layers[1].moving_mean, rtol=1e-4)


def test_what_is_fixed_to_a_size_is_refused_at_another() -> None:
    fixed = keras.Sequential([layers.Input((32, 32, 1)), layers.Flatten(), layers.Dense(4)])
    for made, why in ((fixed, "incompatible"), (pooled(8), "small already")):
        with pytest.raises(RecipeError, match="lower resolution") as found:
            trainer(recipe("fast_selection", resolution=0.5), made)
        assert why in str(found.value)
    with pytest.raises(RecipeError, match="scores images as they are"):
        trainer(recipe("upper_bound", resolution=0.5), pooled())


@pytest.mark.parametrize("name", first_fast("upper_bound", "loss_momentum"))
def test_a_killed_run_goes_on_with_the_same_bits(name: str, tmp_path: Path) -> None:
    stated = RECIPE.give(sampling={"strategy": name, **ALWAYS})
    plain, report = _train(stated)
    with pytest.raises(Killed):
        _train(stated, run_dir=tmp_path, callbacks=[KillAt(12)])
    again, _ = _train(stated, run_dir=tmp_path)
    assert helpers.difference(helpers.weights(again), helpers.weights(plain)) == 0.0
    assert report.history["sampling"][-1] == 1.0
    assert report.recipe.sampling.strategy == name


def test_one_line_takes_what_keras_fit_takes() -> None:
    made = model()
    made.compile(keras.optimizers.SGD(0.1), helpers.loss(), metrics=["accuracy"])
    x, y = X.astype("float32"), Y
    weights = np.where(Y == 0, 0.0, 1.0)
    sampled = ImportanceSampling(made, "upper_bound", threshold=-1.0, presample=2.0)
    history = sampled.fit(
        x, y, batch_size=16, epochs=2, validation_split=0.25, sample_weight=weights,
        class_weight={1: 0.0}, verbose=0,
    ).history  # fmt: skip
    assert history["sampling"] == [1.0, 1.0]
    assert len(history["val_accuracy"]) == 2
    counts = drawn(sampled.trainer)
    assert len(counts) == 72
    assert counts.sum() == 2 * 5 * 16
    assert counts[Y[:72] <= 1].sum() == 0  # of no weight, or a class of none
    assert made.evaluate(x[72:], y[72:], verbose=0)[1] == pytest.approx(history["val_accuracy"][-1])


def test_arrays_that_do_not_go_together_are_told() -> None:
    sampled = ImportanceSampling(compiled(), "loss")
    with pytest.raises(DataError, match="not of one number"):
        sampled.fit(X, Y[:-1], verbose=0)
    with pytest.raises(DataError, match="in order"):
        sampled.fit(X, Y, shuffle=False, verbose=0)
    with pytest.raises(RecipeError, match="presample"):
        ImportanceSampling(compiled(), presample=0.5)


def compiled() -> Any:
    made = model()
    made.compile("sgd", helpers.loss())
    return made


def test_masks_are_scored_by_their_pixels_that_count() -> None:
    """A sample whose pixels are all ignored is never drawn."""
    rng = np.random.default_rng(0)
    x = rng.random((48, 8, 8, 1)).astype("float32")
    masks = rng.integers(0, 3, (48, 8, 8)).astype("uint8")
    masks[::3] = 255
    keras.utils.set_random_seed(0)
    made = keras.Sequential([layers.Input((8, 8, 1)), layers.Conv2D(3, 3, padding="same")])
    made.compile("sgd")
    problem = Problem.inspect(made, (x, masks), seed=0, ignore_label=255)
    for name in ("upper_bound", "loss"):
        found = Trainer(made, recipe(name), task=problem.task)
        found.compile(keras.optimizers.SGD(0.1), problem.task.loss())
        found.fit(Resident(Arrays(x, masks)), steps_per_epoch=5, epochs=1, verbose=0)
        counts = drawn(found)
        assert counts[::3].sum() == 0
        assert counts.sum() == 5 * 16


@pytest.mark.parametrize("name", ["upper_bound", "loss", "bandit"])
@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "one-hot", "column", "smoothed"])
def test_labels_and_outputs_of_all_kinds_are_scored(kind: str, name: str) -> None:
    """As the same problem in class numbers and logits is: the first draws are the same."""
    y: Any = Y % 2 if kind == "sigmoid" else Y
    loss: Any = "sparse_categorical_crossentropy"
    keras.utils.set_random_seed(0)
    units = 1 if kind == "sigmoid" else 4
    stack = [layers.Input(X.shape[1:]), layers.Rescaling(1 / 255), layers.Flatten()]
    made = keras.Sequential([*stack, layers.Dense(units)])
    plain: Any = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if kind == "sigmoid":
        loss, plain = "binary_crossentropy", keras.losses.BinaryCrossentropy(from_logits=True)
    if kind == "one-hot":
        y, loss = np.eye(4, dtype="float32")[Y], "categorical_crossentropy"
    if kind == "column":
        y = Y[:, None]
    if kind == "smoothed":
        y = np.eye(4, dtype="float32")[Y]
        loss = keras.losses.CategoricalCrossentropy(label_smoothing=0.1)
        plain = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
    counts = []
    for activation, used in ((None, plain), ("sigmoid" if units == 1 else "softmax", loss)):
        body = keras.models.clone_model(made)
        body.set_weights(made.get_weights())
        if activation is not None:
            ends = [layers.Input(X.shape[1:]), *body.layers, layers.Activation(activation)]
            body = keras.Sequential(ends)
        labels = y if activation is not None or kind in ("sigmoid", "smoothed") else Y
        found = Trainer(body, recipe(name))
        found.compile(keras.optimizers.SGD(0.0), used)
        found.fit(Resident(Arrays(X, labels)), steps_per_epoch=3, epochs=1, verbose=0)
        counts.append(drawn(found))
    assert counts[0].sum() == 3 * 16
    assert np.abs(counts[0] - counts[1]).sum() <= 2  # a draw at a border may fall on its neighbour


def test_a_second_fit_of_the_same_arrays_traces_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    traced: list[int] = []
    step = Trainer.train_step

    def noted(self: Any, batch: Any) -> Any:
        traced.append(1)
        return step(self, batch)

    monkeypatch.setattr(Trainer, "train_step", noted)
    sampled = ImportanceSampling(compiled(), "upper_bound", threshold=-1.0)
    x = X.astype("float32")
    sampled.fit(x, Y, batch_size=16, verbose=0)
    before = len(traced)
    sampled.fit(x, Y, batch_size=16, verbose=0)
    assert len(traced) == before


def test_class_weights_leave_validation_as_it_is() -> None:
    made = compiled()
    options: dict[str, Any] = {"validation_split": 0.25, "class_weight": {0: 5.0}, "verbose": 0}
    history = ImportanceSampling(made, "loss").fit(X.astype("float32"), Y, **options).history
    plain = made.evaluate(X[72:].astype("float32"), Y[72:], verbose=0)
    assert history["val_loss"][-1] == pytest.approx(plain, rel=1e-5)
    with pytest.raises(DataError, match="one array"):
        ImportanceSampling(made, "loss").fit({"a": X}, Y, verbose=0)
    with pytest.raises(DataError, match="labels are of pixels"):
        ImportanceSampling(made, "loss").fit(X, np.zeros((96, 8, 8)), class_weight={0: 2.0})


def test_steps_are_measured_with_the_strategy_at_work() -> None:
    studio = Studio(helpers.problem(helpers.sequential()), recipe("greedy", warm_up=0.5),
                    budget=Budget(None))  # fmt: skip
    selector = studio.trainer.selector
    assert selector is not None
    opened: list[float] = []
    count = type(selector).note

    def noted(self: Any, is_open: Any, *others: Any) -> None:
        tf.py_function(lambda flag: opened.append(float(flag)), [is_open], [])
        count(self, is_open, *others)

    studio.trainer.run_eagerly = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(selector), "note", noted)
        studio.measure(0.1)
    assert opened and all(opened)
    assert float(selector.warm_up) == 0.5


@pytest.mark.parametrize(
    "kind",
    first_fast("augmented", "penalty", "dropout", "executions", "bfloat16", "average", "parts"),
)
def test_a_shut_gate_is_uniform_whatever_else_a_step_does(kind: str) -> None:
    extras: dict[str, dict[str, Any]] = {
        "augmented": {"augmentation": {"policy": "standard_cifar"}},
        "executions": {"compute": {"batch_size": 16, "steps_per_execution": 3}},
        "bfloat16": {"compute": {"batch_size": 16, "precision": "mixed_bfloat16"}},
        "average": {"regularization": {"ema_decay": 0.8}},
        "parts": {"compute": {"batch_size": 16, "accumulate": 3}},
    }
    extra = extras.get(kind, {})
    runs = []
    for stated in (Recipe().give(compute={"batch_size": 16}), recipe("upper_bound", warm_up=1.0)):
        keras.utils.set_random_seed(0)
        stack = [
            layers.Input(X.shape[1:]),
            layers.Rescaling(1 / 255),
            layers.Conv2D(4, 3, kernel_regularizer="l2" if kind == "penalty" else None),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dropout(0.5 if kind == "dropout" else 0.0, seed=1),
            layers.Dense(4),
        ]
        made = keras.Sequential(stack)
        found = Trainer(made, stated.give(**extra), value_range=(0, 255), seed=2)
        found.compile(keras.optimizers.SGD(0.1, momentum=0.9), helpers.loss())
        logs = found.fit(data(), steps_per_epoch=6, epochs=2, verbose=0).history
        runs.append((helpers.weights(made), logs["loss"]))
    tolerance = 2e-2 if kind == "bfloat16" else 1e-5
    assert helpers.difference(runs[0][0], runs[1][0]) < tolerance
    np.testing.assert_allclose(runs[0][1], runs[1][1], rtol=1e-2 if kind == "bfloat16" else 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "smallest"), [("upper_bound", 6.0), ("loss", 6.0)])
def test_gradients_of_steps_are_unbiased_by_their_weights(name: str, smallest: float) -> None:
    """The mean over drawn batches against the gradient of the whole set, and without weights."""
    found = trainer(recipe(name, presample=3.0), model(norm=False))
    resident = data()
    found.fit(resident, steps_per_epoch=30, epochs=1, verbose=0)  # some are learned, some are not
    variables = [w.value for w in found.model.trainable_weights]

    def vector(x: Any, y: Any, weight: Any) -> np.ndarray:
        with tf.GradientTape() as tape:
            loss = helpers.loss()(y, found.model(x, training=True), sample_weight=weight)
        parts = [tf.reshape(g, [-1]) for g in tape.gradient(loss, variables)]
        return np.asarray(tf.concat(parts, axis=0), np.float64)

    whole = vector(X.astype("float32"), Y, None)
    weighted, plain = [], []
    for one in resident.shuffled(16, seed=9, beside=32).take(1_500):
        batch = found._selected(one).batch
        weighted.append(vector(batch.x, batch.y, batch.weight))
        plain.append(vector(batch.x, batch.y, None))
    rng = np.random.default_rng(0)
    directions = np.stack([whole / np.linalg.norm(whole), *rng.normal(size=(4, len(whole)))])

    def deviation(each: list[np.ndarray]) -> np.ndarray:
        along = (np.stack(each) - whole) @ directions.T
        return np.asarray(along.mean(axis=0) / (along.std(axis=0, ddof=1) / np.sqrt(len(each))))

    assert np.abs(deviation(weighted)).max() < 3.5
    assert np.abs(deviation(plain)).max() > smallest
