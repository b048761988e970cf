"""Depth from scaled disparity, and a network of the DispNet kind that ends in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras import ops

from etude.errors import ModelError
from etude.models import _blocks

NEAREST = 0.5
"""The least depth that a network gives where nobody says, in metres."""
FARTHEST = 80.0
"""The greatest one."""
KERNELS = (7, 5)
"""Sides of the first levels' first convolutions; all others are 3 × 3."""
WIDEST = 8
"""Channels of the widest level, in those of the first."""
LEVELS = 5
"""How often a picture is halved that is large enough."""


def scale_and_offset(nearest: float, farthest: float) -> tuple[float, float]:
    """s = 1/nearest - 1/farthest and m = 1/farthest, by which disparities have these ends."""
    return 1.0 / nearest - 1.0 / farthest, 1.0 / farthest


def depth_of(x: Any, nearest: float, farthest: float) -> Any:
    """Depth from the logit of a scaled disparity: D = 1 / (s · sigmoid(x) + m).

    A network's free output x becomes a disparity between 1/farthest and 1/nearest, of which depth
    is the inverse: near things are told apart finely and far ones coarsely, as in stereo.

    Args:
        x: Float tensor of any shape.
        nearest: The least depth, in the unit of the labels, above 0.
        farthest: The greatest depth, above `nearest`.

    Returns:
        Depths of the same shape and dtype; they fall as x grows.
    """
    s, m = scale_and_offset(nearest, farthest)
    return 1.0 / (s * ops.sigmoid(x) + m)


def logit_of(depth: Any, nearest: float, farthest: float) -> Any:
    """What `depth_of` makes this depth of: x = log((1/D - m) / (s + m - 1/D)).

    Args:
        depth: Float tensor of any shape, between `nearest` and `farthest`; at these ends
            themselves x is infinite.
        nearest: As of `depth_of`.
        farthest: As of `depth_of`.
    """
    s, m = scale_and_offset(nearest, farthest)
    disparity = 1.0 / depth
    return ops.log((disparity - m) / (s + m - disparity))


@keras.saving.register_keras_serializable(package="etude")
class DepthFromDisparity(keras.layers.Layer):  # type: ignore[misc, unused-ignore]
    """`depth_of` as the last layer of a network, in float32 whatever the policy.

    Args:
        nearest: The least depth that it gives, in the unit of the labels.
        farthest: The greatest.

    Raises:
        ModelError: These are no two numbers above 0 in order.

    Example:
        >>> import numpy as np
        >>> layer = DepthFromDisparity(nearest=2.0, farthest=8.0)
        >>> [round(float(d), 2) for d in layer(np.array([-50.0, 0.0, 50.0]))]
        [8.0, 3.2, 2.0]
    """

    def __init__(
        self, nearest: float = NEAREST, farthest: float = FARTHEST, **options: Any
    ) -> None:
        super().__init__(**{"dtype": "float32", **options})
        self.nearest, self.farthest = _range("DepthFromDisparity", nearest, farthest)

    def call(self, inputs: Any) -> Any:
        """Any shape in, float32 of the same shape out."""
        return depth_of(ops.cast(inputs, "float32"), self.nearest, self.farthest)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """That of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """As `keras.layers.Layer.get_config`."""
        own = {"nearest": self.nearest, "farthest": self.farthest}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="etude")
class CutLike(keras.layers.Layer):  # type: ignore[misc, unused-ignore]
    """The upper left part of a map that is as large as another map.

    What was halved and doubled is a line or a column larger where its size was odd.
    """

    def call(self, inputs: Any) -> Any:
        """From maps `(batch, h, w, c)` and `(batch, h', w', c')`: `(batch, h', w', c)`."""
        found, other = inputs
        height, width = ops.shape(other)[1], ops.shape(other)[2]
        return found[:, :height, :width]

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Height and width of the second, channels of the first."""
        found, other = input_shape
        return (found[0], other[1], other[2], found[3])


def dispnet(
    input_shape: Sequence[int | None] = (192, 256, 3),
    classes: int = 1,
    *,
    width: int = 32,
    levels: int | None = None,
    nearest: float = NEAREST,
    farthest: float = FARTHEST,
    seed: int | None = None,
) -> keras.Model:
    """A small network of the DispNet kind (Mayer et al. 2016): depth of every pixel.

    Each of `levels` levels halves the picture by a convolution with stride 2 (7 × 7, then 5 × 5,
    then 3 × 3) and has another one after it; the way back up doubles it by transposed
    convolutions, joins what the same level had on the way down, and convolves both. Channels
    double from level to level, up to eight times the first ones. As in Zhou et al. (2017), the
    one output is a sigmoid of scaled disparity at full size, of which `DepthFromDisparity` makes
    depth. Unlike theirs, convolutions have batch normalization, and there are no disparities at
    smaller sizes.

    Args:
        input_shape: `(height, width, channels)` of images in 0..255, sizes of at least 2**levels
            that need not be multiples of it; height and width can be `None`.
        classes: Outputs per pixel; depth is 1.
        width: Channels of the first level.
        levels: How often the picture is halved; `None` for as often as it goes, up to five times.
        nearest: The least depth that the network can give, in the unit of the labels.
        farthest: The greatest.
        seed: Makes the initial weights a function of it; `None` draws them anew each time.

    Returns:
        A model from `(batch, height, width, channels)` to float32 `(batch, height, width, 1)`,
        depths between `nearest` and `farthest`.

    Raises:
        ModelError: The shape is too small, a number is not positive, or `nearest` is not below
            `farthest`.
    """
    if levels is None:
        sides = [int(size) for size in input_shape[:2] if size is not None and size > 1]
        levels = min([LEVELS, *[size.bit_length() - 1 for size in sides]])
    if levels < 1 or classes > 1:
        raise ModelError(
            "dispnet gives one depth for each pixel, from a picture that is halved.",
            required="classes=1, and levels of 1 or more",
            received=f"classes={classes}, levels={levels}",
            advice="mend the number; for classes of pixels take 'unet'",
        )
    least = 2**levels
    known: Any = (*[least if size is None else size for size in input_shape[:2]], *input_shape[2:])
    _blocks.check_shape("dispnet", known, classes, width, multiple=1, least=least)
    nearest, farthest = _range("dispnet", nearest, farthest)
    seeds = _blocks.seeds(seed)
    channels = [width * min(2**level, WIDEST) for level in range(levels)]
    inputs = keras.Input(tuple(input_shape), name="images")
    x = keras.layers.Rescaling(1 / 255)(inputs)
    kept = [x]
    for level, wide in enumerate(channels):
        side = KERNELS[level] if level < len(KERNELS) else 3
        down = keras.layers.Conv2D(wide, side, strides=2, **_plain(seeds))
        x = _blocks.conv_bn_relu(_bn_relu(down(x)), wide, seeds)
        kept.append(x)
    for level in reversed(range(levels)):
        wide = channels[level - 1] if level else max(1, width // 2)
        up = keras.layers.Conv2DTranspose(wide, 3, strides=2, **_plain(seeds))
        x = CutLike()([_bn_relu(up(x)), kept[level]])
        if level:
            x = keras.layers.Concatenate()([x, kept[level]])
        x = _blocks.conv_bn_relu(x, wide, seeds)
    glorot = keras.initializers.GlorotUniform(seed=next(seeds))
    x = keras.layers.Conv2D(1, 3, padding="same", kernel_initializer=glorot)(x)
    outputs = DepthFromDisparity(nearest, farthest, name="outputs")(x)
    return keras.Model(inputs, outputs, name="dispnet")


def _plain(seeds: Iterator[int | None]) -> dict[str, Any]:
    """What a convolution before batch normalization is made with."""
    he = keras.initializers.HeNormal(seed=next(seeds))
    return {"padding": "same", "use_bias": False, "kernel_initializer": he}


def _bn_relu(x: Any) -> Any:
    normalized = keras.layers.BatchNormalization(
        momentum=_blocks.BN_MOMENTUM, epsilon=_blocks.BN_EPSILON
    )(x)
    return keras.layers.ReLU()(normalized)


def _range(name: str, nearest: float, farthest: float) -> tuple[float, float]:
    """Two depths in order, as floats.

    Raises:
        ModelError: They are not.
    """
    try:
        low, high = float(nearest), float(farthest)
    except (TypeError, ValueError):
        low = high = 0.0
    if not 0.0 < low < high < float("inf"):
        raise ModelError(
            f"{name} cannot give depths of this range.",
            required="numbers above 0, `nearest` below `farthest`",
            received=f"nearest={nearest!r}, farthest={farthest!r}",
            advice="state the least and the greatest depth in the unit of the labels",
        )
    return low, high
