"""Multi-label classification: any number of classes per image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from etude.errors import ModelError
from etude.tasks import _labels
from etude.tasks._base import Evidence, Task
from etude.tasks._labels import Array
from etude.tasks.single_label import sum_to_one

if TYPE_CHECKING:
    import keras

_ONE = ((), (1,))
NEEDS = "rows (C,) of 0 and 1, with outputs (C,), C > 1, without softmax"


class MultiLabel(Task):
    """Rows of 0 and 1, one per class, each class predicted by itself.

    The monitor is the area under the precision-recall curve, averaged over the classes:
    what the field calls mean average precision. Accuracy would be high for a model that
    predicts no class at all, since most entries are 0, and F1 would depend on a threshold
    that training does not set.
    """

    name = "multi_label"
    monitor = "auc_pr"
    mode = "max"

    @classmethod
    def fits(cls, evidence: Evidence) -> bool:
        """Whether labels and outputs have this task's shapes."""
        output, label = evidence.output_shape, evidence.label_shape
        if len(output) != 1 or output[0] is None or output[0] < 2 or len(label) != 1:
            return False
        if label == (1,) or evidence.activation == "softmax":
            return False
        if evidence.labels.dtype.kind not in "iufb":
            return False
        independent = evidence.activation == "sigmoid" or evidence.loss == "binary"
        return independent or not bool(sum_to_one(evidence.labels).all())

    @classmethod
    def check(cls, evidence: Evidence) -> None:
        """As `Task.check`."""
        _labels.check_ignore(cls.name, evidence.ignore)
        output, label = evidence.output_shape, evidence.label_shape
        if len(output) != 1 or output in _ONE or label != output:
            raise _labels.no_room(
                cls.name, NEEDS, _labels.shape_text(label), _labels.shape_text(output)
            )
        if evidence.activation == "softmax":
            raise ModelError(
                "The model ends in a softmax, whose classes exclude each other.",
                required="a sigmoid, or no activation, when an image can have several classes",
                received="softmax with task 'multi_label'",
                advice="drop the softmax (`activation=None`), or pass task='single_label'",
            )

    def check_labels(self, labels: Array, first: int, where: str) -> None:
        """As `Task.check_labels`."""
        _labels.check_whole(
            labels, first, where, 2, "code each row with 1 where the image has the class, else 0"
        )

    def loss(self) -> keras.losses.Loss:
        """Binary cross-entropy, averaged over the classes."""
        import keras

        return keras.losses.BinaryCrossentropy(from_logits=self.evidence.logits)

    def metrics(self) -> list[keras.metrics.Metric]:
        """Mean area under the precision-recall curves, and accuracy of single entries."""
        import keras

        logits = self.evidence.logits
        return [
            keras.metrics.AUC(
                name="auc_pr",
                curve="PR",
                multi_label=True,
                num_labels=self.classes(),
                from_logits=logits,
            ),
            keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0 if logits else 0.5),
        ]

    def soften(self, labels: Any, amount: float) -> Any:
        """As `Task.soften`: each entry moves towards 0.5."""
        from keras import ops

        targets = ops.cast(ops.convert_to_tensor(labels), "float32")
        return targets * (1.0 - amount) + 0.5 * amount

    def soft_loss(self) -> keras.losses.Loss:
        """As `Task.soft_loss`."""
        return self.loss()

    def classes(self) -> int:
        """The number of classes."""
        count = self.evidence.output_shape[0]
        assert count is not None  # `check` saw to it
        return count

    def counts(self, labels: Array) -> Array:
        """Samples that have each class."""
        return np.asarray(labels).astype(np.int64).sum(axis=0)

    def strata(self, labels: Array) -> Array:
        """The rarest class that a sample has."""
        return _labels.rarest(np.asarray(labels) > 0)

    def class_weights(self, labels: Any, weights: Mapping[int, float]) -> Any:
        """`(batch,)`: the mean weight of the classes an image has; 1 where it has none."""
        from keras import ops

        table = ops.convert_to_tensor(_labels.weight_table(weights, self.classes()))
        present = ops.cast(labels, "float32")
        often = ops.sum(present, axis=-1)
        mean = ops.sum(present * table, axis=-1) / ops.maximum(often, 1.0)
        return ops.where(often > 0.0, mean, 1.0)

    def decode(self, outputs: Array) -> Array:
        """Rows of 0 and 1 in the labels' dtype."""
        threshold = 0.0 if self.evidence.logits else 0.5
        return (np.asarray(outputs) > threshold).astype(self.evidence.label_dtype)
