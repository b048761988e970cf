"""Every use of Keras' and TensorFlow's private names, held against what is public."""

from __future__ import annotations

import inspect
import random
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from etude.tasks._masked import MaskedPixelAccuracy
from etude.training import _keras_compat as compat
from etude.training.trainer import Trainer

from .helpers import images, sequential

X, Y = images(32)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def hit(y_true, y_pred):
    """A metric that was never registered for saving."""
    return ops.equal(ops.cast(y_true, "int32"), ops.cast(ops.argmax(y_pred, -1), "int32"))


def compiled(model, **options):
    model.compile("sgd", LOSS, metrics=["accuracy"], **options)
    return model


class Plain(keras.Model):
    """A subclassed model without `training`, built by its first call."""

    def __init__(self):
        super().__init__()
        self.flat, self.dense = layers.Flatten(), layers.Dense(4)

    def call(self, x):
        return self.dense(self.flat(ops.cast(x, "float32")))


def cross_entropy(logits, labels):
    """Plain NumPy."""
    logits = np.asarray(logits, np.float64)
    top = logits.max(axis=1, keepdims=True)
    logs = logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
    return -logs[np.arange(len(labels)), labels]


def test_compute_loss_is_weighted_cross_entropy_and_penalties() -> None:
    model = compiled(sequential())
    logits = model(X)
    weights = np.linspace(0.0, 2.0, len(X)).astype(np.float32)
    kernel = ops.convert_to_numpy(model.layers[1].kernel)
    expected = (weights * cross_entropy(logits, Y)).mean() + 0.01 * (kernel**2).sum()
    found = compat.compute_loss(model, X, ops.convert_to_tensor(Y), logits, weights)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_data_loss_leaves_penalties_out() -> None:
    model = compiled(sequential())
    logits = model(X)
    weights = np.linspace(0.0, 2.0, len(X)).astype(np.float32)
    expected = (weights * cross_entropy(logits, Y)).mean()
    found = compat.data_loss(model, ops.convert_to_tensor(Y), logits, weights)
    assert float(found) == pytest.approx(expected, rel=1e-5)
    with keras.StatelessScope():
        inside = compat.data_loss(model, ops.convert_to_tensor(Y), logits, weights)
    assert float(inside) == pytest.approx(expected, rel=1e-5)


def test_track_loss_is_the_mean_over_samples() -> None:
    model = compiled(sequential())
    model.evaluate(X, Y, verbose=0)
    model.reset_metrics()
    compat.track_loss(model, ops.convert_to_tensor(1.0), 30)
    compat.track_loss(model, ops.convert_to_tensor(4.0), 10)
    shown = {metric.name: metric for metric in model.metrics}["loss"]
    assert float(shown.result()) == pytest.approx((1.0 * 30 + 4.0 * 10) / 40)


def test_track_loss_undoes_the_scaling_over_replicas() -> None:
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        model = compiled(sequential())
    model.evaluate(X, Y, verbose=0)
    model.reset_metrics()
    strategy.run(lambda: compat.track_loss(model, ops.convert_to_tensor(3.0), 5))
    assert float(model.metrics[0].result()) == pytest.approx(3.0)  # one replica: as it is


@pytest.mark.parametrize(("make", "takes"), [(sequential, True), (Plain, False)])
def test_has_training_argument(make, takes) -> None:
    model = make()
    assert compat.has_training_argument(model) is takes
    if not takes:
        assert "training" not in inspect.signature(model.call).parameters


def test_additional_losses_are_the_penalties() -> None:
    model = compiled(sequential())
    kernel = ops.convert_to_numpy(model.layers[1].kernel)
    found = compat.additional_losses(model)
    assert [float(loss) for loss in found] == pytest.approx([0.01 * (kernel**2).sum()])


def test_compile_arguments_are_the_objects_themselves() -> None:
    def own_loss(y_true, y_pred):
        return ops.mean(ops.square(y_pred), axis=-1)

    model, metric = sequential(), keras.metrics.MeanMetricWrapper(hit)
    model.compile("sgd", own_loss, metrics=[metric, "accuracy"], steps_per_execution=3)
    given = compat.compile_arguments(model)
    assert given["loss"] is own_loss and given["metrics"][0] is metric
    assert given["metrics"][1] == "accuracy" and given["optimizer"] is model.optimizer
    assert given["steps_per_execution"] == 3 and given["weighted_metrics"] is None


@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.metrics.MeanMetricWrapper(hit, name="hits"),
        lambda: keras.metrics.SparseTopKCategoricalAccuracy(2, name="top"),
        lambda: keras.metrics.MeanMetricWrapper(
            keras.metrics.sparse_top_k_categorical_accuracy, name="wrapped", k=3
        ),
    ],
    ids=["own function", "class", "arguments"],
)
def test_copy_metric_counts_alike_with_a_state_of_its_own(make) -> None:
    logits = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    labels = np.arange(50) % 4
    metric = make()
    metric.update_state(labels, logits)
    fresh = compat.copy_metric(metric)
    assert type(fresh) is type(metric) and fresh.name == metric.name
    assert fresh is not metric and float(fresh.result()) == 0.0
    fresh.update_state(labels, logits)
    expected = {
        "hits": (logits.argmax(1) == labels).mean(),
        "top": (np.argsort(-logits, axis=1)[:, :2] == labels[:, None]).any(1).mean(),
        "wrapped": (np.argsort(-logits, axis=1)[:, :3] == labels[:, None]).any(1).mean(),
    }[metric.name]
    assert float(fresh.result()) == float(metric.result()) == pytest.approx(expected)


def test_a_wrapped_function_is_why_copy_metric_is_there() -> None:
    """The day that this fails, Keras' own way does."""
    wrapped = keras.metrics.MeanMetricWrapper(hit)
    with pytest.raises(TypeError, match="Could not locate function"):
        type(wrapped).from_config(wrapped.get_config())


def test_producing_node_and_first_node_of_a_shared_layer() -> None:
    first, second = keras.Input((3,)), keras.Input((3,))
    shared = layers.Dense(2)
    one, two = shared(first), shared(second)
    for tensor, source in ((one, first), (two, second)):
        operation, node = compat.producing_node(tensor)
        assert operation is shared
        assert list(node.input_tensors) == [source]
    assert list(compat.first_node(shared).input_tensors) == [first]
    scaled = ops.multiply(one, 0.5)
    operation, _ = compat.producing_node(scaled)
    assert 0.5 in compat.first_node(operation).arguments.args


def test_distribute_strategy() -> None:
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        inside = sequential()
    assert compat.distribute_strategy(inside) is strategy
    assert compat.distribute_strategy(sequential()) is None


def test_slot_index_knows_a_variable_in_all_its_forms() -> None:
    variables = [keras.Variable(np.full(2, value, "float32")) for value in (1.0, 2.0, 3.0)]
    optimizer = keras.optimizers.SGD(0.0, momentum=0.5)
    optimizer.build(variables)
    found = [compat.slot_index(optimizer, v) for v in variables]
    assert found == [compat.slot_index(optimizer, v.value) for v in variables] == [0, 1, 2]
    with pytest.raises(KeyError):
        compat.slot_index(optimizer, keras.Variable(0.0))


def test_slot_index_knows_a_replicas_part_of_a_variable() -> None:
    strategy, found = tf.distribute.MirroredStrategy(["CPU:0"]), []

    class Watching(keras.optimizers.SGD):  # type: ignore[misc, unused-ignore]
        def update_step(self, gradient, variable, learning_rate):
            found.append(compat.slot_index(self, variable))

    with strategy.scope():
        variables = [keras.Variable(np.zeros(2, "float32")) for _ in range(3)]
        optimizer = Watching()
        optimizer.build(variables[::-1])
    strategy.run(lambda: optimizer.apply([tf.ones(2)] * 3, variables))
    assert found == [2, 1, 0]


def test_all_layers_go_down_into_models_and_wrappers() -> None:
    inner = keras.Sequential([keras.Input((8, 8, 1)), layers.BatchNormalization(name="deep")])
    wrapped = layers.TimeDistributed(layers.Dense(2, name="wrapped"))
    model = keras.Sequential([keras.Input((8, 8, 1)), inner, wrapped])
    found = list(compat.all_layers(model))
    assert found[0] is model
    assert {"deep", "wrapped"} <= {layer.name for layer in found}
    assert len({id(layer) for layer in found}) == len(found)


def test_is_fully_built_follows_the_first_batch() -> None:
    built, deferred = compiled(sequential()), compiled(Plain())
    assert not compat.is_fully_built(built)  # its metrics are not
    assert not compat.is_fully_built(deferred)
    for model in (built, deferred):
        model.evaluate(X, Y, verbose=0)
        assert compat.is_fully_built(model)


def test_symbolic_build_needs_no_data() -> None:
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        model = compiled(Plain())
    drawn: list[int] = []
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)
    data = data.map(lambda x, y: (tf.numpy_function(drawn.append, [1], []), (x, y))[1])
    compat.symbolic_build(model, data.element_spec)
    assert drawn == []
    assert compat.is_fully_built(model) and model.dense.kernel.shape == (64, 4)
    assert not model.optimizer.built or model.optimizer.iterations == 0


class Watch(keras.callbacks.Callback):
    """Sets the length of epochs, and counts their steps."""

    def __init__(self, trainer, lengths):
        super().__init__()
        self.trainer, self.lengths, self.steps, self.specs = trainer, lengths, [], []

    def on_epoch_begin(self, epoch, logs=None):
        iterator = self.trainer.epoch_iterator
        self.specs.append(compat.element_spec(iterator))
        compat.set_epoch_length(iterator, self.lengths[epoch])
        self.steps.append(0)

    def on_train_batch_end(self, batch, logs=None):
        self.steps[-1] += 1


def test_element_spec_and_set_epoch_length() -> None:
    trainer = Trainer(compiled(sequential()))
    data = tf.data.Dataset.from_tensor_slices((X, Y)).repeat().batch(8)
    watch = Watch(trainer, [2, 5, 1])
    trainer.fit(data, epochs=3, steps_per_epoch=4, verbose=0, shuffle=False, callbacks=[watch])
    assert watch.steps == [2, 5, 1]
    assert int(trainer.optimizer.iterations) == 8
    assert all(spec == data.element_spec for spec in watch.specs)


def draws():
    """One number from every generator outside of models."""
    return [
        random.random(),
        float(np.random.random()),
        float(keras.random.uniform(())),
        float(tf.random.get_global_generator().uniform(())),
        float(tf.random.uniform(())),
        float(layers.Dense(1, kernel_initializer="glorot_uniform")(np.ones((1, 1)))[0, 0]),
    ]


def test_random_state_gives_every_generator_back() -> None:
    keras.utils.set_random_seed(7)
    draws()
    state = compat.random_state()
    first = draws()
    assert all(a != b for a, b in zip(first, draws(), strict=True))
    compat.set_random_state(state)
    assert draws() == first


def test_global_seed_is_what_unseeded_layers_draw_from() -> None:
    keras.utils.set_random_seed(3)
    state = compat.global_seed()
    first = [float(keras.random.uniform(())) for _ in range(2)]
    compat.set_global_seed(state)
    assert [float(keras.random.uniform(())) for _ in range(2)] == first
    assert len(set(first)) == 2
    assert not np.array_equal(compat.global_seed(), state)


# -- Names by which a subclass answers Keras ---------------------------------------------


def test_keras_asks_maybe_symbolic_build_with_its_iterator() -> None:
    asked = []

    class Asked(keras.Sequential):
        def _maybe_symbolic_build(self, iterator=None, data_batch=None):
            asked.append(iterator)
            return super()._maybe_symbolic_build(iterator=iterator, data_batch=data_batch)

    model = compiled(Asked([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(4)]))
    model.fit(X, Y, batch_size=8, validation_data=(X, Y), verbose=0)
    assert len(asked) == 2  # one of training, one of validation
    assert all(hasattr(iterator, "steps_per_epoch") for iterator in asked)


def test_callbacks_take_a_metrics_direction() -> None:
    metric = MaskedPixelAccuracy(threshold=0.0, name="share")
    x = np.zeros((4, 8, 8, 1), np.float32)
    y = np.zeros((4, 8, 8), np.uint8)
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(1, 1)])
    model.compile("sgd", keras.losses.MeanSquaredError(), metrics=[metric])
    stopper = keras.callbacks.EarlyStopping("val_share", patience=9)
    model.fit(x, y, validation_data=(x, y), verbose=0, callbacks=[stopper])
    assert stopper.monitor_op is ops.greater or stopper.monitor_op is np.greater


def test_moments_are_those_that_are_given() -> None:
    """Within, of this thread alone, and nested; after, the layer is as it was."""
    rng = np.random.default_rng(0)
    x = rng.normal(2.0, 3.0, (20, 4)).astype(np.float32)
    layer = layers.BatchNormalization(momentum=0.5)
    own = np.asarray(layer(x, training=True))
    np.testing.assert_allclose(own, (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-3), atol=1e-5)
    seen, elsewhere = [], []

    def given(of: object, inputs: object, moments: object) -> object:
        seen.append((of, np.asarray(inputs), [np.asarray(m) for m in moments()]))
        return ops.full((4,), 7.0), ops.full((4,), 4.0)

    with compat.moments_by([layer], given):
        found = np.asarray(layer(x, training=True))
        other = threading.Thread(target=lambda: elsewhere.append(layer(x, training=True)))
        other.start()
        other.join()
        with compat.moments_by([layer], lambda la, inputs, moments: (ops.ones(4), ops.ones(4))):
            inner = np.asarray(layer(x, training=True))
        again = np.asarray(layer(x, training=True))
    np.testing.assert_allclose(found, (x - 7.0) / np.sqrt(4.0 + 1e-3), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(again, found)
    np.testing.assert_allclose(inner, (x - 1.0) / np.sqrt(1.001), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(np.asarray(elsewhere[0]), own, atol=1e-6)
    assert [of for of, _, _ in seen] == [layer, layer]
    np.testing.assert_array_equal(seen[0][1], x)
    np.testing.assert_allclose(seen[0][2], [x.mean(0), x.var(0)], rtol=1e-4)
    assert "_moments" not in layer.__dict__
    np.testing.assert_allclose(np.asarray(layer(x, training=True)), own, atol=1e-6)


def test_every_function_is_tested_here() -> None:
    functions = {
        name
        for name, value in inspect.getmembers(compat, inspect.isfunction)
        if value.__module__ == compat.__name__
    }
    with open(__file__, encoding="utf-8") as file:
        source = file.read()
    assert {name for name in functions if f"compat.{name}(" not in source} == set()
