"""Depth: a distance for every pixel."""

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

ACTIVATION = "depth"
"""What a model ends in that ends in `etude.models.disparity.DepthFromDisparity`."""

NEEDS = "depth maps (h, w) or (h, w, 1), floats of which most are no whole numbers, with outputs "
NEEDS += "(h, w, 1) that are no probabilities"
_BLOCK_BYTES = 16 * 2**20  # of maps looked at at once
_BEYOND = 0.01  # share of labels out of the model's reach that is worth a note


def known(labels: Array, ignore: int | None = None) -> Array:
    """Which pixels have a depth: finite, above 0, and not the label to ignore. Bool."""
    labels = np.asarray(labels)
    found = labels > 0
    if labels.dtype.kind == "f":
        found &= np.isfinite(labels)
    return found if ignore is None else found & (labels != ignore)


def looks_like_depth(labels: Array, ignore: int | None = None) -> bool:
    """Whether float maps can be depth alone, and no masks.

    Masks hold whole numbers, or, where they were interpolated, mostly such, or numbers from 0 to 1.
    So these are depth where most of what is above 0 is no whole number, and some of it above 1.

    Args:
        labels: `(samples, height, width[, 1])`; integers never are.
    """
    if labels.dtype.kind != "f":
        return False
    depths = labels[known(labels, ignore)]
    if not depths.size or not depths.max() > 1.0:
        return False
    return bool((depths != np.floor(depths)).mean() > 0.5)


class Depth(Task):
    """A depth for every pixel, in any unit; pixels of which it is not known are left out.

    Labels are floats, or integers such as millimetres, and are taken as floats. A label that is 0,
    negative, NaN or infinite, or `Evidence.ignore`, is no depth: it has no part in loss and
    metrics. The model has one output for each pixel, which is the depth itself in the labels' unit.

    The task is found by itself where the model ends in `DepthFromDisparity`, or where labels are
    floats that cannot be masks (`looks_like_depth`) and outputs no probabilities. Depth in whole
    numbers, or from 0 to 1, has to be named: `task="depth"`.

    The loss is the mean absolute error of each sample's known pixels. Its gradient is of one size
    whatever the error, so that scores by gradients (`upper_bound`) tell samples apart by little
    but the share of known pixels; scores by losses tell them by their errors.

    The monitor is the share of pixels within a factor of 1.25, `delta_1`. An image that is zoomed
    in keeps its depths: they move with the pixels and are not rescaled.
    """

    name = "depth"
    monitor = "delta_1"
    mode = "max"
    dense = True
    smooths = False
    measures = True

    @classmethod
    def fits(cls, evidence: Evidence) -> bool:
        """Whether these are maps and outputs that can be depth alone."""
        if not cls._has_shapes(evidence):
            return False
        if evidence.activation == ACTIVATION:
            return True
        plain = evidence.logits and evidence.loss is None
        return plain and looks_like_depth(evidence.labels, evidence.ignore)

    @classmethod
    def _has_shapes(cls, evidence: Evidence) -> bool:
        label, output = evidence.label_shape, evidence.output_shape
        maps = len(label) == 2 or (len(label) == 3 and label[-1] == 1)
        return maps and len(output) == 3 and output[-1] == 1

    @classmethod
    def check(cls, evidence: Evidence) -> None:
        """As `Task.check`."""
        label, output = evidence.label_shape, evidence.output_shape
        if len(label) in (2, 3) and len(output) == 3 and output[-1] != 1:
            raise ModelError(
                "Depth needs one output for each pixel.",
                required="outputs (height, width, 1)",
                received=f"outputs of shape {_labels.shape_text(output)}",
                advice="end the model with `Conv2D(1, …)`, or with "
                "`etude.models.disparity.DepthFromDisparity` after it",
            )
        if not cls._has_shapes(evidence):
            needs = "depth maps (h, w) or (h, w, 1), with outputs (h, w, 1)"
            raise _labels.no_room(
                cls.name, needs, _labels.shape_text(label), _labels.shape_text(output)
            )
        _labels.check_size("depth maps", label, evidence.image_shape, output)
        if evidence.loss is not None:
            raise ModelError(
                "The model was compiled with a cross-entropy, which is no loss of depth.",
                required="a loss of numbers, such as the mean absolute error",
                received=f"a {evidence.loss} cross-entropy",
                advice="compile another loss, or leave the loss to Étude: compile without one",
            )
        share = _share_beyond(evidence)
        if share > 0.5:
            assert evidence.output_range is not None
            depths = evidence.labels[known(evidence.labels, evidence.ignore)]
            low, high = evidence.output_range
            raise ModelError(
                "Most depths are beyond what the model can give.",
                required=f"outputs of {depths.min():.4g} to {depths.max():.4g}, as the labels have",
                received=f"a model that ends in {evidence.activation}, with outputs from "
                f"{low:g} to {high:g}",
                advice="end it in `etude.models.disparity.DepthFromDisparity(nearest, farthest)` "
                "with the range of the labels, or bring the labels to the model's unit",
            )

    def remarks(self) -> list[str]:
        """As `Task.remarks`: depths that the model cannot give."""
        share, limits = _share_beyond(self.evidence), self.evidence.output_range
        if limits is None or share < _BEYOND:
            return []
        return [
            f"{share:.0%} of the depths that were looked at are beyond what the model can give, "
            f"{limits[0]:g} to {limits[1]:g}."
        ]

    def check_labels(self, labels: Array, first: int, where: str) -> None:
        """As `Task.check_labels`: any number will do, as what is no depth counts for nothing."""
        if labels.dtype.kind not in "iuf":
            raise DataError(
                f"The labels of the {where} data are no depths.",
                required="floats, or integers such as millimetres",
                received=f"dtype {labels.dtype}",
                advice="pass depth maps, or another `task`",
            )

    def empty(self, labels: Array) -> Array:
        """As `Task.empty`: samples without a single depth."""
        flat = known(labels, self.evidence.ignore).reshape(len(labels), -1)
        return np.asarray(~flat.any(axis=1))

    def loss(self) -> keras.losses.Loss:
        """The mean absolute error over each sample's pixels of known depth, in their unit."""
        from etude.tasks._depth_measures import MaskedDepthError

        return MaskedDepthError(self.evidence.ignore)

    def metrics(self) -> list[keras.metrics.Metric]:
        """δ < 1.25, 1.25² and 1.25³, absolute relative error, RMSE and RMSE of logarithms.

        Each is of all pixels of a set whose depth is known, and not a mean over batches.
        """
        from etude.tasks import _depth_measures as measures

        ignore = self.evidence.ignore
        return [
            *[measures.DepthAccuracy(power, ignore) for power in (1, 2, 3)],
            measures.AbsoluteRelativeError(ignore),
            measures.RootMeanSquareDepth(ignore),
            measures.RootMeanSquareLogDepth(ignore),
        ]

    def soften(self, labels: Any, amount: float) -> Any:
        """Labels of the outputs' shape, float32; 0 where they are no depths.

        Nothing is smoothed: `amount` has to be 0, which `smooths` tells.
        """
        from keras import ops

        from etude.tasks._depth_measures import split

        found, valid = split(labels, self.evidence.ignore)
        return ops.where(valid, found, 0.0)[..., None]

    def soft_loss(self) -> keras.losses.Loss:
        """As `Task.soft_loss`: the loss itself."""
        return self.loss()

    def classes(self) -> None:
        """None: depth has no classes."""

    def counts(self, labels: Array) -> Array:
        """Of no classes, `(0,)`."""
        return np.zeros(0, np.int64)

    @property
    def blends(self) -> bool:
        """No: a depth between two is that of neither."""
        return False

    def beyond(self) -> int:
        """As `Task.beyond`: no depth."""
        return 0

    def strata(self, labels: Array) -> Array:
        """The quarter by mean depth, `(samples,)`."""
        step = max(1, _BLOCK_BYTES // max(1, labels[:1].nbytes))
        means = np.concatenate(
            [self._means(labels[i : i + step]) for i in range(0, len(labels), step)]
        )
        quarters = np.searchsorted(np.quantile(means, [0.25, 0.5, 0.75]), means)
        return quarters.astype(np.int64)

    def _means(self, labels: Array) -> Array:
        """The mean depth of each sample, `(samples,)` float64; 0 of one that has none."""
        flat = np.asarray(labels).reshape(len(labels), -1)
        valid = known(flat, self.evidence.ignore)
        total = np.where(valid, flat, 0).sum(axis=1, dtype=np.float64)
        return np.asarray(total / np.maximum(valid.sum(axis=1), 1))

    def class_weights(self, labels: Any, weights: Mapping[int, float]) -> Any:
        """Raises a `DataError`."""
        raise DataError(
            "Depth has no classes that could be weighed.",
            required="a task with classes",
            received=f"class weights {dict(weights)} with task 'depth'",
            advice="leave `class_weight` out; samples can have weights: (x, y, weights)",
        )

    def decode(self, outputs: Array) -> Array:
        """Depths in the labels' shape and dtype; rounded, and cut at its ends, to integers."""
        depths = np.asarray(outputs)
        depths = depths.reshape(len(depths), *depths.shape[1:3], *self.evidence.label_shape[2:])
        dtype = np.dtype(self.evidence.label_dtype)
        if dtype.kind == "f":
            return depths.astype(dtype)
        limits = np.iinfo(dtype)
        # The greatest integer of 64 bits is no float: the next one below it would be out of reach.
        highest = min(float(limits.max), np.nextafter(2.0**63, 0.0))
        return np.clip(np.rint(depths.astype(np.float64)), limits.min, highest).astype(dtype)


def _share_beyond(evidence: Evidence) -> float:
    """The share of depths that are out of the model's reach, as far as that is known."""
    limits = evidence.output_range
    depths = evidence.labels[known(evidence.labels, evidence.ignore)]
    if limits is None or not depths.size:
        return 0.0
    return float(((depths < limits[0]) | (depths > limits[1])).mean())
