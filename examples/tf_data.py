"""A `tf.data.Dataset` as the training data.

python examples/tf_data.py [--quick]
"""

from __future__ import annotations

import sys

import tensorflow as tf

import etude
from etude.data import fashion_mnist


def main(quick: bool) -> None:
    """Trains on one dataset and validates on another."""
    (x, y), (x_test, y_test) = fashion_mnist.load()
    samples, held_out = (400, 100) if quick else (10000, 2500)
    train = tf.data.Dataset.from_tensor_slices((x[:samples], y[:samples]))
    # Datasets may be batched or not; Étude shuffles and batches as it trains.
    train = train.map(lambda image, label: (tf.cast(image, tf.float32), label)).batch(100)
    validation = tf.data.Dataset.from_tensor_slices((x_test[:held_out], y_test[:held_out]))

    model = etude.models.small_cnn((28, 28, 1), classes=10, seed=0)
    report = etude.fit(model, train, validation.batch(100), epochs=1 if quick else 5)
    report.summary()


if __name__ == "__main__":
    main("--quick" in sys.argv)
