"""A drop-in wrapper for people who call `fit` themselves.

python examples/wrapper_trainer.py [--quick]
"""

from __future__ import annotations

import sys

import keras

import etude
from etude.data import fashion_mnist


def main(quick: bool) -> None:
    """Trains by a recipe of one's own, with Keras' `compile`, `fit` and `evaluate`."""
    (x_train, y_train), (x_test, y_test) = fashion_mnist.load()
    if quick:
        x_train, y_train = x_train[:500], y_train[:500]

    model = etude.models.small_cnn((28, 28, 1), classes=10, seed=0)
    recipe = etude.Recipe().give(regularization={"clip_norm": 1.0, "ema_decay": 0.99})
    trainer = etude.Trainer(model, recipe)
    trainer.compile(
        optimizer="adam",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    trainer.fit(x_train, y_train, batch_size=64, epochs=1 if quick else 5, verbose=2)
    print(trainer.evaluate(x_test[:500], y_test[:500], return_dict=True, verbose=0))
    # The model that was passed in is the one that is trained.
    print(model.predict(x_test[:1], verbose=0).shape)


if __name__ == "__main__":
    main("--quick" in sys.argv)
