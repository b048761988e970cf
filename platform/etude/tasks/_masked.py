"""Losses and metrics that leave pixels out or weigh them, where Keras' own cannot.

Keras' `ignore_class` serves integer masks with one output channel per class. Binary masks
(one output channel) and one-hot masks (an ignored pixel is a row of zeros) are served here.
Keras averages binary cross-entropy over the last axis, which for labels `(batch, height,
width)` is the width, and for outputs `(batch,)` the batch: weights then meet the wrong axis.
So do weights `(batch,)` on the losses `(batch, height, width)` of all masks: NumPy's rule
lines them up with the width.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
from keras import ops


def align(sample_weight: Any, rank: int, dtype: Any = None) -> Any:
    """Weights with axes of length 1 behind theirs, so that each is that of a whole sample.

    Args:
        sample_weight: `(batch, ...)`; of an axis too many, which has length 1, they are rid.
        rank: Axes of what they weigh.
        dtype: What to cast them to; `None` leaves it.
    """
    weight = ops.convert_to_tensor(sample_weight)
    if dtype is not None:
        weight = ops.cast(weight, dtype)
    if len(weight.shape) == rank + 1 and weight.shape[-1] == 1:
        weight = ops.squeeze(weight, -1)
    while len(weight.shape) < rank:
        weight = ops.expand_dims(weight, -1)
    return weight


class _MaskedLoss(keras.losses.Loss):
    """A mean over the pixels that count. Subclasses say which ones do.

    Per-sample weights `(batch,)` and per-pixel weights `(batch, height, width)` are both
    taken; the divisor is the number of pixels that count, as with Keras' `ignore_class`.
    """

    def __init__(
        self,
        from_logits: bool = False,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.from_logits = from_logits

    def split(self, y_true: Any) -> tuple[Any, Any]:
        """Labels without ignored values, and a float mask `(batch, height, width)`; `None`
        where all pixels count."""
        raise NotImplementedError

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        labels, valid = self.split(ops.cast(ops.convert_to_tensor(y_true), self.dtype))
        weight = valid
        if valid is not None and self.reduction in ("sum_over_batch_size", "mean"):
            total = ops.cast(ops.size(valid), valid.dtype)
            weight = weight * ops.divide_no_nan(total, ops.sum(valid))
        if sample_weight is not None:
            extra = align(sample_weight, len(labels.shape) - 1, self.dtype)
            weight = extra if weight is None else weight * extra
        return super().__call__(labels, y_pred, sample_weight=weight)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "from_logits": self.from_logits}


@keras.saving.register_keras_serializable(package="etude")
class MaskedBinaryCrossentropy(_MaskedLoss):
    """Binary cross-entropy over the pixels whose label is not `ignore_class`.

    Args:
        ignore_class: The label that counts for nothing, or `None`.
        from_logits: Whether outputs are logits.

    Labels are `(batch, height, width[, 1])`, outputs `(batch, height, width, 1)`.
    """

    def __init__(self, ignore_class: int | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.ignore_class = ignore_class

    def split(self, y_true: Any) -> tuple[Any, Any]:
        labels = y_true if len(y_true.shape) == 4 else y_true[..., None]
        if self.ignore_class is None:
            return labels, None
        valid = ops.not_equal(labels, float(self.ignore_class))
        return ops.where(valid, labels, 0.0), ops.cast(valid[..., 0], labels.dtype)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return keras.losses.binary_crossentropy(y_true, y_pred, from_logits=self.from_logits)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "ignore_class": self.ignore_class}


@keras.saving.register_keras_serializable(package="etude")
class MaskedSparseCategoricalCrossentropy(keras.losses.SparseCategoricalCrossentropy):
    """Keras' own, to the bit, which on masks takes weights `(batch,)` as well.

    Labels are `(batch, height, width[, 1])`, outputs `(batch, height, width, classes)`.
    """

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        if sample_weight is not None:
            sample_weight = align(sample_weight, len(y_pred.shape) - 1)
        return super().__call__(y_true, y_pred, sample_weight=sample_weight)


@keras.saving.register_keras_serializable(package="etude")
class ScalarBinaryCrossentropy(keras.losses.BinaryCrossentropy):
    """Keras' binary cross-entropy for outputs `(batch,)`, which takes weights `(batch,)`."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return super().call(ops.reshape(y_true, (-1, 1)), ops.reshape(y_pred, (-1, 1)))


@keras.saving.register_keras_serializable(package="etude")
class MaskedCategoricalCrossentropy(_MaskedLoss):
    """Cross-entropy over the pixels whose target row is not all zeros.

    Args:
        from_logits: Whether outputs are logits.

    Labels and outputs are `(batch, height, width, classes)`.
    """

    def split(self, y_true: Any) -> tuple[Any, Any]:
        return y_true, ops.cast(ops.sum(y_true, axis=-1) > 0.0, y_true.dtype)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return keras.losses.categorical_crossentropy(y_true, y_pred, from_logits=self.from_logits)


@dataclasses.dataclass(frozen=True)
class Pixels:
    """How labels and outputs become classes of pixels.

    Attributes:
        one_hot: Whether labels are one-hot; a row of zeros does not count.
        threshold: Outputs above it are class 1, for one output channel; `None` takes the
            class with the greatest output.
        ignore_class: The label that counts for nothing.
    """

    one_hot: bool = False
    threshold: float | None = None
    ignore_class: int | None = None


def _pixels(y_true: Any, y_pred: Any, how: Pixels) -> tuple[Any, Any, Any]:
    """True class, predicted class and whether the pixel counts, `(batch, height, width)`."""
    y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
    if how.threshold is None:
        predicted = ops.cast(ops.argmax(y_pred, axis=-1), "int32")
    else:
        predicted = ops.cast(y_pred[..., 0] > how.threshold, "int32")
    if how.one_hot:
        valid = ops.sum(ops.cast(y_true, "float32"), axis=-1) > 0.0
        return ops.cast(ops.argmax(y_true, axis=-1), "int32"), predicted, valid
    labels = ops.cast(y_true if len(y_true.shape) == 3 else y_true[..., 0], "int32")
    valid = ops.ones_like(labels, dtype="bool")
    if how.ignore_class is not None:
        valid = ops.not_equal(labels, how.ignore_class)
    return labels, predicted, valid


def _weights(valid: Any, sample_weight: Any) -> Any:
    """The pixels' weights as float32, a sample's weight being that of its pixels."""
    weights = ops.cast(valid, "float32")
    if sample_weight is None:
        return weights
    return weights * align(sample_weight, len(weights.shape), "float32")


@keras.saving.register_keras_serializable(package="etude")
class MaskedPixelAccuracy(keras.metrics.Mean):
    """Share of the pixels that count whose class is predicted; arguments as in `Pixels`."""

    def __init__(
        self,
        one_hot: bool = False,
        threshold: float | None = None,
        ignore_class: int | None = None,
        name: str = "accuracy",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self._direction = "up"
        self.how = Pixels(one_hot, threshold, ignore_class)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        true, predicted, valid = _pixels(y_true, y_pred, self.how)
        hit = ops.cast(ops.equal(true, predicted), "float32")
        super().update_state(hit, sample_weight=_weights(valid, sample_weight))

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "dtype": self.dtype, **dataclasses.asdict(self.how)}


@keras.saving.register_keras_serializable(package="etude")
class MaskedMeanIoU(keras.metrics.MeanIoU):
    """Keras' mean intersection over union, over the pixels that count.

    Args:
        num_classes: Number of classes, 2 for one output channel.
        dtype: Of the table of counts. Keras' own is int32, in which weights lose their
            fraction; `None` takes float64, which counts pixels exactly as well.

    The other arguments are as in `Pixels`.
    """

    def __init__(
        self,
        num_classes: int,
        one_hot: bool = False,
        threshold: float | None = None,
        ignore_class: int | None = None,
        name: str = "mean_iou",
        dtype: Any = None,
    ) -> None:
        super().__init__(num_classes=num_classes, name=name, dtype=dtype or "float64")
        self.how = Pixels(one_hot, threshold, ignore_class)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        true, predicted, valid = _pixels(y_true, y_pred, self.how)
        weights = None if sample_weight is None else _weights(valid, sample_weight)
        # Classes below 0 lie outside the confusion matrix: Keras leaves them out.
        return super().update_state(ops.where(valid, true, -1), predicted, weights)

    def get_config(self) -> dict[str, Any]:
        own = {"num_classes": self.num_classes, "name": self.name, "dtype": self.dtype}
        return {**own, **dataclasses.asdict(self.how)}
