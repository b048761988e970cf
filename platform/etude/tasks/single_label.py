"""Single-label classification: one of several classes per image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from etude.errors import DataError
from etude.tasks import _labels
from etude.tasks._base import Evidence, Task
from etude.tasks._labels import Array

if TYPE_CHECKING:
    import keras

NEEDS = (
    "integer labels 0..C-1 of shape () or (1,), or rows (C,) that sum to 1, with outputs (C,), "
    "C > 1"
)
_TOLERANCE = 1e-3


def sum_to_one(labels: Array) -> Array:
    """Which rows of `(samples, classes)` are distributions, `(samples,)` bool."""
    rows = labels.astype(np.float64)
    return np.asarray((np.abs(rows.sum(axis=-1) - 1.0) <= _TOLERANCE) & (rows >= 0).all(axis=-1))


class SingleLabel(Task):
    """One of C classes: integers, one-hot rows, or soft rows that sum to 1.

    The monitor is accuracy.
    """

    name = "single_label"
    monitor = "accuracy"
    mode = "max"

    @classmethod
    def fits(cls, evidence: Evidence) -> bool:
        """Whether labels and outputs have this task's shapes."""
        output, label = evidence.output_shape, evidence.label_shape
        if len(output) != 1 or output[0] is None or output[0] < 2:
            return False
        if label in ((), (1,)):
            return True
        if len(label) != 1 or evidence.labels.dtype.kind not in "iufb":
            return False
        if evidence.activation == "sigmoid" or evidence.loss == "binary":
            return False
        return evidence.activation == "softmax" or bool(sum_to_one(evidence.labels).all())

    @classmethod
    def check(cls, evidence: Evidence) -> None:
        """As `Task.check`."""
        _labels.check_ignore(cls.name, evidence.ignore)
        output, label = evidence.output_shape, evidence.label_shape
        wide = len(output) == 1 and output[0] is not None and output[0] > 1
        if wide and len(label) == 1 and label not in ((1,), output):
            raise DataError(
                "The labels' rows and the model's outputs differ in width.",
                required=f"rows of {output[0]} classes, as the model has outputs",
                received=f"labels of shape {label}",
                advice=f"give the model {label[0]} outputs, or mend the labels",
            )
        if not wide or label not in ((), (1,), output):
            raise _labels.no_room(
                cls.name, NEEDS, _labels.shape_text(label), _labels.shape_text(output)
            )

    @property
    def sparse(self) -> bool:
        """Whether labels are class numbers."""
        return self.evidence.label_shape in ((), (1,))

    def check_labels(self, labels: Array, first: int, where: str) -> None:
        """As `Task.check_labels`."""
        if self.sparse:
            advice = (
                f"number the classes from 0, or give the model as many outputs as there are "
                f"classes (it has {self.classes()})"
            )
            _labels.check_whole(labels, first, where, self.classes(), advice)
            return
        _labels.check_numeric(labels, first, where)
        hit = _labels.first_bad(~sum_to_one(labels))
        if hit is None:
            return
        row = labels[hit[0]]
        shown = np.array2string(row, threshold=12, max_line_width=200)
        multi = bool(np.isin(row, (0, 1)).all())
        raise DataError(
            f"A label row of the {where} data is no distribution over the classes.",
            required="rows of numbers from 0 to 1 that sum to 1 (one class per image)",
            received=f"{shown} (sum {float(row.sum()):g}) in sample {first + hit[0]} of {where}",
            advice=(
                "when an image can have several classes or none, end the model with a sigmoid "
                "or without activation and pass task='multi_label'"
                if multi
                else "divide each row by its sum, or mend the labels"
            ),
        )

    def loss(self) -> keras.losses.Loss:
        """Cross-entropy, sparse for class numbers."""
        import keras

        if self.sparse:
            return keras.losses.SparseCategoricalCrossentropy(from_logits=self.evidence.logits)
        return keras.losses.CategoricalCrossentropy(from_logits=self.evidence.logits)

    def metrics(self) -> list[keras.metrics.Metric]:
        """Accuracy."""
        import keras

        if self.sparse:
            return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]
        return [keras.metrics.CategoricalAccuracy(name="accuracy")]

    def soften(self, labels: Any, amount: float) -> Any:
        """As `Task.soften`, `(batch, classes)`."""
        from keras import ops

        classes = self.classes()
        if self.sparse:
            numbers = ops.reshape(ops.cast(labels, "int32"), (-1,))
            targets = ops.one_hot(numbers, classes, dtype="float32")
        else:
            targets = ops.cast(ops.convert_to_tensor(labels), "float32")
        return targets * (1.0 - amount) + amount / classes

    def soft_loss(self) -> keras.losses.Loss:
        """As `Task.soft_loss`."""
        import keras

        return keras.losses.CategoricalCrossentropy(from_logits=self.evidence.logits)

    def classes(self) -> int:
        """The number of classes."""
        count = self.evidence.output_shape[0]
        assert count is not None  # `check` saw to it
        return count

    def _numbers(self, labels: Array) -> Array:
        labels = np.asarray(labels)
        chosen = labels.reshape(-1) if self.sparse else labels.argmax(axis=-1)
        return chosen.astype(np.int64)

    def counts(self, labels: Array) -> Array:
        """Samples of each class; a soft row counts for its greatest entry."""
        return _labels.histogram(self._numbers(labels), self.classes())

    def strata(self, labels: Array) -> Array:
        """The class."""
        return self._numbers(labels)

    def class_weights(self, labels: Any, weights: Mapping[int, float]) -> Any:
        """`(batch,)`: the weight of each sample's class; soft rows get the weighted mean."""
        from keras import ops

        table = ops.convert_to_tensor(_labels.weight_table(weights, self.classes()))
        if self.sparse:
            return ops.take(table, ops.reshape(ops.cast(labels, "int32"), (-1,)), axis=0)
        return ops.sum(ops.cast(labels, "float32") * table, axis=-1)

    def decode(self, outputs: Array) -> Array:
        """The class with the greatest output, as a number or a one-hot row like the labels."""
        numbers = np.asarray(outputs).argmax(axis=-1)
        if self.sparse:
            column = self.evidence.label_shape == (1,)
            return numbers.reshape((-1, 1) if column else -1).astype(self.evidence.label_dtype)
        return np.eye(self.classes())[numbers].astype(self.evidence.label_dtype)
