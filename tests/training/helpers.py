"""Small models and data for the tests of this folder."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

from etude.problem import Problem

CLASSES = 4


def images(count: int = 160, seed: int = 0) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Images whose class is their brightest quadrant, with noise: learnable in seconds."""
    rng = np.random.default_rng(seed)
    y = np.arange(count) % CLASSES
    x = rng.integers(0, 100, (count, 8, 8, 1))
    for i, label in enumerate(y):
        row, column = divmod(int(label), 2)
        x[i, row * 4 : row * 4 + 4, column * 4 : column * 4 + 4] += 80
    return x.astype(np.uint8), y


def sequential(seed: int = 1) -> keras.Model:
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            layers.Input((8, 8, 1)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(6, 3, kernel_regularizer="l2"),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
            layers.Dropout(0.2),
            layers.Flatten(),
            layers.Dense(CLASSES),
        ]
    )


def functional(seed: int = 1) -> keras.Model:
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((8, 8, 1))
    x = layers.Rescaling(1 / 255)(inputs)
    x = layers.Conv2D(6, 3, activation="relu")(x)
    x = layers.BatchNormalization(momentum=0.9)(x)
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, layers.Dense(CLASSES)(x))


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):  # type: ignore[misc, unused-ignore]
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.convolution = layers.Conv2D(6, 3)
        self.normalization = layers.BatchNormalization(momentum=0.9)
        self.dropout = layers.Dropout(0.2)
        self.head = layers.Dense(CLASSES)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        x = self.convolution(keras.ops.cast(inputs, "float32") / 255.0)
        x = keras.ops.relu(self.normalization(x, training=training))
        x = self.dropout(keras.ops.mean(x, axis=(1, 2)), training=training)
        return self.head(x)


def subclassed(seed: int = 1) -> keras.Model:
    keras.utils.set_random_seed(seed)
    return Subclassed()


MODELS = {"sequential": sequential, "functional": functional, "subclassed": subclassed}


def loss() -> keras.losses.Loss:
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def problem(model: keras.Model | None = None, count: int = 160, **options: Any) -> Problem:
    return Problem.inspect(model or sequential(), images(count), **options)


def weights(model: keras.Model) -> list[np.ndarray[Any, Any]]:
    return [np.array(keras.ops.convert_to_numpy(v)) for v in model.variables]


def difference(first: list[np.ndarray[Any, Any]], second: list[np.ndarray[Any, Any]]) -> float:
    """The largest absolute difference between two models' weights."""
    assert len(first) == len(second)
    return max(
        float(np.max(np.abs(a.astype("float64") - b.astype("float64"))))
        for a, b in zip(first, second, strict=True)
    )
