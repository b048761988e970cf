"""A network small enough for examples and tests."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from etude.models import _blocks


def small_cnn(
    input_shape: Sequence[int] = (28, 28, 1),
    classes: int = 10,
    *,
    width: int = 8,
    logits: bool = True,
    seed: int | None = None,
) -> keras.Model:
    """Two convolutions with batch normalization and pooling, then a dense layer.

    Args:
        input_shape: `(height, width, channels)`, at least 4 × 4, images in 0..255.
        classes: The number of outputs; one output is a binary logit.
        width: Channels of the first convolution; the second has twice as many.
        logits: `False` adds a softmax (a sigmoid for one class).
        seed: Makes the initial weights a function of it; `None` draws them anew each time.

    Returns:
        A model from `(batch, height, width, channels)` to float32 `(batch, classes)`.

    Raises:
        ModelError: The shape is too small, or a number is not positive.
    """
    _blocks.check_shape("small_cnn", input_shape, classes, width, multiple=1, least=4)
    seeds = _blocks.seeds(seed)
    inputs = keras.Input(tuple(input_shape), name="images")
    x = keras.layers.Rescaling(1 / 255)(inputs)
    for channels in (width, 2 * width):
        x = _blocks.conv_bn_relu(x, channels, seeds)
        x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(
        classes, kernel_initializer=keras.initializers.GlorotUniform(seed=next(seeds))
    )(x)
    outputs = _blocks.head(x, logits, _blocks.activation(classes))
    return keras.Model(inputs, outputs, name="small_cnn")
