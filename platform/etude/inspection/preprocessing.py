"""What a model does to its images first, and whether the images' range goes with it."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np

from etude.errors import DataError, ModelError
from etude.inspection import _graph
from etude.inspection.model import leaves

# Steps before or between which a Rescaling may stand: they keep the range of values.
_KEEP = frozenset(
    (
        "InputLayer", "RandomFlip", "RandomRotation", "RandomTranslation", "RandomZoom",
        "RandomCrop", "CenterCrop", "Resizing", "ZeroPadding2D", "Reshape", "Identity",
        "Dropout", "Cropping2D", "Pad",
        # Choosing and changing the order of channels.
        "GetItem", "Stack", "Concatenate", "Split", "Flip", "Transpose", "Permute", "Cast",
    )
)  # fmt: skip
# Networks of keras.applications without preprocessing of their own, by a pattern of the
# names that Keras gives them, and the range their `preprocess_input` gives.
_APPLICATIONS = {
    r"mobilenet(v2)?_\d\.\d\d_(\d+|None)": "-1..1",
    r"inception_v3|inception_resnet_v2|xception|nasnet_(mobile|large)": "-1..1",
    r"resnet(50|101|152)v2": "-1..1",
    r"resnet(50|101|152)|vgg(16|19)": "0..255 less the ImageNet mean, BGR",
    r"densenet(121|169|201)": "about -2.1..2.6",
}
# Below this spread, one pixel differs from another by less than a network can use at the start.
_NARROW = 0.02


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What stands before the first layer with weights.

    Attributes:
        steps: `(name, scale, offset)`: values become `value * scale + offset`, in order.
        known: Whether the beginning could be read; a subclassed model's cannot.
        application: Name of a `keras.applications` network that wants its images
            preprocessed outside, or `None`.
        arithmetic: Whether images go through arithmetic of the model's own first.
    """

    steps: tuple[tuple[str, float, float], ...] = ()
    known: bool = True
    application: str | None = None
    arithmetic: bool = False

    def apply(self, value: float) -> float:
        """A pixel value as the first layer with weights sees it."""
        for _, scale, offset in self.steps:
            value = value * scale + offset
        return value

    def describe(self) -> str | None:
        """The steps in words, or `None` when there are none."""
        return ", then ".join(f"{n} (x{s:.6g}{o:+.4g})" for n, s, o in self.steps) or None


def read(model: Any) -> Preprocessing:
    """What the model does to images before its first layer with weights.

    Raises:
        ModelError: A Normalization layer that was never adapted sees the raw images.
    """
    if not _graph.has_graph(model):
        hidden = any(type(x).__name__ in ("Rescaling", "Normalization") for x in leaves(model))
        return Preprocessing(known=False, arithmetic=hidden)
    steps: list[tuple[str, float, float]] = []
    arithmetic = _walk(model, steps)
    return Preprocessing(tuple(steps), True, _application(model), bool(arithmetic))


def _walk(model: Any, steps: list[tuple[str, float, float]]) -> bool | None:
    """Collects the model's first steps. Returns whether unread arithmetic ended them; `None`
    when the model has nothing but such steps, so that what follows it goes on."""
    import keras

    for operation in _graph.operations(model):
        name = type(operation).__name__
        if isinstance(operation, keras.Model):
            end = _walk(operation, steps)
            if end is not None:
                return end
        elif name == "Rescaling":
            steps.append((name, *_scalars(operation.scale, operation.offset)))
        elif name == "Normalization":
            steps.append((name, *_normalization(operation, first=not steps)))
        elif name in ("TrueDivide", "Divide", "Multiply", "Subtract", "Add"):
            return True
        elif name not in _KEEP:
            return False
    return None


def _scalars(scale: Any, offset: Any) -> tuple[float, float]:
    return float(np.mean(np.asarray(scale))), float(np.mean(np.asarray(offset)))


def _normalization(layer: Any, *, first: bool) -> tuple[float, float]:
    """Scale and offset of a Normalization layer, averaged over channels."""
    import keras

    mean = np.asarray(keras.ops.convert_to_numpy(layer.mean), np.float64)
    variance = np.asarray(keras.ops.convert_to_numpy(layer.variance), np.float64)
    untouched = layer.input_mean is None and not mean.any() and bool((variance == 1.0).all())
    # Behind a Rescaling it does no harm: keras.applications without weights have it so.
    if untouched and first:
        raise ModelError(
            "The model's Normalization layer was never adapted, so it does nothing.",
            required="a Normalization layer with a mean and a variance",
            received=f"{layer.name!r} with mean 0 and variance 1",
            advice="call `layer.adapt(train_images)` before training, or use Rescaling(1/255)",
        )
    deviation = float(np.sqrt(np.maximum(variance, 1e-12)).mean())
    scale, offset = 1.0 / deviation, -float(mean.mean()) / deviation
    return (-scale, -offset) if getattr(layer, "invert", False) else (scale, offset)


def _application(model: Any) -> str | None:
    """The `keras.applications` network in the model that wants preprocessing outside."""
    import keras

    names = [model.name, *(x.name for x in model.layers if isinstance(x, keras.Model))]
    return next((name for name in names if _preprocessed(name) is not None), None)


def _preprocessed(name: str) -> str | None:
    """The range that the `preprocess_input` of a network of that name gives."""
    fits = (wanted for pattern, wanted in _APPLICATIONS.items() if re.fullmatch(pattern, name))
    return next(fits, None)


def check_range(
    steps: Preprocessing, low: float, high: float, deviation: float, name: str
) -> list[str]:
    """Holds the images' range against the model's preprocessing.

    Args:
        steps: What `read` found.
        low: The least value of the images.
        high: The greatest.
        deviation: Their standard deviation.
        name: What the data are called.

    Returns:
        Notes, for what can be trained but had better be known.

    Raises:
        DataError: Images without any contrast, or already scaled for a model that scales.
    """
    if low == high:
        raise DataError(
            f"All pixels of the {name} images have the same value.",
            required="images that differ",
            received=f"{low:g} everywhere",
            advice="look at how the images were read or scaled",
        )
    span = abs(steps.apply(high) - steps.apply(low))
    if steps.steps and span < _NARROW:
        raise DataError(
            f"The {name} images are scaled already, and the model scales them again.",
            required=f"images of the range that the model's {steps.describe()} is made for",
            received=f"values {low:g}..{high:g}, which become {steps.apply(low):.4g}.."
            f"{steps.apply(high):.4g}",
            advice="pass the images as they were (0..255), or drop the layer from the model",
        )
    return _range_notes(steps, low, high, deviation, span)


def _range_notes(
    steps: Preprocessing, low: float, high: float, deviation: float, span: float
) -> list[str]:
    raw = low >= 0 and high > 10
    if steps.steps:
        if span > 60:
            return [
                f"Behind the model's {steps.describe()}, images still span {span:.3g}: most "
                f"networks learn better on values of about -1..1."
            ]
        if span < 0.2:
            return [
                f"Behind the model's {steps.describe()}, images span only {span:.2g}: check that "
                f"the layer is made for values {low:g}..{high:g}."
            ]
        return []
    wanted = None if steps.application is None else _preprocessed(steps.application)
    if wanted is not None and not steps.arithmetic:
        fits = (high <= 10) if wanted.startswith(("-1", "about")) else raw or low < -10
        if not fits or (wanted.startswith("0") and low >= 0):
            return [
                f"The model holds a {steps.application!r} network of keras.applications, whose "
                f"`preprocess_input` gives {wanted}; the images have {low:g}..{high:g}."
            ]
        return []
    if high > 10 and not steps.arithmetic:
        seen = "no Rescaling" if steps.known else "no Rescaling layer that can be seen"
        return [
            f"Images have values {low:g}..{high:g} (standard deviation {deviation:.3g}) and the "
            f"model begins with {seen}: networks learn better on values of about 0..1; add "
            f"`keras.layers.Rescaling(1/255)` as its first layer."
        ]
    return []
