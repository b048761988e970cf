"""The loss and the metrics of depth, over the pixels whose depth is known.

A depth is known where the label is finite, above 0 and not the one that is ignored. Labels are
`(batch, height, width[, 1])` of any number type, outputs `(batch, height, width, 1)`; all is
computed in float32, and summed up in float64 where sums are of a whole set.
"""

from __future__ import annotations

from typing import Any, ClassVar

import keras
from keras import ops

from etude.tasks._masked import align

LEAST = 1e-6
"""Predictions below it count as it in ratios and logarithms, which others do not have."""


def split(y_true: Any, ignore_class: int | None = None) -> tuple[Any, Any]:
    """Labels `(batch, height, width)` float32, 1 where they are not known; and where they are.

    The ones keep logarithms and ratios of what does not count finite, and so their gradients.
    """
    labels = ops.convert_to_tensor(y_true)
    labels = labels[..., 0] if len(labels.shape) == 4 else labels
    labels = ops.cast(labels, "float32")
    valid = ops.logical_and(ops.isfinite(labels), labels > 0.0)
    if ignore_class is not None:
        valid = ops.logical_and(valid, ops.not_equal(labels, float(ignore_class)))
    return ops.where(valid, labels, 1.0), valid


def _depths(y_pred: Any) -> Any:
    """Outputs as `(batch, height, width)` float32."""
    outputs = ops.cast(ops.convert_to_tensor(y_pred), "float32")
    return outputs[..., 0] if len(outputs.shape) == 4 else outputs


def absolute_errors(y_true: Any, y_pred: Any, ignore_class: int | None = None) -> Any:
    """Absolute errors by pixel, of which the mean is the loss of a sample.

    Args:
        y_true: `(batch, height, width[, 1])`.
        y_pred: `(batch, height, width, 1)`.
        ignore_class: A label that counts for nothing, besides those that are no depths.

    Returns:
        `(batch, height, width)` float32: errors times all pixels over those that count, so that a
        mean over the sample is that over its pixels that count; 0, with a gradient of 0, elsewhere.
        A sample in which none counts is 0 throughout.
    """
    labels, valid = split(y_true, ignore_class)
    # The error itself is replaced, not multiplied by 0: what is not finite would go through.
    errors = ops.abs(ops.where(valid, _depths(y_pred) - labels, 0.0))
    known = ops.cast(valid, "float32")
    counted = ops.sum(known, axis=(1, 2), keepdims=True)
    pixels = ops.cast(ops.prod(ops.shape(known)[1:]), "float32")
    return errors * (pixels / ops.maximum(counted, 1.0))


@keras.saving.register_keras_serializable(package="etude")
class MaskedDepthError(keras.losses.Loss):
    """Mean absolute error of depth, over the pixels of a sample whose depth is known.

    The loss of a batch is the mean over its samples, each of which counts alike however many of
    its pixels do; it is in the unit of the labels. Weights are those of samples, `(batch,)`, or of
    pixels, `(batch, height, width)`.

    Args:
        ignore_class: A label that counts for nothing, besides those that are no depths.
    """

    def __init__(
        self,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.ignore_class = ignore_class

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        if sample_weight is not None:
            sample_weight = align(sample_weight, 3, self.dtype)
        return super().__call__(y_true, y_pred, sample_weight=sample_weight)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return absolute_errors(y_true, y_pred, self.ignore_class)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "ignore_class": self.ignore_class}


class _OverPixels(keras.metrics.Metric):  # type: ignore[misc, unused-ignore]
    """A weighted mean over all pixels of all batches whose depth is known.

    Args:
        ignore_class: As of `MaskedDepthError`.
        name: What it is called in the logs.
        dtype: Of the sums; `None` takes float64, in which pixels of large sets are counted exactly.
    """

    called: ClassVar[str]
    direction: ClassVar[str]

    def __init__(
        self, ignore_class: int | None = None, name: str | None = None, dtype: Any = None
    ) -> None:
        super().__init__(name=name or self.called, dtype=dtype or "float64")
        self._direction = self.direction
        self.ignore_class = ignore_class
        zeros = keras.initializers.Zeros()
        self.total = self.add_variable((), zeros, dtype=self.dtype, name="total")
        self.count = self.add_variable((), zeros, dtype=self.dtype, name="count")

    def of_pixels(self, true: Any, predicted: Any) -> Any:
        """What the mean is of, of depths `(batch, height, width)` float32."""
        raise NotImplementedError

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch; weights are `(batch,)` or `(batch, height, width)`."""
        true, valid = split(y_true, self.ignore_class)
        values = ops.where(valid, self.of_pixels(true, _depths(y_pred)), 0.0)
        weight = ops.cast(valid, "float32")
        if sample_weight is not None:
            weight = weight * align(sample_weight, 3, "float32")
        kind = self.dtype
        self.total.assign_add(ops.sum(ops.cast(values * weight, kind)))
        self.count.assign_add(ops.sum(ops.cast(weight, kind)))

    def result(self) -> Any:
        """The mean; 0 where nothing counted."""
        return ops.divide_no_nan(self.total.value, self.count.value)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "dtype": self.dtype, "ignore_class": self.ignore_class}


@keras.saving.register_keras_serializable(package="etude")
class DepthAccuracy(_OverPixels):
    """Share of pixels with max(d/d*, d*/d) < 1.25ᵏ (Ladický, Shi & Pollefeys 2014).

    Predictions below `LEAST`, zeros and negative ones among them, count as `LEAST`.

    Args:
        power: k; the metric is called `delta_k`.
    """

    called = "delta"
    direction = "up"

    def __init__(
        self,
        power: int = 1,
        ignore_class: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(ignore_class, name or f"delta_{power}", dtype)
        self.power = power

    def of_pixels(self, true: Any, predicted: Any) -> Any:
        predicted = ops.maximum(predicted, LEAST)
        ratio = ops.maximum(true / predicted, predicted / true)
        return ops.cast(ratio < 1.25**self.power, "float32")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "power": self.power}


@keras.saving.register_keras_serializable(package="etude")
class AbsoluteRelativeError(_OverPixels):
    """The mean of |d - d*| / d*, with d* the label."""

    called = "abs_rel"
    direction = "down"

    def of_pixels(self, true: Any, predicted: Any) -> Any:
        return ops.abs(predicted - true) / true


@keras.saving.register_keras_serializable(package="etude")
class RootMeanSquareDepth(_OverPixels):
    """The root of the mean of (d - d*)², in the unit of the labels."""

    called = "rmse"
    direction = "down"

    def of_pixels(self, true: Any, predicted: Any) -> Any:
        return ops.square(predicted - true)

    def result(self) -> Any:
        """The root of the mean over all pixels so far."""
        return ops.sqrt(super().result())


@keras.saving.register_keras_serializable(package="etude")
class RootMeanSquareLogDepth(RootMeanSquareDepth):
    """The root of the mean of (ln d - ln d*)² (Eigen, Puhrsch & Fergus 2014).

    Predictions below `LEAST`, zeros and negative ones among them, count as `LEAST`.
    """

    called = "rmse_log"

    def of_pixels(self, true: Any, predicted: Any) -> Any:
        return ops.square(ops.log(ops.maximum(predicted, LEAST)) - ops.log(true))
