"""Pre-training: the step by hand, what it leaves alone, and that features get better."""

from __future__ import annotations

import itertools
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import etude
from etude.errors import DataError, EtudeError, ModelError, RecipeError, RunError
from etude.inspection import backbone as backbones
from etude.recipe import Recipe
from etude.ssl.objectives import OBJECTIVES, Head, SimSiam
from etude.training import low_resolution, pretrainer

from . import helpers

SMALL = {"projector": Head((16, 8)), "predictor": Head((6, 8))}


def model(seed: int = 0) -> keras.Model:
    keras.utils.set_random_seed(seed)
    stack = [layers.Rescaling(1 / 255), layers.Conv2D(6, 3), layers.BatchNormalization()]
    stack += [layers.Activation("relu"), layers.Flatten(), layers.Dense(4, name="head")]
    return keras.Sequential([layers.Input((8, 8, 1)), *stack])


def pooled() -> tuple[keras.Model, Any]:
    """A model that takes images of any size, and some that it was built for."""
    keras.utils.set_random_seed(0)
    stack = [layers.Rescaling(1 / 255), layers.Conv2D(6, 3), layers.BatchNormalization()]
    stack += [layers.Activation("relu"), layers.GlobalAveragePooling2D(), layers.Dense(4)]
    made = keras.Sequential([layers.Input((16, 16, 1)), *stack])
    return made, np.repeat(np.repeat(images(), 2, axis=1), 2, axis=2)


@pytest.fixture(autouse=True)
def small_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in OBJECTIVES.values():
        monkeypatch.setattr(kind, "projector", SMALL["projector"])
        if kind.predictor is not None:
            monkeypatch.setattr(kind, "predictor", SMALL["predictor"])


def images(count: int = 64, seed: int = 0) -> Any:
    return helpers.images(count, seed)[0]


def options(**others: Any) -> dict[str, Any]:
    return {"epochs": 2, "batch_size": 16, "policy": "standard_cifar", "verbose": 0, **others}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_every_objective_trains_the_models_own_weights(name: str) -> None:
    own = model()
    before = helpers.weights(own)
    found = etude.pretrain(own, images(), objective=name, **options())
    after = helpers.weights(own)
    moved = [float(np.abs(a - b).max()) for a, b in zip(before, after, strict=True)]
    assert all(np.isfinite(w).all() for w in after)
    assert all(m > 0.0 for m in moved[:-2])  # statistics too
    assert moved[-2:] == [0.0, 0.0]  # the head
    assert len(found.history["loss"]) == 2
    assert 0.0 < found.history["spread"][-1] < 1.2
    if name in ("byol", "dino"):  # with all that draws, copies and keeps
        again = model()
        etude.pretrain(again, images(), objective=name, **options())
        assert helpers.difference(after, helpers.weights(again)) == 0.0


def test_a_step_is_that_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """SimSiam by plain SGD, with the views given."""
    x = images(8).astype(np.float32)
    views = [x, x[:, :, ::-1].copy()]
    given = iter(views * 2)
    plain = Recipe().give(
        optimization={"optimizer": "sgd", "learning_rate": 0.1}, compute={"batch_size": 8},
        augmentation={"policy": "standard_cifar"},
    )  # fmt: skip
    networks = []
    for by_hand in (False, True):
        own = model()
        body = keras.Model(own.inputs, own.layers[-2].output)
        trainer = pretrainer.Pretrainer(body, SimSiam(), plain, value_range=(0.0, 255.0), seed=3)
        trainer.compile()
        network = trainer.model
        if not by_hand:
            monkeypatch.setattr(trainer.augmenter, "images", lambda images: next(given))
            trainer.run_eagerly = True
            trainer.fit(tf.data.Dataset.from_tensors((x,)), verbose=0)
        else:
            variables = [v.value for v in trainer.trainable_variables]
            with tf.GradientTape() as tape:
                z = [network(view, training=True) for view in views]
                p = [network.predictor(one, training=True) for one in z]
                unit = [
                    [r / tf.norm(r, axis=1, keepdims=True) for r in side]
                    for side in (p, [tf.stop_gradient(one) for one in z])
                ]
                loss = (
                    -sum(
                        tf.reduce_mean(tf.reduce_sum(unit[0][i] * unit[1][1 - i], axis=1))
                        for i in range(2)
                    )
                    / 2.0
                )
            for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
                variable.assign_sub(0.1 * gradient)
        networks.append([np.asarray(v) for v in network.variables])
    for one, other in zip(*networks, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.slow
def test_a_copy_follows_by_its_share() -> None:
    objective = OBJECTIVES["byol"]()
    own = model()
    body = keras.Model(own.inputs, own.layers[-2].output)
    recipe = Recipe().give(
        optimization={"optimizer": "sgd", "learning_rate": 0.5},
        augmentation={"policy": "standard_cifar"},
    )
    trainer = pretrainer.Pretrainer(body, objective, recipe, value_range=(0.0, 255.0))
    trainer.compile()
    copy = trainer._copy()
    assert not {id(v) for v in copy.variables} & {id(v) for v in trainer.variables}
    kernel, followed = (part.backbone.layers[2].kernel for part in (trainer.model, copy))
    start = np.asarray(kernel).copy()
    np.testing.assert_array_equal(start, np.asarray(followed))
    trainer.fit(tf.data.Dataset.from_tensors((images(16).astype(np.float32),)), verbose=0)
    moved = np.asarray(kernel) - start
    assert np.abs(moved).max() > 1e-4
    np.testing.assert_allclose(np.asarray(followed) - start, 0.01 * moved, atol=1e-6)
    # Its statistics are its own: those of the batch, at the layer's momentum.
    assert np.abs(np.asarray(copy.backbone.layers[3].moving_mean)).max() > 0.0


def test_embeddings_that_are_all_the_same_have_no_spread() -> None:
    rng = np.random.default_rng(0)
    assert float(pretrainer.spread(np.ones((9, 4), np.float32))) == pytest.approx(0.0, abs=1e-5)
    even = rng.normal(size=(4_000, 64)).astype(np.float32)
    assert float(pretrainer.spread(even)) == pytest.approx(1.0, rel=0.02)
    leaning = even + 3.0
    assert 0.2 < float(pretrainer.spread(leaning)) < 0.6


@pytest.mark.slow
def test_a_collapse_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def pull(self: Any, asked: Any, target: Any, state: Any) -> Any:
        return ops.mean(ops.square(asked - 5.0)) + 0.0 * ops.mean(target)

    monkeypatch.setattr(SimSiam, "loss", pull)
    monkeypatch.setattr(SimSiam, "predictor", None)
    rate = Recipe().give(optimization={"optimizer": "adam", "learning_rate": 0.05})
    found = etude.pretrain(model(), images(), recipe=rate, **options(epochs=25))
    assert any("collapsed" in note for note in found.notes)


def test_what_dino_sorts_by_are_cosines(monkeypatch: pytest.MonkeyPatch) -> None:
    """At first, and after steps that are far too long; the copy's too."""
    monkeypatch.undo()  # with its own head
    own = model()
    body = keras.Model(own.inputs, own.layers[-2].output)
    recipe = Recipe().give(
        optimization={"optimizer": "sgd", "learning_rate": 5.0},
        augmentation={"policy": "standard_cifar"},
    )
    objective = OBJECTIVES["dino"]()
    trainer = pretrainer.Pretrainer(body, objective, recipe, value_range=(0.0, 255.0))
    trainer.compile()
    assert trainer.model.projector.output_shape[-1] == 1024
    features = 30.0 * np.random.default_rng(0).normal(size=(50, body.output_shape[-1]))
    kernel, copied = (part.projector.layers[-1].kernel for part in (trainer.model, trainer._copy()))
    start = np.asarray(kernel).copy()
    for _ in range(2):
        for columns in (kernel, copied):
            np.testing.assert_allclose(np.linalg.norm(columns, axis=0), 1.0, rtol=1e-5)
        said = np.asarray(trainer.model.projector(features, training=True))
        assert 0.1 < np.abs(said).max() <= 1.0 + 1e-5
        data = tf.data.Dataset.from_tensors((images(16).astype(np.float32),))
        trainer.fit(data.repeat(3), verbose=0)
    moved = np.asarray(kernel) - start
    assert np.abs(moved).max() > 1e-3
    assert 0.0 < np.abs(np.asarray(copied) - start).max() < np.abs(moved).max()


@pytest.mark.parametrize("every", [1, pytest.param(64, marks=pytest.mark.slow)])
def test_what_diverges_ends_and_the_backbone_is_as_before(
    monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    """By distances that grow without bound at such a rate; looked at in an epoch, or at its end."""
    monkeypatch.setattr(pretrainer, "LOOKED_AT", every)
    own = model()
    before, x = helpers.weights(own), images()
    rate = Recipe().give(optimization={"optimizer": "sgd", "learning_rate": 1e6})
    with pytest.raises(RunError, match="diverged") as caught:
        etude.pretrain(
            own, x, objective="vicreg", recipe=rate, neighbours=((x, np.arange(len(x)) % 2),) * 2,
            **options(epochs=4),
        )  # fmt: skip
    assert "1000000.0" in str(caught.value) and "in epoch" in str(caught.value)
    assert "in epoch 4" not in str(caught.value)
    assert helpers.difference(before, helpers.weights(own)) == 0.0


def gratings(count: int, seed: int) -> tuple[Any, Any]:
    """Stripes of two directions at a random place, under noise: what pixels alone hardly tell."""
    rng = np.random.default_rng(seed)
    y = np.arange(count) % 2
    phase = rng.uniform(0, 2 * np.pi, count)[:, None]
    waves = np.sin(np.arange(8) * 2.1 + phase)[:, :, None] * np.ones((1, 1, 8))
    waves = np.where(y[:, None, None] == 1, waves, waves.transpose(0, 2, 1))
    x = 127.0 + 40.0 * waves + rng.normal(0, 45, (count, 8, 8))
    return np.clip(x, 0, 255).astype(np.uint8)[..., None], y


@pytest.mark.slow
def test_features_tell_classes_better_than_before() -> None:
    (x, y), (q, t) = gratings(1_000, 0), gratings(500, 9)
    own = model()
    body = keras.Model(own.inputs, keras.ops.mean(own.layers[-3].output, axis=(1, 2)))
    before = pretrainer.Neighbours(body, (x, y), (q, t), neighbours=20).look()
    whole = keras.Model(own.inputs, [layers.Dense(4)(body.outputs[0])])
    found = etude.pretrain(
        whole, x, objective="simclr", neighbours=((x, y), (q, t)), every=20, probe=True,
        **options(epochs=40, batch_size=64),
    )  # fmt: skip
    assert found.history["knn_accuracy"][-1] > before["knn_accuracy"] + 0.05
    assert found.history["rank"][-1] > 2.0
    assert len(found.history["knn_accuracy"]) == 2
    assert len(found.history["probe_accuracy"]) == 1
    assert found.history["probe_accuracy"][0] > before["knn_accuracy"] + 0.05


@pytest.mark.slow
def test_images_without_labels_may_stream() -> None:
    own = model()
    data = tf.data.Dataset.from_tensor_slices(images(40)).batch(8)
    found = etude.pretrain(own, data, **options(memory_budget=1000))
    assert len(found.history["loss"]) == 2


@pytest.mark.parametrize(
    ("given", "kind", "says"),
    [
        ({"objective": "simclrr"}, RecipeError, "no such objective"),
        ({"policy": "none"}, RecipeError, "would be the same"),
        ({"probe": True}, RecipeError, "needs labelled images"),
        ({"batch_size": 1}, RecipeError, "no other to tell it from"),
        ({"backbone": "nobody"}, ModelError, "no layer of this name"),
        ({"images": np.zeros((0, 8, 8, 1), np.uint8)}, EtudeError, "no images"),
        ({"images": np.full((16, 8, 8, 1), np.nan, np.float32)}, DataError, "NaN|finite"),
    ],
)
def test_what_cannot_be_is_said(given: dict[str, Any], kind: Any, says: str) -> None:
    with pytest.raises(kind, match=says):
        etude.pretrain(model(), given.pop("images", images()), **options(**given))


def test_the_hardest_pair_of_each_image_is_kept() -> None:
    rng = np.random.default_rng(0)
    views = rng.normal(size=(4, 5, 2, 2, 1)).astype(np.float32)
    losses = {pair: rng.normal(size=5).astype(np.float32)
              for pair in itertools.combinations(range(4), 2)}  # fmt: skip
    one, other = pretrainer.hardest(list(map(tf.constant, views)), losses)
    for k in range(5):
        i, j = max(losses, key=lambda pair: losses[pair][k])
        np.testing.assert_array_equal(np.asarray(one)[k], views[i, k])
        np.testing.assert_array_equal(np.asarray(other)[k], views[j, k])


@pytest.mark.parametrize("objective", ["simsiam", "byol"])
def test_pairs_are_scored_by_the_objective_and_nothing_moves(objective: str) -> None:
    """By a plain loop over pairs, at half the resolution, each view by its own statistics."""
    body = backbones.find(pooled()[0])
    made = pretrainer.Pretrainer(
        body, OBJECTIVES[objective](), Recipe().give(augmentation={"policy": "contrastive"}),
        value_range=(0, 255), hard=pretrainer.HardViews(3, 0.5),
    )  # fmt: skip
    made.compile("sgd")
    rng = np.random.default_rng(0)
    views = [rng.integers(0, 256, (6, 16, 16, 1)).astype(np.float32) for _ in range(3)]
    before = [np.asarray(v) for v in made.variables]
    found = made.pair_losses(list(map(tf.constant, views)), {})
    for old, new in zip(before, made.variables, strict=True):
        np.testing.assert_array_equal(old, np.asarray(new))
    network, copy = made.model, made._copy()

    def said(model: Any, view: Any) -> Any:
        small = tf.image.resize(view, (8, 8), antialias=True)
        with keras.StatelessScope():
            twin = low_resolution.at(model.backbone, (8, 8))
            return model.projector(twin(small, training=True), training=True)

    for (i, j), losses in found.items():
        wanted: Any = 0.0
        for a, b in ((i, j), (j, i)):
            with keras.StatelessScope():
                asked = network.predictor(said(network, views[a]), training=True)
            target = said(copy or network, views[b])
            wanted += np.asarray(made.objective.losses(asked, target, {}))
        np.testing.assert_allclose(np.asarray(losses), wanted, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_trains_on_the_hardest_views(objective: str) -> None:
    trained = []
    for _ in range(2):
        own, x = pooled()
        found = etude.pretrain(
            own, x, objective=objective, hard=etude.HardViews(3, 0.5), **options()
        )  # fmt: skip
        assert np.isfinite(found.history["loss"]).all()
        trained.append(helpers.weights(own))
    assert helpers.difference(*trained) == 0.0


def test_a_backbone_of_one_size_is_not_scored_on_smaller_views() -> None:
    flat = keras.Sequential([layers.Input((16, 16, 1)), layers.Flatten(), layers.Dense(4)])
    before, x = flat.get_weights(), pooled()[1]
    with pytest.raises(RecipeError, match="lower resolution"):
        etude.pretrain(flat, x, hard=etude.HardViews(3, 0.5), **options())
    assert helpers.difference(flat.get_weights(), before) == 0.0


def test_two_views_leave_nothing_to_choose() -> None:
    with pytest.raises(RecipeError, match="3 views"):
        etude.HardViews(2)
