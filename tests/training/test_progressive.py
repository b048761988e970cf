"""Images that grow with the run: closed forms, and a loop by hand."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import etude
from etude.augment.policy import POLICIES, Choice, Policy, Slot
from etude.data._base import Arrays
from etude.data.resident import Resident
from etude.errors import RecipeError
from etude.recipe import Recipe
from etude.training import low_resolution, progressive
from etude.training.progressive import Progressive, Stage
from etude.training.trainer import Trainer

from . import helpers


def test_the_stages_are_five_from_96_to_224() -> None:
    found = progressive.stages(480, (224, 224), least=96, warmup=80)
    assert [part.sides[0] for part in found] == [224, 96, 128, 160, 192, 224]
    assert [part.first for part in found] == [0, 80, 160, 240, 320, 400]
    assert [part.strength for part in found] == pytest.approx([0.8, 0.8, 0.9, 1.0, 1.1, 1.2])
    # Table 3.6: 1.60 times as fast, which is L / Σ (r / r_max)².
    sides = np.repeat([224, 96, 128, 160, 192, 224], 80)
    assert progressive.cost(found, 480, (224, 224)) == pytest.approx(np.mean((sides / 224) ** 2))
    assert 1 / progressive.cost(found, 480, (224, 224)) == pytest.approx(1.60, abs=0.005)


def test_sides_keep_their_shape_and_the_last_is_the_full_one() -> None:
    found = progressive.stages(100, (32, 48), least=16, step=10)
    assert [part.sides for part in found] == [(16, 24), (26, 39), (32, 48)]
    assert [part.first for part in found] == [0, 33, 67]


@pytest.mark.parametrize(
    "options", [{"least": 0}, {"least": 32}, {"least": 8, "step": 0}, {"least": 8, "warmup": 10}]
)
def test_what_cannot_grow_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="cannot grow"):
        progressive.stages(10, (32, 32), **options)


def test_only_colours_become_stronger_and_not_above_all() -> None:
    slots = (Slot((Choice("rotation", 0, 20), Choice("hue", 10, 90))),)
    found = progressive.strengthened(Policy(slots), 1.2).slots[0].choices
    assert (found[0].low, found[0].high) == (0, 20)
    assert (found[1].low, found[1].high) == pytest.approx((12, 100))
    known = POLICIES["contrastive"]()
    assert progressive.strengthened(known, 1.0) == known
    assert progressive.strengthened(known, 0.5) != known


def network(seed: int = 0) -> keras.Model:
    keras.utils.set_random_seed(seed)
    inputs = layers.Input((16, 16, 1))
    x = layers.Conv2D(6, 3, padding="same")(layers.Rescaling(1 / 255)(inputs))
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.5)(x))
    return keras.Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))


def images(count: int) -> tuple[Any, Any]:
    x, y = helpers.images(count)
    return np.repeat(np.repeat(x, 2, axis=1), 2, axis=2), y


def trainer(model: keras.Model, **groups: Any) -> Trainer:
    made = Trainer(model, Recipe().give(**groups), value_range=(0, 255))
    made.compile(keras.optimizers.SGD(0.1), helpers.loss())
    return made


def test_a_run_is_a_loop_by_hand() -> None:
    """A batch as large as the set: the order is of no matter."""
    x, y = images(40)
    model, by_hand = network(), network()
    made = trainer(model)
    grow = Progressive(8, step=4, warmup=0.25)
    made.fit(Resident(Arrays(x, y)), batch_size=40, epochs=8, verbose=0, callbacks=[grow])
    assert [part.sides[0] for part in grow.stages] == [16, 8, 12, 16]
    assert [part.first for part in grow.stages] == [0, 2, 4, 6]
    optimizer, loss = keras.optimizers.SGD(0.1), helpers.loss()
    for side in (16, 16, 8, 8, 12, 12, 16, 16):
        shown = tf.image.resize(x.astype(np.float32), (side, side), antialias=True)
        with tf.GradientTape() as tape:
            # As a function of the layers: the model holds images against its size.
            outputs = low_resolution.at(by_hand, (side, side))(shown, training=True)
            value = loss(y, outputs)
        variables = by_hand.trainable_variables
        optimizer.apply(tape.gradient(value, [v.value for v in variables]), variables)
    for a, b in zip(model.variables, by_hand.variables, strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), atol=1e-5)
    plain = network()
    trainer(plain).fit(Resident(Arrays(x, y)), batch_size=40, epochs=8, verbose=0)
    assert helpers.difference(helpers.weights(plain), helpers.weights(model)) > 1e-3
    assert model.input_shape == (None, 16, 16, 1)


def test_each_size_is_traced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    traced: list[Any] = []
    step = Trainer.train_step

    def noted(self: Any, batch: Any) -> Any:
        traced.append(self.resolution.sides)
        return step(self, batch)

    monkeypatch.setattr(Trainer, "train_step", noted)
    made = trainer(network())
    data = Resident(Arrays(*images(40)))
    for _ in range(2):
        made.fit(data, batch_size=10, epochs=4, verbose=0, callbacks=[Progressive(8, step=4)])
    # Full ones in the warm-up and at the end are one.
    assert sorted(set(traced), key=str) == [(12, 12), (8, 8), None]
    assert len(traced) == 3


def test_changes_grow_with_the_images_and_are_put_back() -> None:
    seen: list[tuple[Any, float]] = []
    policy = Policy((Slot((Choice("brightness_up", 10.0, 50.0),)),))
    made = trainer(network(), augmentation={"policy": policy})

    class Look(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            assert made.augmenter is not None
            seen.append((made.resolution.sides, made.augmenter.policy.slots[0].choices[0].high))

    data = Resident(Arrays(*images(40)))
    grow = Progressive(8, step=4, warmup=0.0, strengths=(0.5, 1.5))
    made.fit(data, batch_size=20, epochs=3, verbose=0, callbacks=[grow, Look()])
    assert seen == [((8, 8), 25.0)] * 2 + [((12, 12), 50.0)] * 2 + [(None, 75.0)] * 2
    assert made.augmenter is not None
    assert made.augmenter.policy == policy
    # Of a run that goes on from its third epoch only the last stage is left.
    seen.clear()
    made.fit(
        data, batch_size=20, epochs=3, initial_epoch=2, verbose=0, callbacks=[grow, Look()]
    )  # fmt: skip
    assert seen == [(None, 75.0)] * 2
    assert grow.stages[0] == Stage(0, (8, 8), 0.5)


def test_what_it_cannot_train_is_said_before_the_first_step() -> None:
    x, y = images(40)
    model = network()
    model.compile("sgd", helpers.loss())
    with pytest.raises(RecipeError, match=r"etude\.Trainer"):
        model.fit(x, y, verbose=0, callbacks=[Progressive(8)])
    with pytest.raises(RecipeError, match="within a budget"):
        etude.fit(network(), (x, y), epochs=1, verbose=0, callbacks=[Progressive(8)])
    keras.utils.set_random_seed(0)
    flat = keras.Sequential(
        [layers.Input((16, 16, 1)), layers.Flatten(), layers.Dense(4)]
    )  # fmt: skip
    before = flat.get_weights()
    with pytest.raises(RecipeError, match="lower resolution"):
        trainer(flat).fit(x, y, verbose=0, epochs=3, callbacks=[Progressive(8, warmup=0.5)])
    assert helpers.difference(flat.get_weights(), before) == 0.0


@pytest.mark.slow
def test_a_transformer_of_any_size_and_pre_training_grow() -> None:
    x, y = images(40)
    model = etude.models.build("vit", (None, None, 1), 4, width=8, depth=1, patch=4, seed=0)
    made = trainer(model)
    grow = Progressive(8, step=4, full=(16, 16))
    made.fit(Resident(Arrays(x, y)), batch_size=20, epochs=4, verbose=0, callbacks=[grow])
    for objective in ("simsiam", "byol"):
        found = etude.pretrain(
            network(), x, objective=objective, epochs=4, batch_size=20, verbose=0,
            callbacks=[Progressive(8, step=4)],
        )  # fmt: skip
        assert np.isfinite(found.history["loss"]).all()
