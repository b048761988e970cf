"""What a task knows: what the labels mean, and what follows from it."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

if TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What is known of labels and outputs when a task is chosen.

    Attributes:
        label_shape: Shape of one label, without the batch axis.
        label_dtype: NumPy name of the labels' dtype.
        labels: `(samples, ...)`, the labels that were looked at.
        output_shape: Shape of one output of the model, without the batch axis.
        logits: Whether the model gives logits (`True`) or probabilities.
        image_shape: Shape of one image.
        ignore: The label that counts for nothing, if the user named one.
        activation: What the outputs went through last (`"softmax"`, `"sigmoid"`,
            `"linear"`, …), where it is known.
        loss: What the loss that the user compiled wants of labels (`"sparse"`,
            `"categorical"`, `"binary"`), where it is known.
        output_range: The least and the greatest output that the last layer can give, where it
            has such ends and they are known.
    """

    label_shape: tuple[int | None, ...]
    label_dtype: str
    labels: np.ndarray[Any, Any]
    output_shape: tuple[int | None, ...]
    logits: bool
    image_shape: tuple[int | None, ...]
    ignore: int | None = None
    activation: str | None = None
    loss: str | None = None
    output_range: tuple[float, float] | None = None


class Task(abc.ABC):
    """What the labels mean. Built from the evidence, and immutable.

    Labels stay as the user gave them: a task fits the loss to the labels.

    Attributes:
        name: The name by which users ask for it.
        monitor: The metric that matters, without the `val_` prefix.
        mode: `"max"` or `"min"`: which way the monitor is better.
        dense: Whether labels are maps with a value for every pixel, which move with the image.
        smooths: Whether labels can be smoothed.
        measures: Whether outputs are what is measured, and neither logits nor probabilities.
    """

    name: ClassVar[str]
    monitor: ClassVar[str]
    mode: ClassVar[str]
    dense: ClassVar[bool] = False
    smooths: ClassVar[bool] = True
    measures: ClassVar[bool] = False

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.check(evidence)

    @classmethod
    @abc.abstractmethod
    def fits(cls, evidence: Evidence) -> bool:
        """Whether labels and outputs look like this task, when the user names none."""

    @classmethod
    @abc.abstractmethod
    def check(cls, evidence: Evidence) -> None:
        """Raises an `EtudeError` when labels or outputs cannot be of this task."""

    @abc.abstractmethod
    def check_labels(self, labels: np.ndarray[Any, Any], first: int, where: str) -> None:
        """Raises a `DataError` naming the first bad sample of a block of labels.

        Args:
            labels: `(samples, ...)`.
            first: Index of the block's first sample, for the message.
            where: What the data are called, for example `"train"`.
        """

    def empty(self, labels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Which samples of a block have nothing to learn from, `(samples,)` bool; mostly none."""
        return np.zeros(len(labels), bool)

    def remarks(self) -> list[str]:
        """What is worth saying of labels and outputs that go together all the same."""
        return []

    @property
    def blends(self) -> bool:
        """Whether a blend of two labels means something, as mixup makes them."""
        return True

    def beyond(self) -> int | None:
        """The label of pixels from beyond the image; `None` where none says that they are."""
        return None

    @abc.abstractmethod
    def loss(self) -> keras.losses.Loss:
        """The loss that fits the labels as they are."""

    @abc.abstractmethod
    def metrics(self) -> list[keras.metrics.Metric]:
        """Fresh metrics; one is named `monitor`."""

    @abc.abstractmethod
    def soften(self, labels: Any, amount: float) -> Any:
        """Labels as smoothed distributions, `keras.ops` on a batch of labels.

        Returns:
            Float32 targets of the model's output shape, `amount` of their mass spread
            evenly over the classes.
        """

    @abc.abstractmethod
    def soft_loss(self) -> keras.losses.Loss:
        """The loss that takes what `soften` returns; equals `loss()` at amount 0."""

    @abc.abstractmethod
    def classes(self) -> int | None:
        """The number of classes, where the task has classes."""

    @abc.abstractmethod
    def counts(self, labels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """How often each class occurs in a block of labels, `(classes,)` int64."""

    @abc.abstractmethod
    def strata(self, labels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """One integer per sample by which a split is stratified, `(samples,)`."""

    @abc.abstractmethod
    def class_weights(self, labels: Any, weights: Mapping[int, float]) -> Any:
        """Per-sample (or per-pixel) weights of a batch of labels, in `keras.ops`."""

    @abc.abstractmethod
    def decode(self, outputs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Predictions in the labels' own terms: class numbers, multi-hot, masks."""
