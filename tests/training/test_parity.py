"""The Trainer with the default recipe is plain Keras, to the bit."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from etude.data._base import Arrays
from etude.data.resident import Resident
from etude.data.shuffle import permutation
from etude.errors import ModelError
from etude.recipe import Recipe
from etude.training.trainer import Trainer

from . import helpers

COMPILE: dict[str, dict[str, Any]] = {
    "plain": {},
    "steps_per_execution": {"steps_per_execution": 4},
    "xla": {"jit_compile": True},
    "eager": {"run_eagerly": True},
    "clipped": {"optimizer": keras.optimizers.SGD(0.1, momentum=0.9, clipnorm=0.5)},
}
FIT: dict[str, dict[str, Any]] = {
    "plain": {},
    "class_weight": {"class_weight": {0: 1.0, 1: 3.0, 2: 0.5, 3: 1.0}},
    "sample_weight": {"sample_weight": np.linspace(0.0, 2.0, 160).astype("float32")},
}


def _trained(wrap: bool, make: Any, compiled: dict[str, Any], fitted: dict[str, Any]) -> Any:
    x, y = helpers.images()
    model = make()
    trainer = Trainer(model, Recipe()) if wrap else model
    options = dict(compiled)
    optimizer = options.pop("optimizer", None)
    optimizer = "adam" if optimizer is None else type(optimizer).from_config(optimizer.get_config())
    trainer.compile(optimizer, helpers.loss(), metrics=["accuracy"], **options)
    keras.utils.set_random_seed(3)
    history = trainer.fit(
        x.astype("float32"),
        y,
        batch_size=16,
        epochs=2,
        verbose=0,
        validation_data=(x[:50].astype("float32"), y[:50]),
        **fitted,
    )
    return helpers.weights(model), history.history


@pytest.mark.parametrize("kind", sorted(helpers.MODELS))
@pytest.mark.parametrize("fitted", sorted(FIT))
def test_weights_and_history_are_equal(kind: str, fitted: str) -> None:
    arms = [_trained(w, helpers.MODELS[kind], {}, FIT[fitted]) for w in (False, True)]
    assert helpers.difference(arms[0][0], arms[1][0]) == 0.0
    assert arms[0][1] == arms[1][1]


@pytest.mark.parametrize(
    "compiled",
    [
        pytest.param(name, marks=pytest.mark.slow if name == "xla" else ())
        for name in sorted(set(COMPILE) - {"plain"})
    ],
)
def test_equal_however_compiled(compiled: str) -> None:
    arms = [_trained(w, helpers.sequential, COMPILE[compiled], {}) for w in (False, True)]
    assert helpers.difference(arms[0][0], arms[1][0]) == 0.0
    assert arms[0][1] == arms[1][1]


def test_the_check_can_fail() -> None:
    plain = _trained(False, helpers.sequential, {}, {})[0]
    other = _trained(True, helpers.sequential, COMPILE["clipped"], {})[0]
    assert helpers.difference(plain, other) > 1e-3


def test_resident_data_are_the_same_data_in_a_known_order() -> None:
    x, y = helpers.images()
    resident = helpers.functional()
    trainer = Trainer(resident, Recipe(), seed=7)
    trainer.compile("adam", helpers.loss())
    trainer.fit(Resident(Arrays(x, y)), batch_size=16, epochs=2, verbose=0)
    plain = helpers.functional()
    plain.compile("adam", helpers.loss())
    for epoch in range(2):
        order = permutation(160, 7, epoch)
        data = tf.data.Dataset.from_tensor_slices((x[order].astype("float32"), y[order])).batch(16)
        plain.fit(data, verbose=0, shuffle=False)
    # The batch axis is static here and not there, which rounds differently; another order of
    # samples differs by more than 1e-3.
    assert helpers.difference(helpers.weights(resident), helpers.weights(plain)) < 1e-6


def test_the_users_model_is_left_trained_compiled_and_saveable(tmp_path: Any) -> None:
    x, y = helpers.images()
    model = helpers.functional()
    trainer = Trainer(model)
    trainer.compile("adam", helpers.loss(), metrics=["accuracy"])
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "every.keras")
    trainer.fit(x, y, epochs=1, verbose=0, callbacks=[checkpoint])
    trainer.save(tmp_path / "model.keras")
    want = trainer.evaluate(x, y, verbose=0)
    assert model.optimizer is trainer.optimizer
    assert model.evaluate(x, y, verbose=0) == want
    for name in ("model.keras", "every.keras"):
        loaded = keras.saving.load_model(tmp_path / name)
        assert type(loaded) is type(model)
        assert loaded.evaluate(x, y, verbose=0) == want
    np.testing.assert_array_equal(trainer.predict(x, verbose=0), model.predict(x, verbose=0))


def test_metrics_of_several_outputs_keep_their_names() -> None:
    x, y = helpers.images(40)
    inputs = keras.Input((8, 8, 1))
    flat = keras.layers.Flatten()(inputs)
    model = keras.Model(
        inputs,
        {"a": keras.layers.Dense(4, name="a")(flat), "b": keras.layers.Dense(4, name="b")(flat)},
    )
    losses = {"a": helpers.loss(), "b": helpers.loss()}
    logs = []
    for trainer in (model, Trainer(model)):
        trainer.compile("sgd", losses, metrics={"a": ["accuracy"], "b": ["accuracy"]})
        logs.append(set(trainer.fit(x, {"a": y, "b": y}, verbose=0).history))
    assert logs[0] == logs[1]
    assert "a_accuracy" in logs[1]


def test_callbacks_see_the_model_and_may_stop_it() -> None:
    x, y = helpers.images()
    seen = []

    class Look(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            seen.append((epoch, self.model.count_params(), sorted(logs)))
            self.model.stop_training = epoch == 1

    model = helpers.functional()
    trainer = Trainer(model)
    trainer.compile("sgd", helpers.loss())
    trainer.fit(x, y, epochs=5, verbose=0, callbacks=[Look()])
    assert [epoch for epoch, _, _ in seen] == [0, 1]
    assert seen[0][1] == model.count_params()
    assert seen[0][2] == ["loss"]


def test_own_compute_loss_is_honoured_with_its_metrics() -> None:
    class Own(helpers.Subclassed):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.seen = keras.metrics.Mean(name="seen")

        def compute_loss(
            self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None,
            training: bool = True,
        ) -> Any:  # fmt: skip
            value = keras.ops.mean(keras.ops.square(y_pred - 1.0))
            self.seen.update_state(value)
            return value

    x, y = helpers.images(64)
    arms = []
    for wrap in (False, True):
        keras.utils.set_random_seed(1)
        model = Own()
        trainer = Trainer(model) if wrap else model
        trainer.compile("sgd", helpers.loss())
        keras.utils.set_random_seed(2)
        history = trainer.fit(x.astype("float32"), y, batch_size=16, epochs=2, verbose=0).history
        arms.append((helpers.weights(model), history["loss"], history["seen"]))
    assert arms[0][1:] == arms[1][1:]
    # Keras lists `seen` among the variables of the model that is trained itself only once.
    assert helpers.difference(arms[0][0], arms[1][0]) == 0.0


@pytest.mark.parametrize("name", ["train_step", "test_step", "compute_metrics"])
def test_own_steps_are_refused_with_a_reason(name: str) -> None:
    kind = type("Custom", (helpers.Subclassed,), {name: lambda self, *a, **k: None})
    with pytest.raises(ModelError, match=name):
        Trainer(kind())


@pytest.mark.parametrize("name", ["fit", "evaluate"])
@pytest.mark.parametrize("given", ["class", "instance"])
def test_own_entries_are_refused_with_a_reason(name: str, given: str) -> None:
    """Keras would call them, and Étude's own `fit` would not."""

    def own(*args: Any, **options: Any) -> None:
        return None

    kind = type("Custom", (helpers.Subclassed,), {name: own} if given == "class" else {})
    model = kind()
    if given == "instance":
        setattr(model, name, own)
    with pytest.raises(ModelError, match=f"own `{name}`"):
        Trainer(model)


def test_own_predictions_are_taken() -> None:
    kind = type("Custom", (helpers.Subclassed,), {"predict": lambda self, *a, **k: None})
    assert Trainer(kind()).model.predict(0) is None


def test_frozen_models_are_refused_before_training() -> None:
    x, y = helpers.images(32)
    model = helpers.functional()
    model.trainable = False
    trainer = Trainer(model)
    trainer.compile("sgd", helpers.loss())
    with pytest.raises(ModelError, match="nothing to train"):
        trainer.fit(x, y, verbose=0)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy: str) -> None:
    x, y = helpers.images(64)
    arms = []
    keras.config.set_dtype_policy(policy)
    try:
        for wrap in (False, True):
            model = helpers.functional()
            trainer = Trainer(model) if wrap else model
            trainer.compile("adam", helpers.loss())
            keras.utils.set_random_seed(2)
            trainer.fit(x, y, batch_size=16, verbose=0)
            arms.append(helpers.weights(model))
            assert ("LossScale" in type(trainer.optimizer).__name__) == (policy == "mixed_float16")
    finally:
        keras.config.set_dtype_policy("float32")
    assert helpers.difference(*arms) == 0.0


def test_nothing_retraces_after_the_first_epoch() -> None:
    x, y = helpers.images()
    traces = []

    class Counting(Trainer):
        def train_step(self, data: Any) -> Any:
            traces.append(1)
            return super().train_step(data)

    recipe = Recipe().give(optimization={"schedule": "one_cycle", "learning_rate": 0.1})
    trainer = Counting(helpers.functional(), recipe)
    trainer.compile("sgd", helpers.loss())
    data = Resident(Arrays(x, y))
    trainer.fit(data, batch_size=16, verbose=0)
    first = len(traces)
    assert trainer.controls is not None
    trainer.controls.peak.assign(0.2)
    trainer.controls.total.assign(99.0)
    trainer.fit(data, batch_size=16, epochs=2, verbose=0)
    assert 1 <= first <= 2
    assert len(traces) == first
