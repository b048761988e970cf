"""Weights after 20 steps: the Trainer with the default recipe against plain Keras `fit`."""

from __future__ import annotations

from typing import Any

from _common import finish, parser

import keras  # isort: skip
import numpy as np
from keras import layers

import etude


def sequential() -> Any:
    """A Sequential model with batch normalization, dropout and L2."""
    return keras.Sequential(
        [
            layers.Input((32, 32, 3)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(16, 3, kernel_regularizer="l2"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Dropout(0.3),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )


def functional() -> Any:
    """ResNet-9 of width 8."""
    return etude.models.build("resnet9", (32, 32, 3), 10, width=8)


class Subclassed(keras.Model):  # type: ignore[misc, unused-ignore]
    """A subclassed model, built by its first batch."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = sequential()

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Logits."""
        return self.inner(inputs, training=training)


def weights(make: Any, wrapped: bool, steps: int) -> list[Any]:
    """All variables after so many steps of batch 64, everything seeded."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (64 * steps, 32, 32, 3)).astype("float32")
    y = rng.integers(0, 10, len(x))
    keras.utils.set_random_seed(1)
    model = make()
    trained = etude.Trainer(model) if wrapped else model
    trained.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    keras.utils.set_random_seed(2)
    trained.fit(x, y, batch_size=64, verbose=0)
    return [keras.ops.convert_to_numpy(v).astype("float64") for v in model.variables]


def main() -> None:
    """Prints the largest difference per kind of model."""
    options = parser(__doc__).parse_args()
    steps = 3 if options.quick else 20
    found = {}
    for make in (functional, sequential, Subclassed):
        plain, ours = weights(make, False, steps), weights(make, True, steps)
        found[make.__name__] = max(
            float(np.abs(a - b).max()) for a, b in zip(plain, ours, strict=True)
        )
        print(f"{make.__name__:12s} largest difference after {steps} steps: {found[make.__name__]}")
    finish("parity", steps=steps, difference=found, reached=max(found.values()) == 0.0)


if __name__ == "__main__":
    main()
