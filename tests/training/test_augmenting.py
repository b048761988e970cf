"""Augmentation in the step: what moves together, what counts, and what stays the same."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

from etude.augment.names import INDEX
from etude.augment.policy import POLICIES, Choice, Mixing, Policy, Slot
from etude.data._base import Arrays
from etude.data.resident import Resident
from etude.errors import RecipeError
from etude.problem import Problem
from etude.recipe import Recipe
from etude.training import checks, snapshot
from etude.training.augmenting import Augmenter
from etude.training.isolation import isolated
from etude.training.step import Batch
from etude.training.trainer import Trainer

from . import helpers

RANGE = (0.0, 255.0)
X, Y = helpers.images(32)
IMAGES = X.astype("float32")


def sure(name: str, magnitude: float, **options: Any) -> Policy:
    return Policy((Slot((Choice(name, magnitude, magnitude),)),), **options)


def augmented(policy: Policy, done: int = 0, ids: Any = None, **options: Any) -> Batch:
    batch = Batch(ids, ops.convert_to_tensor(IMAGES), ops.convert_to_tensor(Y), None)
    return Augmenter(policy, RANGE, **options).augment(batch, ops.convert_to_tensor(done))


def test_masks_move_with_their_images():
    masks = ops.convert_to_tensor(IMAGES[..., 0])
    batch = Batch(None, ops.convert_to_tensor(IMAGES), masks, None)
    policy = Policy((Slot((Choice("quarter_turns", 50.0, 50.0), Choice("zoom_in", 50.0, 50.0))),))
    out = Augmenter(policy, RANGE, pixelwise=True).augment(batch, 0)
    turned = np.abs(np.asarray(out.x) - IMAGES).max(axis=(1, 2, 3)) > 0.0
    assert 4 < turned.sum() < 32
    same = np.abs(np.asarray(out.x)[..., 0] - np.asarray(out.y)).max(axis=(1, 2)) < 1e-3
    # Zoomed images lie between pixels, and their masks do not.
    assert same.sum() >= 8
    np.testing.assert_array_equal(np.asarray(out.weight), np.ones((32, 8, 8)))


def test_beyond_the_image_pixels_have_no_weight_or_are_ignored():
    masks = ops.convert_to_tensor(X[..., 0].astype("int32") % 3)
    given = np.linspace(0.5, 2.0, 32).astype("float32")
    batch = Batch(None, ops.convert_to_tensor(IMAGES), masks, ops.convert_to_tensor(given))
    policy = sure("translation_x", 25.0)
    out = Augmenter(policy, RANGE, pixelwise=True, seed=1).augment(batch, 0)
    weight = np.asarray(out.weight)
    sides = {(0.0, 0.0): 0, (1.0, 1.0): 0}
    for k in range(32):
        left, right = weight[k, :, :2] / given[k], weight[k, :, -2:] / given[k]
        np.testing.assert_allclose(weight[k, :, 2:-2], given[k])
        np.testing.assert_allclose(left.mean() + right.mean(), 1.0)
        sides[(float(left.mean().round()), float(left.mean().round()))] += 1
    assert min(sides.values()) >= 8  # both ways
    out = Augmenter(policy, RANGE, pixelwise=True, ignore=255, seed=1).augment(batch, 0)
    np.testing.assert_array_equal(np.asarray(out.y) == 255, weight == 0.0)
    np.testing.assert_array_equal(np.asarray(out.weight), given)


def test_a_loss_without_weights_of_pixels_gets_none():
    masks = ops.convert_to_tensor(X[..., 0].astype("int32") % 3)
    batch = Batch(None, ops.convert_to_tensor(IMAGES), masks, None)
    augmenter = Augmenter(sure("translation_x", 25.0), RANGE, pixelwise=True)
    assert augmenter.augment(batch, 0, weigh=False).weight is None
    given = dataclasses.replace(batch, weight=ops.convert_to_tensor(np.float32(Y)))
    np.testing.assert_array_equal(augmenter.augment(given, 0, weigh=False).weight, np.float32(Y))


class OfSamples(keras.losses.Loss):  # type: ignore[misc, unused-ignore]
    """A loss of one's own, as a Dice loss: a number for each sample."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        hit = ops.one_hot(ops.cast(y_true, "int32"), 2) * ops.softmax(y_pred)
        return 1.0 - ops.mean(hit, axis=(1, 2, 3))


def test_a_loss_of_ones_own_trains_on_augmented_masks():
    x, masks = IMAGES, (X[..., 0] > 90).astype("int32")
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, layers.Conv2D(2, 1)(inputs))
    model.compile("adam", OfSamples())
    recipe = Recipe().give(augmentation={"policy": "standard_cifar"})
    task = Problem.inspect(model, (x, masks)).task
    trainer = Trainer(model, recipe, task=task, value_range=RANGE)
    assert np.isfinite(trainer.fit(x, masks, batch_size=16, verbose=0).history["loss"]).all()


def test_weights_of_pixels_move_too():
    weights = ops.convert_to_tensor(IMAGES[..., 0])
    batch = Batch(None, ops.convert_to_tensor(IMAGES), ops.zeros((32, 8, 8), "int32"), weights)
    out = Augmenter(sure("mirror_horizontal", 100.0), RANGE, pixelwise=True).augment(batch, 0)
    np.testing.assert_array_equal(out.weight, np.flip(IMAGES[..., 0], 2))


def test_alternating_flips_follow_ids_and_epochs():
    """Batches need not end with epochs: 32 of 40 samples are seen at a time."""
    policy = Policy(alternating_flip=True)
    augmenter = Augmenter(policy, RANGE)
    augmenter.samples.assign(40)
    seen: dict[int, list[bool]] = {}
    for step in range(5):  # four passes
        ids = np.arange(32 * step, 32 * step + 32) % 40
        batch = Batch(ops.convert_to_tensor(ids), ops.convert_to_tensor(IMAGES), None, None)
        out = np.asarray(augmenter.augment(batch, 32 * step).x)
        for sample, (new, old) in zip(ids, zip(out, IMAGES, strict=True), strict=True):
            flipped = np.array_equal(new, np.flip(old, 1))
            assert flipped or np.array_equal(new, old)
            seen.setdefault(int(sample), []).append(flipped)
    assert all(turns == [turns[0], not turns[0]] * 2 for turns in seen.values())
    assert 10 <= sum(turns[0] for turns in seen.values()) <= 30


def test_mixed_targets_are_those_of_the_mixed_images():
    policy = Policy(mixing=Mixing(mixup=0.5, cutmix=0.5))
    augmenter = Augmenter(policy, RANGE, seed=2)
    marked = ops.convert_to_tensor(np.eye(4, dtype="float32")[Y])
    # Each class has a colour of its own, so that an image tells what it is made of.
    images = ops.broadcast_to(marked[:, None, None, :], (32, 8, 8, 4))
    weight = ops.convert_to_tensor(1.0 + Y.astype("float32"))
    out = augmenter.mix(Batch(None, images, ops.convert_to_tensor(Y), weight, marked))
    shares = np.asarray(ops.mean(out.x, axis=(1, 2)))
    weighted = shares * np.float32([1, 2, 3, 4])
    np.testing.assert_allclose(out.weight, weighted.sum(axis=1), atol=1e-4)
    # The gradient of cross-entropy is linear in these: each label counts by its image's weight.
    both = np.asarray(out.target) * np.asarray(out.weight)[:, None]
    np.testing.assert_allclose(both, weighted, atol=1e-4)
    plain = augmenter.mix(Batch(None, images, ops.convert_to_tensor(Y), None, marked))
    np.testing.assert_allclose(ops.mean(plain.x, axis=(1, 2)), plain.target, atol=1e-5)
    assert (np.asarray(out.target).max(axis=1) < 0.999).sum() > 10


def trained(policy: Policy | None, *, seed: int = 3, **options: Any) -> list[Any]:
    recipe = Recipe().give(augmentation={"policy": policy})
    trainer = Trainer(helpers.functional(), recipe, value_range=RANGE, seed=seed, **options)
    trainer.compile("adam", helpers.loss())
    keras.utils.set_random_seed(0)
    trainer.fit(Resident(Arrays(X, Y)), batch_size=16, epochs=2, verbose=0)
    return [np.asarray(v) for v in trainer.model.trainable_variables]


def test_a_label_without_weight_does_not_get_into_a_blend():
    augmenter = Augmenter(Policy(mixing=Mixing(mixup=1.0)), RANGE, seed=2)
    target = ops.convert_to_tensor(np.eye(4, dtype="float32")[Y])
    weight = ops.convert_to_tensor((Y != 3).astype("float32"))
    images = ops.convert_to_tensor(IMAGES.astype("float32"))
    out = augmenter.mix(Batch(None, images, ops.convert_to_tensor(Y), weight, target))
    assert (np.asarray(out.target)[:, 3] == 0.0).all()
    assert ((np.asarray(out.weight) > 0.0) & (np.asarray(out.weight) < 0.999)).any()


@pytest.mark.parametrize("seed", [np.int64(5), -1, 2**40])
def test_any_whole_number_is_a_seed(seed: Any):
    drawn = []
    for one in (seed, seed, 6):
        recipe = Recipe().give(augmentation={"policy": "standard_cifar"})
        trainer = Trainer(helpers.functional(), recipe, value_range=RANGE, seed=one)
        images = ops.convert_to_tensor(IMAGES.astype("float32"))
        drawn.append(np.asarray(trainer.augmenter.augment(Batch(None, images, None, None), 0).x))
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_and_another_one_others():
    policy = Policy.of("standard_cifar")
    first, again = trained(policy), trained(policy)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert any((a != b).any() for a, b in zip(first, trained(None), strict=True))


def test_a_policy_that_leaves_images_alone_gives_the_weights_of_none():
    for one, other in zip(trained(sure("rotation", 0.0)), trained(None), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_the_loss_is_that_of_the_mixed_images():
    """One step of a linear model by hand: the gradient of soft cross-entropy."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([layers.Input((8, 8, 1)), layers.Flatten(), layers.Dense(4)])
    task = helpers.problem(keras.models.clone_model(model)).task
    recipe = Recipe().give(
        augmentation={"policy": Policy(mixing=Mixing(mixup=1.0))},
        optimization={"optimizer": "sgd", "learning_rate": 0.25},
        regularization={"label_smoothing": 0.1},
    )
    x = (IMAGES / 255.0).astype("float32")
    trainer = Trainer(model, recipe, task=task, value_range=(0.0, 1.0), seed=4)
    trainer.compile(loss=helpers.loss())
    w, b = (np.asarray(v, np.float64) for v in model.trainable_variables)
    twin = Augmenter(recipe.augmentation.policy, (0.0, 1.0), seed=4)
    soft = np.eye(4, dtype="float32")[Y] * 0.9 + 0.025
    same = twin.augment(Batch(None, ops.convert_to_tensor(x), None, None), 0)
    mixed = twin.mix(Batch(None, same.x, None, None, ops.convert_to_tensor(soft)))
    trainer.fit(x, Y, batch_size=32, shuffle=False, verbose=0)
    flat = np.asarray(mixed.x, np.float64).reshape(32, -1)
    z = flat @ w + b
    delta = np.exp(z) / np.exp(z).sum(1, keepdims=True) - np.asarray(mixed.target)
    new_w, new_b = (np.asarray(v) for v in model.trainable_variables)
    np.testing.assert_allclose(new_w, w - 0.25 * flat.T @ delta / 32, atol=1e-5)
    np.testing.assert_allclose(new_b, b - 0.25 * delta.mean(0), atol=1e-5)


def test_a_state_holds_the_draws_and_a_trial_leaves_them():
    recipe = Recipe().give(augmentation={"policy": "randaugment"})
    trainer = Trainer(helpers.functional(), recipe, value_range=RANGE, monitored=True)
    trainer.compile("adam", helpers.loss())
    data = Resident(Arrays(X, Y))

    def steps() -> list[Any]:
        trainer.fit(data, batch_size=16, verbose=0)
        return [np.asarray(v) for v in trainer.model.trainable_variables]

    steps()
    state = snapshot.capture(trainer)
    first = steps()
    snapshot.restore(trainer, state)
    for one, other in zip(first, steps(), strict=True):
        np.testing.assert_array_equal(one, other)
    snapshot.restore(trainer, state)
    with isolated(trainer):
        steps()
    for one, other in zip(first, steps(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_fifty_policies_need_one_trace():
    recipe = Recipe().give(augmentation={"policy": sure("invert", 100.0)})
    traces = []

    class Counting(keras.layers.Layer):  # type: ignore[misc, unused-ignore]
        def call(self, inputs: Any) -> Any:
            traces.append(1)
            return inputs

    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, layers.Dense(4)(layers.Flatten()(Counting()(inputs))))
    trainer = Trainer(model, recipe, value_range=RANGE, monitored=True)
    trainer.compile("sgd", helpers.loss())
    data = Resident(Arrays(X, Y))
    trainer.fit(data, batch_size=16, verbose=0)
    before = len(traces)
    assert trainer.augmenter is not None
    policies = [Policy.of(name) for name in POLICIES]
    policies += [sure(name, magnitude) for magnitude in (30.0, 100.0) for name in INDEX][:43]
    assert len(policies) == 50
    for policy in policies:
        trainer.take_over(recipe.give(augmentation={"policy": policy}))
        trainer.fit(data, batch_size=16, verbose=0)
        assert trainer.augmenter.policy == policy
    assert len(traces) == before


def test_what_cannot_be_done_is_refused():
    def made(policy: Any, model: Any = None, **options: Any) -> None:
        recipe = Recipe().give(augmentation={"policy": policy})
        Trainer(model or helpers.functional(), recipe, **options)

    with pytest.raises(RecipeError, match="what values pixels can have"):
        made("randaugment")
    with pytest.raises(RecipeError, match="what the labels mean"):
        made(Policy(mixing=Mixing(mixup=0.5)), value_range=RANGE)
    with pytest.raises(RecipeError, match="no such policy"):
        made("autoaugment")
    task = helpers.problem(helpers.functional()).task
    recipe = Recipe().give(augmentation={"policy": Policy(mixing=Mixing(mixup=0.5))})
    trainer = Trainer(helpers.functional(), recipe, task=task, value_range=RANGE)
    with pytest.raises(RecipeError, match="take the place of your own loss"):
        trainer.compile("adam", "mse")


@pytest.mark.parametrize(
    ("loss", "same"),
    [
        (keras.losses.SparseCategoricalCrossentropy(from_logits=True), True),
        (keras.losses.CategoricalCrossentropy(from_logits=True), True),
        (keras.losses.CategoricalCrossentropy(reduction="mean"), True),
        ("sparse_categorical_crossentropy", True),
        (keras.losses.sparse_categorical_crossentropy, True),
        (keras.losses.SparseCategoricalCrossentropy(reduction="sum"), False),
        (keras.losses.SparseCategoricalCrossentropy(reduction="mean_with_sample_weight"), False),
        (keras.losses.CategoricalCrossentropy(label_smoothing=0.1), False),
        (keras.losses.BinaryCrossentropy(from_logits=True), False),
        ("binary_crossentropy", False),
        ("mse", False),
        (lambda y, outputs: keras.ops.sum(outputs), False),
    ],
)
def test_only_a_cross_entropy_like_the_tasks_is_one_for_soft_labels(loss: Any, same: bool):
    """A sum over the batch, say, is another loss by the factor of the batch."""
    task = helpers.problem(helpers.functional()).task
    assert task.name == "single_label"
    assert checks.is_crossentropy(loss, task) is same


def test_images_of_several_sizes_are_refused():
    tf = pytest.importorskip("tensorflow")
    keras.utils.set_random_seed(0)
    head = [layers.GlobalAveragePooling2D(), layers.Dense(4)]
    model = keras.Sequential([layers.Input((None, None, 1)), layers.Conv2D(3, 3), *head])
    spec = (tf.TensorSpec((None, None, None, 1), tf.float32), tf.TensorSpec((None,), tf.int64))
    data = tf.data.Dataset.from_generator(lambda: iter([(IMAGES, Y)]), output_signature=spec)
    recipe = Recipe().give(augmentation={"policy": "standard_cifar"})
    trainer = Trainer(model, recipe, value_range=RANGE)
    trainer.compile("adam", helpers.loss())
    with pytest.raises(RecipeError, match="batches of one size"):
        trainer.fit(data, verbose=0)


def pixel_task(channels: int, masks: np.ndarray, ignore: int | None = None) -> Any:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, layers.Conv2D(channels, 1)(inputs))
    return model, Problem.inspect(model, (IMAGES, masks), ignore_label=ignore).task


def test_masks_are_mixed_as_their_pixels_are():
    """Each class has a brightness of its own, so that a pixel tells what it is made of."""
    masks = (X[..., 0] > 90).astype("int32") + (X[..., 0] > 160)
    target = np.eye(3, dtype="float32")[masks]
    target[:, 0] = 0.0  # ignored
    values = np.float32([10.0, 100.0, 200.0])
    weight = np.linspace(1.0, 2.0, len(masks)).astype("float32")
    augmenter = Augmenter(Policy(mixing=Mixing(mixup=0.4, cutmix=0.6)), RANGE, pixelwise=True)
    # As bright as the label weighs: labels count by the weights of their images.
    bright = (target @ values[:, None]) * weight[:, None, None, None]
    given = (ops.convert_to_tensor(part) for part in (bright, masks, weight))
    x, y, of_image = given
    out = augmenter.mix(Batch(None, x, y, of_image, ops.convert_to_tensor(target)))
    mixed = np.asarray(out.target)
    found = (mixed @ values) * np.asarray(out.weight)
    np.testing.assert_allclose(found, np.asarray(out.x)[..., 0], rtol=1e-5)
    assert ((mixed.max(-1) < 0.999) & (mixed.max(-1) > 0.001)).any()  # blended
    assert (mixed[:, 0] == 0.0).all()
    whole = np.broadcast_to(weight[:, None, None], masks.shape)
    assert np.asarray(out.weight).shape == whole.shape
    assert np.abs(np.asarray(out.weight) - whole).max() > 0.1
    np.testing.assert_array_equal(out.y, masks)  # metrics see the labels themselves


def test_a_blend_with_an_ignored_pixel_is_of_the_other_label_alone():
    """Half of the images are ignored; their partners' labels count by their part of the blend."""
    target = np.zeros((32, 8, 8, 3), np.float32)
    target[::2, ..., 1] = 1.0
    augmenter = Augmenter(Policy(mixing=Mixing(mixup=1.0)), RANGE, pixelwise=True, ignore=0)
    x = ops.convert_to_tensor(target.sum(-1, keepdims=True))  # as bright as it is known
    out = augmenter.mix(Batch(None, x, None, None, ops.convert_to_tensor(target)))
    known = np.asarray(out.x)[..., 0]
    np.testing.assert_allclose(out.weight, known, rtol=1e-5)
    np.testing.assert_allclose(np.asarray(out.target)[..., 1], known > 0.0, rtol=1e-5)
    assert ((known > 0.0) & (known < 0.999)).any()
    assert (known == 0.0).any()


def test_a_pasted_pixel_has_the_partners_label_and_weight():
    masks = (X[..., 0] > 90).astype("float32")[..., None]
    weight = np.where(masks[..., 0] > 0.5, 3.0, 1.0).astype("float32")
    augmenter = Augmenter(Policy(mixing=Mixing(cutmix=1.0)), RANGE, pixelwise=True)
    given = [ops.convert_to_tensor(part) for part in (200.0 * masks, masks[..., 0], weight, masks)]
    out = augmenter.mix(Batch(None, *given))
    np.testing.assert_allclose(out.x, 200.0 * np.asarray(out.target))
    np.testing.assert_allclose(out.weight, 1.0 + 2.0 * np.asarray(out.target)[..., 0])
    assert (np.asarray(out.target) != masks).any()


def test_a_blend_with_an_ignored_label_is_refused():
    masks = (X[..., 0] > 90).astype("int32")
    masks[:, 0] = 255
    model, task = pixel_task(1, masks, ignore=255)

    def made_with(**mixing: float) -> None:
        recipe = Recipe().give(augmentation={"policy": Policy(mixing=Mixing(**mixing))})
        Trainer(model, recipe, task=task, value_range=RANGE)

    with pytest.raises(RecipeError, match="cannot be mixed"):
        made_with(mixup=0.5)
    made_with(cutmix=0.5)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_step_on_mixed_masks_is_one_of_soft_targets(channels: int):
    masks = (X[..., 0] > 90).astype("int32") + (channels > 1) * (X[..., 0] > 160)
    model, task = pixel_task(channels, masks)
    recipe = Recipe().give(augmentation={"policy": Policy(mixing=Mixing(mixup=0.5, cutmix=0.5))})
    trainer = Trainer(model, recipe, task=task, value_range=RANGE)
    trainer.compile(keras.optimizers.SGD(1.0), task.loss())
    history = trainer.fit(IMAGES / 255.0, masks, batch_size=32, epochs=20, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert history["loss"][-1] < 0.9 * history["loss"][0]


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (X, (0.0, 255.0)),
        (IMAGES, (0.0, 255.0)),
        (IMAGES / 255.0, (0.0, 1.0)),
        (IMAGES / 127.5 - 1.0, (-1.0, 1.0)),
        ((X % 2).astype("uint8"), (0.0, 255.0)),
    ],
)
def test_the_value_range_is_read_off_the_images(x, expected):
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, layers.Dense(4)(layers.Flatten()(inputs)))
    assert Problem.inspect(model, (x, Y)).value_range == expected


def test_an_unusual_range_is_what_was_seen():
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, layers.Dense(4)(layers.Flatten()(inputs)))
    x = IMAGES / 50.0 - 2.0
    found = Problem.inspect(model, (x, Y)).value_range
    assert found == pytest.approx((float(x.min()), float(x.max())))
