"""Networks to begin with: `etude.models.build("resnet9", input_shape, classes)`.

Names are resolved when they are used, so that listing them does not import Keras.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from etude.errors import ModelError

if TYPE_CHECKING:
    import keras

    from etude.models.cnn import small_cnn as small_cnn
    from etude.models.disparity import dispnet as dispnet
    from etude.models.encoder_decoder import unet as unet
    from etude.models.resnet import resnet9 as resnet9
    from etude.models.transformer import vit as vit

MODELS = {
    "resnet9": "etude.models.resnet",
    "small_cnn": "etude.models.cnn",
    "unet": "etude.models.encoder_decoder",
    "vit": "etude.models.transformer",
    "dispnet": "etude.models.disparity",
}
"""The module that holds each network; no module has a network's name, it would hide it."""

__all__ = ["MODELS", "build", "dispnet", "resnet9", "small_cnn", "unet", "vit"]


def build(name: str, input_shape: Sequence[int], classes: int, **options: Any) -> keras.Model:
    """A network by its name, with fresh weights.

    Args:
        name: A name of `MODELS`.
        input_shape: `(height, width, channels)` of an image in 0..255.
        classes: The number of outputs; `dispnet` has one.
        options: What else the network takes: `width`, `logits`, `seed`, the range of `dispnet`.

    Raises:
        ModelError: The name is not known, or the network does not fit the shape.

    Example:
        >>> build("resnet9", (28, 28, 1), 10, width=16, seed=0).output_shape
        (None, 10)
    """
    if name not in MODELS:
        raise ModelError(
            f"There is no network called {name!r}.",
            required=f"one of {sorted(MODELS)}, or a keras.Model of your own",
            received=repr(name),
            advice="choose one of these names",
        )
    network = getattr(importlib.import_module(MODELS[name]), name)
    return network(tuple(input_shape), classes, **options)


def __getattr__(name: str) -> Any:
    if name not in MODELS:
        raise AttributeError(f"module 'etude.models' has no attribute {name!r}")
    value = getattr(importlib.import_module(MODELS[name]), name)
    globals()[name] = value
    return value
