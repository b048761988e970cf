"""A U-Net for segmentation."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from etude.models import _blocks


def unet(
    input_shape: Sequence[int] = (128, 128, 3),
    classes: int = 2,
    *,
    width: int = 32,
    depth: int = 3,
    logits: bool = True,
    seed: int | None = None,
) -> keras.Model:
    """The U-Net of Ronneberger, Fischer and Brox (2015), with batch normalization.

    Each of `depth` levels has two 3×3 convolutions and halves the picture; the way back up
    doubles it by nearest neighbour, halves the channels, and joins what the same level had
    on the way down. Padding keeps the size, so the output is as large as the input.

    Args:
        input_shape: `(height, width, channels)`, both sizes multiples of 2**depth; images
            in 0..255.
        classes: Outputs per pixel; one output is a binary logit.
        width: Channels of the first level; each level has twice those of the one above.
        depth: How often the picture is halved.
        logits: `False` adds a softmax over classes (a sigmoid for one class).
        seed: Makes the initial weights a function of it; `None` draws them anew each time.

    Returns:
        A model from `(batch, height, width, channels)` to float32
        `(batch, height, width, classes)`.

    Raises:
        ModelError: The shape does not divide, or a number is not positive.
    """
    multiple = 2**depth
    _blocks.check_shape("unet", input_shape, classes, width, multiple=multiple, least=multiple)
    seeds = _blocks.seeds(seed)
    inputs = keras.Input(tuple(input_shape), name="images")
    x = keras.layers.Rescaling(1 / 255)(inputs)
    skips = []
    for level in range(depth + 1):
        if level:
            skips.append(x)
            x = keras.layers.MaxPooling2D()(x)
        for _ in range(2):
            x = _blocks.conv_bn_relu(x, width * 2**level, seeds)
    for level in reversed(range(depth)):
        x = keras.layers.UpSampling2D()(x)
        x = _blocks.conv_bn_relu(x, width * 2**level, seeds)
        x = keras.layers.Concatenate()([skips[level], x])
        for _ in range(2):
            x = _blocks.conv_bn_relu(x, width * 2**level, seeds)
    x = keras.layers.Conv2D(
        classes, 1, kernel_initializer=keras.initializers.GlorotUniform(seed=next(seeds))
    )(x)
    outputs = _blocks.head(x, logits, _blocks.activation(classes))
    return keras.Model(inputs, outputs, name="unet")
