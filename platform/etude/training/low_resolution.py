"""A model on smaller images, with the same weights: what a score costs grows with the pixels."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from etude.errors import RecipeError

LEAST = 8
"""Pixels of the smaller images' sides, at least."""


def smaller(model: Any, share: float) -> tuple[Any, tuple[int, int]]:
    """The model's own layers on images of a share of its sides, and those sides.

    Args:
        model: Functional or Sequential, on images `(height, width, channels)` of one size.
        share: In (0, 1).

    Raises:
        RecipeError: The layers do not take images of another size (a Dense after a Flatten), or
            give outputs of another; or the images are of `LEAST` pixels a side already.
    """
    shape = getattr(model, "input_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4 or None in shape[1:]:
        raise _refused(model, "inputs of no fixed size")
    height, width = (min(side, max(LEAST, round(share * side))) for side in shape[1:3])
    if (height, width) == shape[1:3]:
        raise _refused(model, f"images of {shape[1]} × {shape[2]}, which are small already")
    inputs = keras.Input((height, width, shape[3]), dtype=model.inputs[0].dtype)
    try:
        # `call` does not hold images against the size that the model was built for.
        twin = keras.Model(inputs, model.call(inputs))
    except (ValueError, TypeError) as error:
        raise _refused(model, str(error).splitlines()[0][:200]) from error
    if tuple(twin.output_shape) != tuple(model.output_shape):
        raise _refused(model, f"outputs {twin.output_shape} in the place of {model.output_shape}")
    return twin, (height, width)


def resized(images: Any, sides: tuple[int, int]) -> Any:
    """Images as floats of other sides, smoothed before."""
    kind = images.dtype
    small = ops.image.resize(ops.cast(images, "float32"), sides, antialias=True)
    return ops.cast(small, kind)


def _refused(model: Any, received: str) -> RecipeError:
    return RecipeError(
        "Scores of this model cannot be taken at a lower resolution.",
        required="a Functional or Sequential model whose layers take images of any size",
        received=f"{model.name}: {received}",
        advice="leave `sampling.resolution` at 1, or pool before the last layers",
    )
