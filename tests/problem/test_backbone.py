"""What is a model's backbone, and what is not."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from etude.errors import ModelError
from etude.inspection.backbone import find


def functional(*, head: bool = True, pooled: bool = True) -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = layers.Input((8, 8, 3))
    x = layers.Conv2D(5, 3, activation="relu", name="conv")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    if pooled:
        x = layers.GlobalMaxPooling2D()(x)
    if head:
        x = layers.Rescaling(0.5)(layers.Dense(4)(x))
    return keras.Model(inputs, x)


X = np.random.default_rng(0).random((3, 8, 8, 3)).astype(np.float32)


def test_it_ends_before_the_last_dense_layer() -> None:
    model = functional()
    body = find(model)
    expected = np.asarray(model.get_layer("norm")(model.get_layer("conv")(X))).max(axis=(1, 2))
    np.testing.assert_allclose(np.asarray(body(X)), expected, rtol=1e-5)
    assert body.get_layer("conv") is model.get_layer("conv")


@pytest.mark.parametrize("pooled", [True, False])
def test_a_backbone_is_one_itself(pooled: bool) -> None:
    model = functional(head=False, pooled=pooled)
    whole = np.asarray(model(X))
    expected = whole if pooled else whole.mean(axis=(1, 2))
    np.testing.assert_allclose(np.asarray(find(model)(X)), expected, rtol=1e-5)


def test_a_layer_may_be_named() -> None:
    model = functional()
    expected = np.asarray(model.get_layer("conv")(X)).mean(axis=(1, 2))
    np.testing.assert_allclose(np.asarray(find(model, "conv")(X)), expected, rtol=1e-5)
    with pytest.raises(ModelError, match="no layer of this name"):
        find(model, "convolution")


class Subclassed(keras.Model):
    def call(self, x: Any) -> Any:
        return x


def test_without_a_graph_it_is_asked_for() -> None:
    with pytest.raises(ModelError, match="cannot be found"):
        find(Subclassed())
