"""A small vision transformer that takes images of any size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras import ops

from etude.models import _blocks

TEMPERATURE = 10_000.0
"""The longest wave of the positions over 2 π, in patches."""


@keras.saving.register_keras_serializable(package="etude")
class Positions(keras.layers.Layer):  # type: ignore[misc, unused-ignore]
    """Adds to each patch where it is, as sines and cosines of its row and column.

    Nothing of it is learned, so that it holds for any number of patches (Vaswani et al. 2017 in two
    dimensions, as of Chen et al. 2021, MoCo v3).
    """

    def call(self, patches: Any) -> Any:
        """`(batch, rows, columns, width)` in and out; `width` is a multiple of 4."""
        rows, columns, width = ops.shape(patches)[1], ops.shape(patches)[2], patches.shape[-1]
        quarter = width // 4
        waves = TEMPERATURE ** (-ops.arange(quarter, dtype="float32") / max(1, quarter))
        down = ops.cast(ops.arange(rows), "float32")[:, None] * waves
        along = ops.cast(ops.arange(columns), "float32")[:, None] * waves
        down = ops.concatenate([ops.sin(down), ops.cos(down)], axis=-1)[:, None]
        along = ops.concatenate([ops.sin(along), ops.cos(along)], axis=-1)[None]
        shape = (rows, columns, 2 * quarter)
        places = ops.concatenate(
            [ops.broadcast_to(down, shape), ops.broadcast_to(along, shape)], axis=-1
        )
        return patches + ops.cast(places, patches.dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """That of the input."""
        return input_shape


@keras.saving.register_keras_serializable(package="etude")
class Attention(keras.layers.Layer):  # type: ignore[misc, unused-ignore]
    """What each patch takes from the others, by queries, keys and values that are given.

    Args:
        heads: How many look independently; they divide the width.
    """

    def __init__(self, heads: int, **options: Any) -> None:
        super().__init__(**options)
        self.heads = heads

    def call(self, inputs: Any) -> Any:
        """From `(batch, rows, columns, 3 width)` to `(batch, rows, columns, width)`."""
        shape = ops.shape(inputs)
        width = inputs.shape[-1] // 3
        parts = ops.reshape(inputs, (-1, shape[1] * shape[2], 3, self.heads, width // self.heads))
        query, key, value = (parts[:, :, i] for i in range(3))
        found = ops.dot_product_attention(query, key, value)
        return ops.reshape(found, (-1, shape[1], shape[2], width))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """A third of the input's width."""
        return (*input_shape[:-1], input_shape[-1] // 3)

    def get_config(self) -> dict[str, Any]:
        """As `keras.layers.Layer.get_config`."""
        return {**super().get_config(), "heads": self.heads}


def vit(
    input_shape: Sequence[int | None] = (None, None, 3),
    classes: int = 10,
    *,
    width: int = 96,
    depth: int = 6,
    patch: int = 4,
    logits: bool = True,
    seed: int | None = None,
) -> keras.Model:
    """A plain vision transformer without a class token (Beyer, Zhai & Kolesnikov 2022).

    Patches become vectors, positions are sines and cosines of row and column, `depth` blocks of
    attention and of two dense layers (four times as wide, GELU) follow, each behind a layer
    normalization and beside its input, and the mean over patches is classified. A head is 32 wide,
    or the whole of the width where that is not a multiple of 32. Images of any size whose sides
    are multiples of `patch` go through the same weights, where the shape leaves them open.

    Args:
        input_shape: `(height, width, channels)`; height and width can be `None`.
        classes: The number of outputs; one output is a binary logit.
        width: Of the vectors, a multiple of 4.
        depth: Blocks.
        patch: Pixels on a patch's side.
        logits: `False` adds a softmax (a sigmoid for one class).
        seed: Makes the initial weights a function of it; `None` draws them anew each time.

    Returns:
        A model from `(batch, height, width, channels)` in 0..255 to float32 `(batch, classes)`.

    Raises:
        ModelError: The shape does not divide, or a number is not positive.
    """
    known = [patch if size is None else size for size in input_shape[:2]]
    shape: Any = (*known, *input_shape[2:])
    _blocks.check_shape("vit", shape, classes, width, multiple=patch, least=patch)
    _blocks.check_width("vit", width, 4)
    seeds = _blocks.seeds(seed)
    inputs = keras.Input(tuple(input_shape), name="images")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(inputs)
    x = keras.layers.Conv2D(width, patch, strides=patch, kernel_initializer=_glorot(seeds))(x)
    x = Positions()(x)
    for _ in range(depth):
        x = keras.layers.Add()([x, _attended(x, width, seeds)])
        x = keras.layers.Add()([x, _transformed(x, width, seeds)])
    x = keras.layers.GlobalAveragePooling2D()(_normalized(x))
    x = keras.layers.Dense(classes, kernel_initializer=_glorot(seeds))(x)
    return keras.Model(inputs, _blocks.head(x, logits, _blocks.activation(classes)), name="vit")


def _attended(x: Any, width: int, seeds: Iterator[int | None]) -> Any:
    heads = width // 32 if width % 32 == 0 else 1
    x = keras.layers.Dense(3 * width, kernel_initializer=_glorot(seeds))(_normalized(x))
    return keras.layers.Dense(width, kernel_initializer=_glorot(seeds))(Attention(heads)(x))


def _transformed(x: Any, width: int, seeds: Iterator[int | None]) -> Any:
    x = keras.layers.Dense(4 * width, kernel_initializer=_glorot(seeds))(_normalized(x))
    return keras.layers.Dense(width, kernel_initializer=_glorot(seeds))(keras.ops.gelu(x))


def _normalized(x: Any) -> Any:
    return keras.layers.LayerNormalization(epsilon=1e-6)(x)


def _glorot(seeds: Iterator[int | None]) -> keras.initializers.Initializer:
    return keras.initializers.GlorotUniform(seed=next(seeds))
