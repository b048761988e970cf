"""Gradients of single samples: what scores are meant to tell without computing them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from etude.data.resident import as_input

Floats = npt.NDArray[np.float64]


class SampleGradients:
    """The norm of each sample's gradient, and mean gradients of weighted samples.

    Layers are in inference mode: batch normalization would make a sample's gradient depend on who
    else is in the batch.

    Args:
        model: Takes a batch of inputs.
        loss: A Keras loss, its name, or a function of labels and outputs.
    """

    def __init__(self, model: Any, loss: Any) -> None:
        self.model = model
        self.loss = keras.losses.get(loss) if isinstance(loss, str) else loss
        self._gradient = tf.function(self._of_batch, reduce_retracing=True)
        self._norm = tf.function(self._norm_of, reduce_retracing=True)

    def norms(self, x: Any, y: Any) -> Floats:
        """The norm of the gradient of each sample's loss, `(samples,)`, one sample at a time."""
        pairs = zip(tf.convert_to_tensor(x), tf.convert_to_tensor(y), strict=True)
        return np.asarray([float(self._norm(a[None], b[None])) for a, b in pairs])

    def mean(self, x: Any, y: Any, weights: Any, batch: int = 256) -> Floats:
        """The mean of weighted gradients, all weights' in one vector, float64."""
        total: Any = 0.0
        for start in range(0, len(x), batch):
            part = slice(start, start + batch)
            found = self._gradient(x[part], y[part], tf.cast(weights[part], tf.float32))
            total = total + found.numpy().astype(np.float64)
        return np.asarray(total / len(x))

    def _of_batch(self, x: Any, y: Any, weights: Any) -> Any:
        """The sum of weighted gradients."""
        variables = [v.value for v in self.model.trainable_variables]
        with tf.GradientTape() as tape:
            outputs = self.model(as_input(x), training=False)
            count = tf.cast(tf.shape(weights)[0], tf.float32)
            value = count * self.loss(y, outputs, sample_weight=weights)
        found = tape.gradient(value, variables)
        return tf.concat([tf.reshape(part, [-1]) for part in found if part is not None], axis=0)

    def _norm_of(self, x: Any, y: Any) -> Any:
        return tf.norm(self._of_batch(x, y, tf.ones((1,))))
