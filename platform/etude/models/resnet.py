"""David Page's ResNet-9."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras

from etude.models import _blocks

LOGIT_SCALE = 0.125


def resnet9(
    input_shape: Sequence[int] = (32, 32, 3),
    classes: int = 10,
    *,
    width: int = 64,
    logits: bool = True,
    seed: int | None = None,
) -> keras.Model:
    """The ResNet-9 of *How to train your ResNet*, part 4 (Page, 2018), for small images.

    Eight 3×3 convolutions with batch normalization and a dense layer:

        prep     conv w
        layer 1  conv 2w, max-pool 2, residual(conv 2w, conv 2w)
        layer 2  conv 4w, max-pool 2
        layer 3  conv 8w, max-pool 2, residual(conv 8w, conv 8w)
        head     global max-pool, dense without bias, × 0.125

    At w = 64 and 3 channels it has 6.6 million parameters. Images are scaled by 1/255
    inside, so it takes uint8 or 0..255 as they are. Batch normalization has momentum 0.9
    (PyTorch's 0.1) and ε 1e-5, as published: see `_blocks.BN_MOMENTUM`.

    Args:
        input_shape: `(height, width, channels)`, at least 8 × 8.
        classes: The number of outputs; one output is a binary logit.
        width: Channels of the first convolution, w above.
        logits: `False` adds a softmax (a sigmoid for one class).
        seed: Makes the initial weights a function of it; `None` draws them anew each time.

    Returns:
        A model from `(batch, height, width, channels)` to float32 `(batch, classes)`.

    Raises:
        ModelError: The shape is too small, or a number is not positive.
    """
    _blocks.check_shape("resnet9", input_shape, classes, width, multiple=1, least=8)
    seeds = _blocks.seeds(seed)
    pool = keras.layers.MaxPooling2D

    inputs = keras.Input(tuple(input_shape), name="images")
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = _blocks.conv_bn_relu(x, width, seeds)
    x = pool()(_blocks.conv_bn_relu(x, 2 * width, seeds))
    x = _residual(x, 2 * width, seeds)
    x = pool()(_blocks.conv_bn_relu(x, 4 * width, seeds))
    x = pool()(_blocks.conv_bn_relu(x, 8 * width, seeds))
    x = _residual(x, 8 * width, seeds)
    x = keras.layers.GlobalMaxPooling2D()(x)
    x = keras.layers.Dense(
        classes,
        use_bias=False,
        kernel_initializer=keras.initializers.GlorotUniform(seed=next(seeds)),
    )(x)
    x = keras.layers.Rescaling(LOGIT_SCALE)(x)
    outputs = _blocks.head(x, logits, _blocks.activation(classes))
    return keras.Model(inputs, outputs, name="resnet9")


def _residual(x: Any, channels: int, seeds: Iterator[int | None]) -> Any:
    branch = _blocks.conv_bn_relu(x, channels, seeds)
    branch = _blocks.conv_bn_relu(branch, channels, seeds)
    return keras.layers.Add()([x, branch])
