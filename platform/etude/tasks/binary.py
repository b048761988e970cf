"""Binary classification: one output, labels 0 and 1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from etude.errors import ModelError
from etude.tasks import _labels
from etude.tasks._base import Evidence, Task
from etude.tasks._labels import Array

if TYPE_CHECKING:
    import keras

_ONE = ((), (1,))
NEEDS = "labels 0 and 1 of shape () or (1,), one output of shape (1,)"


class Binary(Task):
    """Labels 0 and 1 (integers, bools or whole floats), one output per image.

    The monitor is accuracy, at the threshold that fits logits or probabilities.
    """

    name = "binary"
    monitor = "accuracy"
    mode = "max"

    @classmethod
    def fits(cls, evidence: Evidence) -> bool:
        """Whether labels and outputs have this task's shapes."""
        return evidence.label_shape in _ONE and evidence.output_shape in _ONE

    @classmethod
    def check(cls, evidence: Evidence) -> None:
        """As `Task.check`."""
        _labels.check_ignore(cls.name, evidence.ignore)
        if not cls.fits(evidence):
            raise _labels.no_room(
                cls.name,
                NEEDS,
                _labels.shape_text(evidence.label_shape),
                _labels.shape_text(evidence.output_shape),
            )
        if evidence.activation == "softmax":
            raise ModelError(
                "The model ends in a softmax over one output, which is always 1.",
                required="a sigmoid, or no activation, on the single output",
                received=f"softmax on outputs of shape {evidence.output_shape}",
                advice="end the model with `Dense(1)` or `Dense(1, activation='sigmoid')`",
            )

    def check_labels(self, labels: Array, first: int, where: str) -> None:
        """As `Task.check_labels`."""
        advice = (
            "code the two classes as 0 and 1 (for labels -1 and 1: `(y + 1) // 2`); for more "
            "classes give the model one output per class"
        )
        _labels.check_whole(labels, first, where, 2, advice)

    def loss(self) -> keras.losses.Loss:
        """Binary cross-entropy."""
        import keras

        if self.evidence.output_shape == ():
            from etude.tasks._masked import ScalarBinaryCrossentropy

            return ScalarBinaryCrossentropy(from_logits=self.evidence.logits)
        return keras.losses.BinaryCrossentropy(from_logits=self.evidence.logits)

    def metrics(self) -> list[keras.metrics.Metric]:
        """Accuracy (cut at logit 0 or probability 0.5) and area under the ROC curve."""
        import keras

        logits = self.evidence.logits
        return [
            keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0 if logits else 0.5),
            keras.metrics.AUC(name="auc", from_logits=logits),
        ]

    def soften(self, labels: Any, amount: float) -> Any:
        """As `Task.soften`: 0 and 1 move towards 0.5."""
        from keras import ops

        targets = ops.cast(ops.convert_to_tensor(labels), "float32")
        targets = ops.reshape(targets, (-1, *self.evidence.output_shape))
        return targets * (1.0 - amount) + 0.5 * amount

    def soft_loss(self) -> keras.losses.Loss:
        """As `Task.soft_loss`."""
        return self.loss()

    def classes(self) -> int:
        """Two."""
        return 2

    def counts(self, labels: Array) -> Array:
        """Samples of class 0 and of class 1."""
        return _labels.histogram(labels, 2)

    def strata(self, labels: Array) -> Array:
        """The class."""
        return np.asarray(labels).reshape(-1).astype(np.int64)

    def class_weights(self, labels: Any, weights: Mapping[int, float]) -> Any:
        """`(batch,)`: the weight of each sample's class."""
        from keras import ops

        table = ops.convert_to_tensor(_labels.weight_table(weights, 2))
        return ops.take(table, ops.reshape(ops.cast(labels, "int32"), (-1,)), axis=0)

    def decode(self, outputs: Array) -> Array:
        """Labels 0 and 1 in the labels' shape and dtype."""
        threshold = 0.0 if self.evidence.logits else 0.5
        labels = np.asarray(outputs) > threshold
        column = self.evidence.label_shape == (1,)
        return labels.reshape((-1, 1) if column else -1).astype(self.evidence.label_dtype)
