"""What the networks share: checked shapes, seeded weights, convolution + normalization."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from etude.errors import ModelError

BN_MOMENTUM = 0.9
"""Share of the old moving statistics that a step keeps. Keras' own 0.99 needs hundreds of
steps to forget the start, and a short run would be evaluated with stale statistics; 0.9 is
what PyTorch calls 0.1, with which these networks were published."""

BN_EPSILON = 1e-5
"""As published; Keras' own is 1e-3."""


def seeds(seed: int | None) -> Iterator[int | None]:
    """One seed for each initializer: different ones, a function of `seed` alone."""
    if seed is None:
        while True:
            yield None
    sequence = np.random.SeedSequence(seed)
    while True:
        yield int(sequence.spawn(1)[0].generate_state(1)[0])


def check_shape(
    name: str, input_shape: Sequence[int], classes: int, width: int, *, multiple: int, least: int
) -> None:
    """Raises a `ModelError` when a network cannot be built for these sizes.

    Args:
        name: The network.
        input_shape: Should be `(height, width, channels)`.
        classes: The number of outputs.
        width: Channels of the first convolution.
        multiple: What height and width must be multiples of.
        least: The least height and width.
    """
    fits = len(input_shape) == 3 and all(
        isinstance(size, int | np.integer) and size > 0 for size in input_shape
    )
    if not fits or min(input_shape[:2]) < least or any(s % multiple for s in input_shape[:2]):
        sizes = f"at least {least} pixels" + (f", multiples of {multiple}" if multiple > 1 else "")
        raise ModelError(
            f"{name} cannot be built for images of this shape.",
            required=f"input_shape=(height, width, channels), height and width {sizes}",
            received=f"input_shape={tuple(input_shape)}",
            advice="resize the images, or take another network",
        )
    if classes < 1 or width < 1:
        raise ModelError(
            f"{name} needs at least one output and one channel.",
            required="classes ≥ 1 and width ≥ 1",
            received=f"classes={classes}, width={width}",
            advice="mend the number",
        )


def check_width(name: str, width: int, multiple: int) -> None:
    """Raises a `ModelError` unless a width is a multiple of a number."""
    if width % multiple:
        raise ModelError(
            f"{name} cannot have this width.",
            required=f"a multiple of {multiple}",
            received=f"width={width}",
            advice="mend the number",
        )


def conv(x: Any, channels: int, seed: Iterator[int | None], *, bias: bool = True) -> Any:
    """A 3×3 convolution that keeps height and width, with He's normal initialization."""
    return keras.layers.Conv2D(
        channels,
        3,
        padding="same",
        use_bias=bias,
        kernel_initializer=keras.initializers.HeNormal(seed=next(seed)),
    )(x)


def conv_bn_relu(x: Any, channels: int, seed: Iterator[int | None]) -> Any:
    """Convolution without bias, batch normalization, ReLU."""
    x = conv(x, channels, seed, bias=False)
    x = keras.layers.BatchNormalization(momentum=BN_MOMENTUM, epsilon=BN_EPSILON)(x)
    return keras.layers.ReLU()(x)


def head(x: Any, logits: bool, activation: str) -> Any:
    """The output in float32 whatever the policy, as logits or as probabilities."""
    return keras.layers.Activation(
        "linear" if logits else activation, dtype="float32", name="outputs"
    )(x)


def activation(classes: int) -> str:
    """What makes probabilities of `classes` logits."""
    return "sigmoid" if classes == 1 else "softmax"
