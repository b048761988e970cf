"""Semantic segmentation: a class for every pixel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from etude.errors import DataError, ModelError
from etude.tasks import _labels
from etude.tasks._base import Evidence, Task
from etude.tasks._labels import Array

if TYPE_CHECKING:
    import keras

_STRATA_BYTES = 16 * 2**20  # of masks looked at at once

NEEDS = "masks (h, w), (h, w, 1) or one-hot (h, w, C), with outputs (h, w, C) or, binary, (h, w, 1)"


class SemanticSegmentation(Task):
    """A class number (or a one-hot row) for every pixel; pixels can be ignored.

    An ignored pixel has the label `Evidence.ignore`, which may lie outside the classes
    (255, -1), or, in one-hot masks, a row of zeros. It has no part in loss, metrics, counts
    and weights. The monitor is the mean intersection over union of the classes.
    """

    name = "semantic_segmentation"
    monitor = "mean_iou"
    mode = "max"
    dense = True

    @classmethod
    def fits(cls, evidence: Evidence) -> bool:
        """Whether labels and outputs have this task's shapes."""
        return len(evidence.output_shape) == 3 and len(evidence.label_shape) in (2, 3)

    @classmethod
    def check(cls, evidence: Evidence) -> None:
        """As `Task.check`."""
        label, output = evidence.label_shape, evidence.output_shape
        if not cls.fits(evidence) or output[-1] is None:
            raise _labels.no_room(
                cls.name, NEEDS, _labels.shape_text(label), _labels.shape_text(output)
            )
        _labels.check_size("masks", label, evidence.image_shape, output)
        if len(label) == 3 and label[-1] not in (1, output[-1]):
            raise DataError(
                "The masks and the outputs differ in their number of classes.",
                required=f"masks with 1 or {output[-1]} channels, as the model has outputs",
                received=f"masks of shape {label}",
                advice=f"give the model {label[-1]} output channels, or pass class numbers",
            )
        if output[-1] == 1 and evidence.activation == "softmax":
            raise ModelError(
                "The model ends in a softmax over one channel, which is always 1.",
                required="a sigmoid, or no activation, on the single channel",
                received=f"softmax on outputs of shape {output}",
                advice="end the model with `Conv2D(1, 1)` or with a sigmoid",
            )

    @property
    def single(self) -> bool:
        """Whether the model has one output channel, for masks of 0 and 1."""
        return self.evidence.output_shape[-1] == 1

    @property
    def one_hot(self) -> bool:
        """Whether masks are one-hot."""
        label = self.evidence.label_shape
        return len(label) == 3 and label[-1] != 1

    @property
    def blends(self) -> bool:
        """Not where one output channel would have to say that a label is ignored."""
        return not (self.single and self.evidence.ignore is not None)

    def beyond(self) -> int | None:
        """As `Task.beyond`: a row of zeros, or the label to ignore, if there is one."""
        return 0 if self.one_hot else self.evidence.ignore

    def check_labels(self, labels: Array, first: int, where: str) -> None:
        """As `Task.check_labels`."""
        ignore = self.evidence.ignore
        if self.one_hot:
            _labels.check_numeric(labels, first, where)
            rows = labels.astype(np.float32).sum(axis=-1)
            good = (np.abs(rows - 1.0) <= 1e-3) | (rows == 0.0)
            bad = ~good | (labels < 0).any(axis=-1) if labels.dtype.kind != "b" else ~good
            required = "rows of numbers from 0 to 1 that sum to 1 (or zeros, for ignored pixels)"
            _labels.require(bad, rows, first, where, required, "mend the masks (sums are shown)")
            return
        top = labels.max(initial=0) if labels.dtype.kind in "iuf" else 1
        if self.single and top == 255:
            advice = "divide the masks by 255, so that they hold 0 and 1"
        elif self.single and labels.dtype.kind == "f":
            advice = "let masks hold 0 and 1; for depth maps pass task='depth'"
        else:
            advice = (
                f"number the classes 0..{self.classes() - 1}, give the model more output channels, "
                f"or pass ignore_label= for pixels that count for nothing"
            )
        _labels.check_whole(labels, first, where, self.classes(), advice, ignore)

    def loss(self) -> keras.losses.Loss:
        """Cross-entropy over the pixels that count."""
        if self.one_hot or self.single:
            return self.soft_loss()
        from etude.tasks._masked import MaskedSparseCategoricalCrossentropy

        evidence = self.evidence
        return MaskedSparseCategoricalCrossentropy(
            from_logits=evidence.logits, ignore_class=evidence.ignore
        )

    def _masked_binary(self) -> keras.losses.Loss:
        from etude.tasks._masked import MaskedBinaryCrossentropy

        evidence = self.evidence
        return MaskedBinaryCrossentropy(evidence.ignore, from_logits=evidence.logits)

    def metrics(self) -> list[keras.metrics.Metric]:
        """Mean intersection over union and pixel accuracy, over the pixels that count."""
        from etude.tasks._masked import MaskedMeanIoU, MaskedPixelAccuracy

        ignore = self.evidence.ignore
        threshold = (0.0 if self.evidence.logits else 0.5) if self.single else None
        iou = MaskedMeanIoU(self.classes(), self.one_hot, threshold, ignore)
        return [iou, MaskedPixelAccuracy(self.one_hot, threshold, ignore)]

    def soften(self, labels: Any, amount: float) -> Any:
        """As `Task.soften`. Ignored pixels keep a row of zeros, or, with one output channel,
        their label: `soft_loss` leaves them out."""
        from keras import ops

        labels = ops.convert_to_tensor(labels)
        if self.one_hot:
            targets = ops.cast(labels, "float32")
            valid = ops.sum(targets, axis=-1, keepdims=True) > 0.0
            return ops.where(valid, targets * (1.0 - amount) + amount / self.classes(), targets)
        pixels = labels if len(labels.shape) == 3 else labels[..., 0]
        pixels = ops.cast(pixels, "int32")
        ignore = self.evidence.ignore
        valid = ops.ones_like(pixels, dtype="bool")
        if ignore is not None:
            valid = ops.not_equal(pixels, ignore)
        if self.single:
            hard = ops.cast(pixels, "float32")
            soft = ops.where(valid, hard * (1.0 - amount) + 0.5 * amount, hard)
            return soft[..., None]
        rows = ops.one_hot(ops.where(valid, pixels, 0), self.classes(), dtype="float32")
        rows = rows * (1.0 - amount) + amount / self.classes()
        return ops.where(valid[..., None], rows, 0.0)

    def soft_loss(self) -> keras.losses.Loss:
        """As `Task.soft_loss`."""
        if self.single:
            return self._masked_binary()
        from etude.tasks._masked import MaskedCategoricalCrossentropy

        return MaskedCategoricalCrossentropy(from_logits=self.evidence.logits)

    def classes(self) -> int:
        """The number of classes."""
        channels = self.evidence.output_shape[-1]
        assert channels is not None  # `check` saw to it
        return 2 if channels == 1 else channels

    def _numbers(self, labels: Array) -> Array:
        """Class numbers `(samples, h, w)`, -1 where a pixel is ignored."""
        labels = np.asarray(labels)
        if self.one_hot:
            return np.where(labels.sum(axis=-1) > 0, labels.argmax(axis=-1), -1)
        pixels = labels[..., 0] if labels.ndim == 4 else labels
        if self.evidence.ignore is None:
            return pixels
        signed = np.result_type(pixels.dtype, np.int8)  # int16 for uint8: masks take room
        return np.where(pixels == self.evidence.ignore, signed.type(-1), pixels)

    def counts(self, labels: Array) -> Array:
        """Pixels of each class; ignored ones are left out."""
        return _labels.histogram(self._numbers(labels), self.classes())

    def _presence(self, labels: Array) -> Array:
        """Which classes each mask of a block shows, `(samples, classes)` bool."""
        pixels = self._numbers(labels).reshape(len(labels), -1)
        return np.stack([(pixels == c).any(axis=1) for c in range(self.classes())], axis=1)

    def _share(self, labels: Array) -> Array:
        """The share of class 1 in each mask of a block, `(samples,)`."""
        return (self._numbers(labels).reshape(len(labels), -1) == 1).mean(axis=1)

    def strata(self, labels: Array) -> Array:
        """The rarest class in a mask; for two classes, the quarter by share of class 1."""
        step = max(1, _STRATA_BYTES // max(1, labels[:1].nbytes))
        starts = range(0, len(labels), step)
        if self.classes() > 2:
            present = [self._presence(labels[i : i + step]) for i in starts]
            return _labels.rarest(np.concatenate(present))
        share = np.concatenate([self._share(labels[i : i + step]) for i in starts])
        quarters = np.searchsorted(np.quantile(share, [0.25, 0.5, 0.75]), share)
        return quarters.astype(np.int64)

    def class_weights(self, labels: Any, weights: Mapping[int, float]) -> Any:
        """`(batch, height, width)`; 0 where a pixel is ignored."""
        from keras import ops

        table = ops.convert_to_tensor(_labels.weight_table(weights, self.classes()))
        labels = ops.convert_to_tensor(labels)
        if self.one_hot:
            return ops.sum(ops.cast(labels, "float32") * table, axis=-1)
        pixels = ops.cast(labels if len(labels.shape) == 3 else labels[..., 0], "int32")
        if self.evidence.ignore is None:
            return ops.take(table, pixels, axis=0)
        valid = ops.not_equal(pixels, self.evidence.ignore)
        chosen = ops.take(table, ops.where(valid, pixels, 0), axis=0)
        return ops.where(valid, chosen, 0.0)

    def decode(self, outputs: Array) -> Array:
        """Masks in the labels' shape and dtype; one-hot where they are."""
        outputs = np.asarray(outputs)
        if self.single:
            numbers = (outputs[..., 0] > (0.0 if self.evidence.logits else 0.5)).astype(np.int64)
        else:
            numbers = outputs.argmax(axis=-1)
        dtype = self.evidence.label_dtype
        if self.one_hot:
            return np.eye(self.classes())[numbers].astype(dtype)
        shape = numbers.shape if len(self.evidence.label_shape) == 2 else (*numbers.shape, 1)
        return numbers.reshape(shape).astype(dtype)
