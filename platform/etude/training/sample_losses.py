"""The loss of every sample by itself, by which trials are told apart."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from etude.data.resident import as_input


class SampleLosses:
    """Computes the loss of single samples.

    The loss is called with one sample at a time, so that any loss will do, whatever it makes its
    mean over. Penalties on weights are not in it.

    Args:
        model: Takes a batch of inputs.
        loss: As it may be compiled: a Keras loss, its name, or a function of labels and outputs.
    """

    def __init__(self, model: Any, loss: Any) -> None:
        self.model = model
        self.loss = keras.losses.get(loss) if isinstance(loss, str) else loss
        self._each = tf.function(self._of_batch, reduce_retracing=True)

    @staticmethod
    def able(model: Any, loss: Any) -> bool:
        """Whether a sample's loss can be told: by one loss that is a function of labels."""
        own = type(model).compute_loss is not keras.Model.compute_loss
        return not own and (isinstance(loss, str) or callable(loss))

    def of(self, batches: Any) -> np.ndarray[Any, Any]:
        """Losses of all samples of a `tf.data.Dataset` of batches `(x, y[, weight])`.

        Returns:
            `(samples,)` float64.
        """
        found = [self._each(*parts).numpy() for parts in batches]
        return np.concatenate(found).astype(np.float64) if found else np.zeros(0)

    def _of_batch(self, x: Any, y: Any, weight: Any = None) -> Any:
        outputs = self.model(as_input(x), training=False)
        parts = (y, outputs) if weight is None else (y, outputs, weight)
        return tf.map_fn(
            lambda one: ops.cast(self._of_sample(*(part[None] for part in one)), "float32"),
            parts,
            fn_output_signature=tf.float32,
        )

    def _of_sample(self, y: Any, output: Any, weight: Any = None) -> Any:
        if isinstance(self.loss, keras.losses.Loss):
            return self.loss(y, output, sample_weight=weight)
        values = self.loss(y, output)
        if weight is not None:
            values = values * ops.cast(ops.reshape(weight, (-1,)), values.dtype)
        return ops.mean(values)
