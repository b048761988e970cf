"""Logits or probabilities: read off the model, else measured; the model stays as it was."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from etude.inspection import _graph, outputs
from etude.inspection.model import run

L = keras.layers
X = np.random.default_rng(0).random((6, 8, 8, 3)).astype(np.float32)


def sequential(*layers):
    return keras.Sequential([keras.Input((8, 8, 3)), L.Flatten(), *layers])


def functional(end):
    image = keras.Input((8, 8, 3))
    return keras.Model(image, end(L.Flatten()(image)))


def nested(activation):
    inner = sequential(L.Dense(3, activation=activation))
    image = keras.Input((8, 8, 3))
    return keras.Model(image, L.Activation("linear", dtype="float32")(inner(image)))


class Own(keras.Model):
    """A subclassed model, whose end cannot be seen."""

    def __init__(self, end, units=3):
        super().__init__()
        self.flat, self.dense, self.end = L.Flatten(), L.Dense(units), end
        self.norm, self.drop = L.BatchNormalization(), L.Dropout(0.5)

    def call(self, x, training=None):
        return self.end(self.drop(self.norm(self.dense(self.flat(x))), training=training))


class Constant(keras.Model):
    """A subclassed model with the same outputs for all images, by its first weights."""

    def __init__(self, value, units=3, end=lambda x: x, early=False):
        super().__init__()
        bias = keras.initializers.Constant(value)
        self.early = L.Dense(units, kernel_initializer="zeros", bias_initializer=bias)
        self.body = L.Dense(5, activation="relu")
        self.late = L.Dense(units, kernel_initializer="zeros", bias_initializer=bias)
        self.end, self.head = end, self.early if early else self.late
        self.early.build((None, 5))
        self.body.build((None, 192))
        self.late.build((None, 5))

    def call(self, x):
        return self.end(self.head(self.body(keras.ops.reshape(x, (-1, 192)))))


SIGMOID = keras.ops.sigmoid


def softmax(x):
    """No softmax, in spite of its name."""
    return 3.0 * x


SEEN = {
    "dense": (lambda: sequential(L.Dense(3)), "linear"),
    "dense_softmax": (lambda: sequential(L.Dense(3, activation="softmax")), "softmax"),
    "dense_ops_sigmoid": (lambda: sequential(L.Dense(3, activation=SIGMOID)), "sigmoid"),
    "softmax_layer": (lambda: sequential(L.Dense(3), L.Softmax()), "softmax"),
    "activation_layer": (lambda: sequential(L.Dense(1), L.Activation("sigmoid")), "sigmoid"),
    "relu_layer": (lambda: sequential(L.Dense(3), L.ReLU()), "relu"),
    "float32_cast": (
        lambda: sequential(
            L.Dense(3, activation="softmax"), L.Activation("linear", dtype="float32")
        ),
        "softmax",
    ),
    "dropout_behind": (lambda: sequential(L.Dense(3), L.Dropout(0.1)), "linear"),
    "temperature": (lambda: sequential(L.Dense(3), L.Rescaling(0.5)), "linear"),
    "reshape": (lambda: sequential(L.Dense(4, activation="sigmoid"), L.Reshape((4,))), "sigmoid"),
    "functional": (lambda: functional(L.Dense(3, activation="softmax")), "softmax"),
    "ops_softmax": (lambda: functional(lambda x: keras.ops.softmax(L.Dense(3)(x))), "softmax"),
    "ops_sigmoid": (lambda: functional(lambda x: keras.ops.sigmoid(L.Dense(3)(x))), "sigmoid"),
    "nested_softmax": (lambda: nested("softmax"), "softmax"),
    "nested_linear": (lambda: nested(None), "linear"),
    "model_in_sequential": (lambda: keras.Sequential([nested("sigmoid")]), "sigmoid"),
}
MEASURED = {
    "subclassed_linear": (lambda: Own(lambda x: x), "linear"),
    "subclassed_softmax": (lambda: Own(keras.ops.softmax), "softmax"),
    "subclassed_sigmoid": (lambda: Own(keras.ops.sigmoid), "sigmoid"),
    "subclassed_one_sigmoid": (lambda: Own(keras.ops.sigmoid, 1), "sigmoid"),
    "subclassed_small_logits": (lambda: Own(lambda x: x * 0.1), "linear"),
    "subclassed_zero": (lambda: Own(lambda x: x * 0.0), "linear"),
    "scaled_softmax": (
        lambda: sequential(L.Dense(3, activation="softmax"), L.Rescaling(0.5)),
        "sigmoid",
    ),
    "tensorflows_softmax": (lambda: sequential(L.Dense(3, activation=tf.nn.softmax)), "softmax"),
    "lambda_sigmoid": (
        lambda: sequential(L.Dense(3, activation=lambda x: 1.0 / (1.0 + keras.ops.exp(-x)))),
        "sigmoid",
    ),
    "lambda_one_sigmoid": (
        lambda: sequential(L.Dense(1), L.Activation(lambda x: SIGMOID(x))),
        "sigmoid",
    ),
    "lambda_scale": (lambda: sequential(L.Dense(3, activation=lambda x: 2.0 * x)), "linear"),
    "same_name_other_function": (lambda: sequential(L.Dense(3, activation=softmax)), "linear"),
    "constant_logit": (lambda: Constant(0.2, 1), "linear"),
    "constant_logits": (lambda: Constant(0.2), "linear"),
    "constant_logits_that_sum_to_one": (lambda: Constant(1 / 3), "linear"),
    "constant_logit_made_first": (lambda: Constant(0.2, 1, early=True), "linear"),
    "constant_sigmoid": (lambda: Constant(0.2, 1, keras.ops.sigmoid), "sigmoid"),
    "constant_sigmoids": (lambda: Constant(0.2, 3, keras.ops.sigmoid), "sigmoid"),
    "constant_softmax": (lambda: Constant(0.2, 3, keras.ops.softmax), "softmax"),
    "batch_norm_last": (lambda: sequential(L.Dense(3), L.BatchNormalization()), "linear"),
}


@pytest.mark.parametrize("name", SEEN)
def test_read_off_the_model(name):
    make, expected = SEEN[name]
    model = make()
    if not model.built:
        model.build((None, 8, 8, 3))
    end = outputs.ending(model, X)
    assert (end.activation, end.seen) == (expected, True)
    assert end.logits == (expected not in ("softmax", "sigmoid"))


@pytest.mark.parametrize("name", MEASURED)
def test_measured(name):
    make, expected = MEASURED[name]
    model = make()
    model(X[:1])
    end = outputs.ending(model, X)
    assert (end.activation, end.seen) == (expected, False)


def test_measuring_leaves_the_model_alone():
    """Batch statistics and dropout seeds stay; a step in training mode does change them."""

    class Noisy(Own):
        def call(self, x, training=None):
            return super().call(x, training=True)  # even a model that always trains

    model = Noisy(keras.ops.softmax)
    model(X[:1])
    before = [np.array(v.value) for v in model.variables]
    run(model, X)
    outputs.measure(model, X)
    for old, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, np.array(variable.value))
    model(X)
    changed = [
        not np.array_equal(o, np.array(v.value))
        for o, v in zip(before, model.variables, strict=True)
    ]
    assert any(changed)


def test_kerass_own_records_are_where_we_look():
    """Fails when Keras renames `_keras_history` or `_inbound_nodes`."""
    image = keras.Input((4, 4, 1))
    layer = L.Flatten()
    out = layer(image)
    operation, inputs = _graph.producer(out)
    assert operation is layer and len(inputs) == 1 and inputs[0] is image
