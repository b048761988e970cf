"""Depth in the training step: what moves with images, what is mixed, weighed, scored, refused."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

import etude
from etude.augment.policy import Choice, Mixing, Policy, Slot
from etude.data._base import Arrays
from etude.data.resident import Resident
from etude.errors import EtudeError, RecipeError
from etude.models import disparity
from etude.problem import Problem
from etude.recipe import Recipe
from etude.training import checks
from etude.training.augmenting import Augmenter, made
from etude.training.step import Batch
from etude.training.trainer import Trainer

from ..tasks.test_depth import by_loops

N, H, W = 48, 12, 16
RANGE = (0.0, 255.0)


def data(seed: int = 0, count: int = N) -> tuple[np.ndarray, np.ndarray]:
    """Images whose brightness is their depth, of which a fifth is not known."""
    rng = np.random.default_rng(seed)
    y = rng.uniform(0.7, 4.0, (count, 3, 4)).repeat(4, axis=1).repeat(4, axis=2)
    x = (y[..., None] * 50.0 + rng.uniform(0, 20, (count, H, W, 1))).astype(np.uint8)
    y[rng.random(y.shape) < 0.2] = 0.0
    return x, y.astype(np.float32)


def model(seed: int = 0, norm: bool = True) -> keras.Model:
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((H, W, 1))
    x = layers.Rescaling(1 / 255)(inputs)
    x = layers.Conv2D(4, 3, padding="same")(x)
    if norm:
        x = layers.BatchNormalization(momentum=0.5)(x)
    x = layers.Conv2D(1, 1)(layers.ReLU()(x))
    return keras.Model(inputs, disparity.DepthFromDisparity(0.5, 5.0)(x))


def task_of(x: Any, y: Any, made_: Any = None, **options: Any) -> Any:
    return Problem.inspect(made_ or model(), (x, y), **options).task


def sure(*names: str, magnitude: float = 40.0) -> Policy:
    return Policy(tuple(Slot((Choice(name, magnitude, magnitude),)) for name in names))


def augmented(policy: Policy, x: Any, y: Any, seed: int = 0) -> Batch:
    augmenter = made(model(), policy, task_of(*data()), RANGE, seed, "")
    assert augmenter is not None and augmenter.pixelwise and augmenter.ignore == 0
    batch = Batch(None, ops.convert_to_tensor(x), ops.convert_to_tensor(y), None)
    return augmenter.augment(batch, ops.convert_to_tensor(0))


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        pytest.param("rotation", "float32", marks=pytest.mark.slow),
        ("shear_x", "float64"),
        ("translation_y", "uint16"),
        pytest.param("zoom_in", "float32", marks=pytest.mark.slow),
        ("mirror_horizontal", "float32"),
    ],
)
def test_the_map_goes_where_the_image_goes(name: str, dtype: str) -> None:
    """Images of their own columns or lines tell of every pixel where it came from."""
    columns = np.broadcast_to(np.arange(W)[None, None, :, None], (8, H, W, 1)) * 10.0 + 20.0
    lines = np.broadcast_to(np.arange(H)[None, :, None, None], (8, H, W, 1)) * 10.0 + 20.0
    depths = np.random.default_rng(0).integers(1, 60_000, (8, H, W)).astype(dtype)
    policy = sure(name)
    across = augmented(policy, columns.astype("float32"), depths)
    down = augmented(policy, lines.astype("float32"), depths)
    moved = np.asarray(across.y)
    assert moved.dtype == dtype and across.weight is None
    np.testing.assert_array_equal(moved, np.asarray(down.y))
    column = (np.asarray(across.x)[..., 0] - 20.0) / 10.0
    line = (np.asarray(down.x)[..., 0] - 20.0) / 10.0
    looked = 0
    for place in np.ndindex(8, H, W):
        value = float(moved[place])
        if value == 0.0:  # from beyond the image
            continue
        i, j = float(line[place]), float(column[place])
        edge = min(i, j) < 0.5 or i > H - 1.5 or j > W - 1.5
        if edge or min(abs(i % 1 - 0.5), abs(j % 1 - 0.5)) < 0.02:  # between two pixels
            continue
        assert value == float(depths[place[0], round(i), round(j)])
        looked += 1
    assert looked > 300
    assert set(moved.ravel().tolist()) <= {0.0, *depths.ravel().tolist()}  # nothing in between
    if name in ("rotation", "shear_x", "translation_y"):
        assert (moved == 0).any()


def test_colours_leave_depth_as_it_is() -> None:
    x, y = data()
    found = augmented(sure("brightness_up", "contrast_down", "cutout"), x.astype("float32"), y)
    assert np.abs(np.asarray(found.x) - x).max() > 5.0
    np.testing.assert_array_equal(np.asarray(found.y), y)


def test_a_pasted_pixel_has_the_partners_depth_or_none() -> None:
    x, y = data()
    y[::5, :6] = np.nan
    task = task_of(x, y)
    bright = np.where(np.isfinite(y), y, 0.0)[..., None]
    augmenter = Augmenter(Policy(mixing=Mixing(cutmix=1.0)), RANGE, pixelwise=True)
    augmenter.ignore = task.beyond()
    target = task.soften(y, 0.0)
    out = augmenter.mix(Batch(None, ops.convert_to_tensor(bright), y, None, target))
    np.testing.assert_array_equal(np.asarray(out.target), np.asarray(out.x))
    assert (np.asarray(out.target) != np.asarray(target)).mean() > 0.1


def test_a_step_on_pasted_depth_has_the_loss_of_its_targets() -> None:
    x, y = data()
    stated = Recipe().give(augmentation={"policy": Policy(mixing=Mixing(cutmix=1.0))})
    trainer = Trainer(model(), stated, task=task_of(x, y), value_range=RANGE)
    trainer.compile(keras.optimizers.SGD(0.01))
    trainer.fit(x, y, batch_size=16, epochs=1, verbose=0)
    batch = trainer._blended(trainer._staged(Batch(None, x.astype("float32"), y, None)))
    outputs = model()(batch.x)
    found = float(trainer._loss_of(batch, outputs))
    wanted = by_loops(np.asarray(batch.target)[..., 0], np.asarray(outputs))["loss"]
    assert found == pytest.approx(wanted, rel=1e-5)


def test_depth_is_not_blended_or_smoothed_or_weighed_by_class() -> None:
    x, y = data()
    task = task_of(x, y)
    mixup = Recipe().give(augmentation={"policy": Policy(mixing=Mixing(mixup=0.5))})
    with pytest.raises(RecipeError, match="between two surfaces"):
        Trainer(model(), mixup, task=task, value_range=RANGE)
    smooth = Recipe().give(regularization={"label_smoothing": 0.1})
    with pytest.raises(RecipeError, match="cannot be smoothed"):
        Trainer(model(), smooth, task=task).compile("adam")
    for wrong in ({"recipe": smooth}, {"class_weight": "balanced"}, {"class_weight": {0: 2.0}}):
        with pytest.raises(RecipeError, match=r"smoothed|classes"):
            etude.fit(model(), (x, y), epochs=1, verbose=0, **wrong)
    with pytest.raises(EtudeError, match="cannot teach"):
        etude.noisy_student(model(), (x, y), x, rounds=1, epochs=1, verbose=0)
    assert not checks.takes_soft_labels(Problem.inspect(model(), (x, y)))


class Fixed(keras.Model):  # type: ignore[misc, unused-ignore]
    """Outputs are the images, plus one number to learn."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = self.add_weight(shape=(), initializer="zeros", name="shift")

    def call(self, x: Any) -> Any:
        return x + self.shift


@pytest.mark.parametrize("count", [W, H])
def test_weighted_samples_in_training_and_evaluation(count: int) -> None:
    """As many as a map is wide, or high: Keras lines weights up with these axes."""
    _, y = data(count=count)
    guesses = (y + np.random.default_rng(1).normal(size=y.shape) ** 2)[..., None].astype("float32")
    weights = np.linspace(0, 2, count).astype(np.float32)
    wanted = by_loops(y, guesses, weights)
    task = task_of((guesses * 20).astype("float32"), y)
    trainer = Trainer(Fixed(), task=task)
    trainer.compile(keras.optimizers.SGD(0.0), task.loss(), weighted_metrics=task.metrics())
    options: Any = {"sample_weight": weights, "batch_size": count, "verbose": 0}
    found = trainer.evaluate(guesses, y, return_dict=True, **options)
    assert found == pytest.approx(wanted, rel=1e-5)
    trained = trainer.fit(guesses, y, **options).history
    assert {name: values[0] for name, values in trained.items()} == pytest.approx(wanted, rel=1e-5)


def test_an_own_loss_of_keras_takes_weights_of_samples() -> None:
    x, y = data(count=W)
    y = np.where(y == 0, 1.0, y).astype(np.float32)
    weights = np.linspace(0, 2, W).astype(np.float32)
    net = Fixed()
    trainer = Trainer(net, task=task_of(x, y))
    guesses = (2 * y)[..., None]
    trainer.compile(keras.optimizers.SGD(0.0), "mean_absolute_error")
    batch = Batch(None, guesses, y[..., None], ops.convert_to_tensor(weights))
    assert trainer._pixelwise
    errors = np.abs(y).mean(axis=(1, 2)) * weights
    weight = trainer._aligned(batch.weight, ops.convert_to_tensor(guesses))
    found = float(trainer._data_loss(Batch(None, guesses, batch.y, weight), guesses))
    assert found == pytest.approx(errors.mean(), rel=1e-5)


@pytest.mark.parametrize("name", ["upper_bound", "loss"])
def test_samples_without_depth_are_not_drawn(name: str) -> None:
    x, y = data()
    y[::3] = 0.0
    always = {"threshold": -1.0, "warm_up": 0.0, "cool_down": 0.0}
    stated = Recipe().give(
        compute={"batch_size": 16}, sampling={"strategy": name, "smoothing": 0.0} | always
    )
    trainer = Trainer(model(), stated, task=task_of(x, y))
    trainer.compile(keras.optimizers.SGD(0.01))
    trainer.fit(Resident(Arrays(x, y)), steps_per_epoch=5, epochs=1, verbose=0)
    assert trainer.selector is not None
    counts = np.asarray(trainer.selector.drawn)
    assert counts[::3].sum() == 0 and counts.sum() == 5 * 16


def test_scores_are_losses_and_norms_of_gradients() -> None:
    """By loops: the mean error of each sample, and the norm of its gradient over its pixels."""
    x, y = data()
    y[3] = 0.0
    net = model()
    for name in ("loss", "upper_bound"):
        stated = Recipe().give(compute={"batch_size": 16}, sampling={"strategy": name})
        trainer = Trainer(net, stated, task=task_of(x, y))
        trainer.compile(keras.optimizers.SGD(0.01))
        assert trainer._scorer is not None
        outputs = net(x)
        found = np.asarray(trainer._scorer(Batch(None, x, ops.convert_to_tensor(y), None), outputs))
        for i in range(N):
            known = y[i] > 0
            error = np.abs(np.asarray(outputs)[i, ..., 0] - y[i])[known]
            wanted = error.mean() if known.any() else 0.0
            if name == "upper_bound":  # each known pixel's slope is one over their number
                wanted = 1.0 / np.sqrt(known.sum()) / (H * W) if known.any() else 0.0
            assert found[i] == pytest.approx(wanted, rel=1e-4, abs=1e-9)


def after_steps(recipe: Recipe, images: Any = None, **options: Any) -> Any:
    x, y = data()
    trainer = Trainer(model(), recipe, task=task_of(x, y), seed=1)
    trainer.compile(keras.optimizers.SGD(0.05), metrics=task_of(x, y).metrics(), **options)
    more = {} if images is None else {"unlabeled": images}
    history = trainer.fit(Resident(Arrays(x, y)), epochs=3, verbose=0, **more).history
    return history, [np.asarray(w) for w in trainer.model.get_weights()]


def test_images_without_depth_count_in_the_statistics() -> None:
    """The same images beside all of the labelled ones change nothing; others do."""
    full = Recipe().give(compute={"batch_size": N})
    joint = full.give(semisupervised={"batch_norm": "joint"})
    plain = after_steps(full)[1]
    same, other = after_steps(joint, data()[0])[1], after_steps(joint, 255 - data(7)[0])[1]
    for a, b in zip(plain, same, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)
    assert max(np.abs(a - b).max() for a, b in zip(plain, other, strict=True)) > 1e-3


def test_low_precision_and_xla_train_alike() -> None:
    base = Recipe().give(compute={"batch_size": 16})
    plain, weights = after_steps(base)
    for changes in ({"precision": "mixed_bfloat16"}, {"xla": True}):
        history, found = after_steps(base.give(compute=changes))
        tight = "xla" in changes
        for name, values in plain.items():
            assert history[name] == pytest.approx(values, rel=1e-3 if tight else 0.05, abs=0.02)
        for a, b in zip(weights, found, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-3 if tight else 0.05)
    assert plain["loss"][-1] < plain["loss"][0]
