"""How images of other sizes are brought to one size, and masks with them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from etude.errors import DataError

HOWS = ("stretch", "pad", "crop")


@dataclasses.dataclass(frozen=True)
class Resize:
    """A policy of resizing.

    Attributes:
        height: Rows after resizing.
        width: Columns after resizing.
        how: `"stretch"` ignores the aspect ratio; `"pad"` keeps it and fills up with zeros;
            `"crop"` keeps it and cuts the centre.
    """

    height: int
    width: int
    how: str = "stretch"

    @property
    def size(self) -> tuple[int, int]:
        """`(height, width)`."""
        return self.height, self.width

    def __str__(self) -> str:
        words = {"stretch": "stretched", "pad": "padded with zeros", "crop": "centre-cropped"}
        return f"resized to {self.height}x{self.width} ({words[self.how]})"


def parse_resize(resize: Any) -> Resize | None:
    """A policy from `None`, `(h, w)` or `{"size": (h, w), "how": "stretch" | "pad" | "crop"}`.

    Raises:
        DataError: For anything else.
    """
    if resize is None or isinstance(resize, Resize):
        return resize
    size, how = resize, "stretch"
    if isinstance(resize, Mapping) and set(resize) <= {"size", "how"}:
        size, how = resize.get("size"), resize.get("how", "stretch")
    try:
        height, width = (int(number) for number in size)
    except (TypeError, ValueError):
        height = width = 0
    if min(height, width) < 1 or how not in HOWS:
        raise DataError(
            "The resize policy is not understood.",
            required='None, (height, width) or {"size": (height, width), "how": '
            '"stretch" | "pad" | "crop"} with sizes of at least 1.',
            received=f"{resize!r}.",
            advice='Write for example resize=(224, 224) or resize={"size": (224, 224), '
            '"how": "crop"}.',
        )
    return Resize(height, width, how)


def _scaled(images: Any, height: Any, width: Any, nearest: bool) -> Any:
    """`images` `(n, h, w, c)` at another size, in their own dtype."""
    import tensorflow as tf

    size = tf.stack([height, width])
    dtype = images.dtype
    if nearest:
        # The kernel lacks a few integer widths; int64 and uint8 hold them exactly.
        carrier = {tf.uint32: tf.int64, tf.bool: tf.uint8}.get(dtype, dtype)
        scaled = tf.image.resize(tf.cast(images, carrier), size, method="nearest")
        return tf.cast(scaled, dtype)
    scaled = tf.image.resize(tf.cast(images, tf.float32), size, method="bilinear", antialias=True)
    if dtype.is_integer:
        scaled = tf.clip_by_value(tf.round(scaled), float(dtype.min), float(dtype.max))
        return tf.saturate_cast(scaled, dtype)
    return tf.cast(scaled, dtype)


def resize_images(
    images: Any, resize: Resize, *, nearest: bool = False, fill: int | float = 0
) -> Any:
    """Images at the size of a policy.

    Images and masks of one policy stay aligned: both go through the same geometry.

    Args:
        images: Tensor `(n, h, w, c)`.
        resize: The policy.
        nearest: Take the nearest pixel (masks) instead of antialiased bilinear interpolation.
        fill: What `"pad"` fills with.

    Returns:
        Tensor `(n, height, width, c)` of the same dtype; integers are rounded.
    """
    import tensorflow as tf

    target_h, target_w = resize.size
    channels = images.shape[-1]
    if resize.how == "stretch":
        scaled = _scaled(images, target_h, target_w, nearest)
        return tf.ensure_shape(scaled, (None, target_h, target_w, channels))
    shape = tf.shape(images)
    ratio_h = target_h / tf.cast(shape[1], tf.float64)
    ratio_w = target_w / tf.cast(shape[2], tf.float64)
    pad = resize.how == "pad"
    ratio = tf.minimum(ratio_h, ratio_w) if pad else tf.maximum(ratio_h, ratio_w)
    inner = tf.cast(tf.round(tf.cast(shape[1:3], tf.float64) * ratio), tf.int32)
    target = tf.constant([target_h, target_w])
    inner = tf.clip_by_value(inner, 1, target) if pad else tf.maximum(inner, target)
    scaled = _scaled(images, inner[0], inner[1], nearest)
    if pad:
        before = (target - inner) // 2
        margins = tf.stack([before, target - inner - before], axis=1)
        margins = tf.pad(margins, [[1, 1], [0, 0]])
        scaled = tf.pad(scaled, margins, constant_values=tf.cast(fill, scaled.dtype))
    else:
        top = (inner - target) // 2
        scaled = scaled[:, top[0] : top[0] + target_h, top[1] : top[1] + target_w]
    return tf.ensure_shape(scaled, (None, target_h, target_w, channels))


def check_padding(resize: Resize | None, fill: int | float | None) -> None:
    """Refuse a policy that pads masks when nothing says what label the padding has.

    Raises:
        DataError: If so.
    """
    if resize is not None and resize.how == "pad" and fill is None:
        raise DataError(
            "Padding images needs a label for the padded part of their masks.",
            required="A mask value for padding, or a policy that does not pad.",
            received=f"{resize} and no label to ignore.",
            advice='Use "how": "crop" or "stretch", or name the label to ignore.',
        )


def resize_masks(masks: Any, resize: Resize, *, fill: int | float | None) -> Any:
    """Masks `(n, h, w)` or `(n, h, w, c)`, resized like their images, by the nearest pixel.

    Raises:
        DataError: If the policy pads and no `fill` says what label the padding has.
    """
    check_padding(resize, fill)
    flat = masks.shape.rank == 3
    grown = resize_images(
        masks[..., None] if flat else masks, resize, nearest=True, fill=0 if fill is None else fill
    )
    return grown[..., 0] if flat else grown


def is_mask(
    label_shape: tuple[int | None, ...] | None, image_shape: tuple[int | None, ...]
) -> bool:
    """Whether labels of this shape belong to pixels: two leading axes like the image's."""
    if label_shape is None or len(label_shape) < 2:
        return False
    pairs = zip(label_shape[:2], image_shape[:2], strict=True)
    return all(a is None or b is None or a == b for a, b in pairs)


def resized_numpy(images: np.ndarray[Any, Any], resize: Resize) -> np.ndarray[Any, Any]:
    """`resize_images` of a NumPy image `(h, w, c)`."""
    import tensorflow as tf

    with tf.device("CPU:0"):
        return np.asarray(resize_images(tf.convert_to_tensor(images[None]), resize)[0])
