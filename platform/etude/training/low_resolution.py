"""A model on smaller images, with the same weights: what a score costs grows with the pixels."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from etude.errors import RecipeError

LEAST = 8
"""Pixels of the smaller images' sides, at least."""


class Resolution:
    """At which sides a Trainer shows images in training, with a model and a trace for each.

    Attributes:
        sides: Height and width; `None` for images as they are.
        twins: Models by sides.
        functions: Keras' functions that train, by sides.
    """

    def __init__(self) -> None:
        self.sides: tuple[int, int] | None = None
        self.twins: dict[tuple[int, int], Any] = {}
        self.functions: dict[tuple[int, int] | None, Any] = {}


def smaller(model: Any, share: float) -> tuple[Any, tuple[int, int]]:
    """The model's own layers on images of a share of its sides, and those sides.

    Args:
        model: Functional or Sequential, on images `(height, width, channels)` of one size.
        share: In (0, 1).

    Raises:
        RecipeError: The layers do not take images of another size (a Dense after a Flatten), or
            give outputs of another; or the images are of `LEAST` pixels a side already.
    """
    full, sides = sides_of(model), share_of(model, share)
    if sides == full:
        raise _refused(model, f"images of {full[0]} × {full[1]}, which are small already")
    return at(model, sides), sides


def share_of(model: Any, share: float) -> tuple[int, int]:
    """The sides of a model's images times a share, not below `LEAST`."""
    height, width = (min(side, max(LEAST, round(share * side))) for side in sides_of(model))
    return height, width


def at(model: Any, sides: tuple[int, int]) -> Any:
    """The model's own layers on images of other sides; the model itself, where it says none.

    Args:
        model: Functional or Sequential.
        sides: Height and width.

    Raises:
        RecipeError: The layers do not take such images, or give outputs of another shape.
    """
    shape = getattr(model, "input_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4:
        raise _refused(model, "inputs that are no images")
    if shape[1:3] == (None, None):
        return model
    inputs = keras.Input((*sides, shape[3]), dtype=model.inputs[0].dtype)
    try:
        # `call` does not hold images against the size that the model was built for.
        twin = keras.Model(inputs, model.call(inputs))
    except (ValueError, TypeError) as error:
        raise _refused(model, str(error).splitlines()[0][:200]) from error
    if tuple(twin.output_shape) != tuple(model.output_shape):
        raise _refused(model, f"outputs {twin.output_shape} in the place of {model.output_shape}")
    return twin


def sides_of(model: Any) -> tuple[int, int]:
    """Height and width of the images that a model was built for.

    Raises:
        RecipeError: It takes any.
    """
    shape = getattr(model, "input_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4 or None in shape[1:3]:
        raise _refused(model, "inputs of no fixed size")
    return shape[1], shape[2]


def resized(images: Any, sides: tuple[int, int]) -> Any:
    """Images as floats of other sides, smoothed before."""
    small = ops.image.resize(ops.cast(images, "float32"), sides, antialias=True)
    kind = keras.backend.standardize_dtype(images.dtype)
    return ops.cast(small, kind) if "float" in kind else small


def _refused(model: Any, received: str) -> RecipeError:
    return RecipeError(
        "This model does not take images of a lower resolution.",
        required="a Functional or Sequential model whose layers take images of any size",
        received=f"{model.name}: {received}",
        advice="pool over all places before the last layers, or leave images as large as they are: "
        "`sampling.resolution` at 1, no `Progressive`, and no views that are scored",
    )
