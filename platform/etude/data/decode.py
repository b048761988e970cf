"""Image files to pixels, one at a time or all of them at once in threads."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from etude.data.convert import Array
from etude.data.resize import Resize, resized_numpy
from etude.errors import DataError

EXTENSIONS = (".jpeg", ".jpg", ".png", ".gif", ".bmp", ".webp")
_PNG = b"\x89PNG\r\n\x1a\n"


def decoded(contents: Any) -> Any:
    """The pixels of an encoded image (a string tensor): uint8 `(h, w, c)`, the first frame."""
    import tensorflow as tf

    return tf.io.decode_image(contents, channels=0, expand_animations=False)


def with_channels(image: Any, channels: int) -> Any:
    """A decoded `(h, w, 1..4)` tensor with 1 or 3 channels: grey repeated, alpha left out."""
    import tensorflow as tf

    if channels == 1:
        return image[..., :1]
    found = tf.shape(image)[-1]
    image = tf.cond(found < 3, lambda: tf.repeat(image[..., :1], 3, -1), lambda: image[..., :3])
    return tf.ensure_shape(image, (None, None, 3))


def decoded_mask(contents: bytes) -> Array:
    """The labels `(h, w)` in an encoded mask: uint8, or uint16 where the PNG has 16 bits.

    Raises:
        ValueError: For files that do not hold labels exactly (JPEG, palettes, colours).
    """
    import tensorflow as tf

    if contents.startswith(b"\xff\xd8"):
        raise ValueError("JPEG changes labels; save masks as greyscale PNG")
    dtype = tf.uint8
    if contents.startswith(_PNG) and len(contents) > 25:
        if contents[25] == 3:
            raise ValueError("PNG with a palette; save the class numbers as greyscale PNG")
        dtype = tf.uint16 if contents[24] == 16 else tf.uint8
        mask = np.asarray(tf.io.decode_png(contents, channels=0, dtype=dtype))
    else:
        mask = np.asarray(decoded(contents))
    if mask.shape[-1] != 1:
        raise ValueError(f"{mask.shape[-1]} channels; a mask has one, with class numbers")
    return mask[..., 0]


@dataclasses.dataclass(frozen=True)
class Decoded:
    """What a look at every file found.

    Attributes:
        shapes: `(height, width, channels)` of every file, before resizing.
        images: The pixels of every file, resized where a policy was given, each with its own
            channels; `None` when together they take more memory than allowed.
    """

    shapes: list[tuple[int, ...]]
    images: list[Array] | None


class _Keep:
    """Holds images while they fit into `limit` bytes; lets all go when they do not."""

    def __init__(self, limit: int, count: int) -> None:
        self.left = limit
        self.images: list[Array | None] | None = [None] * count
        self._lock = threading.Lock()

    def put(self, index: int, image: Array) -> None:
        with self._lock:
            if self.images is None:
                return
            self.left -= image.nbytes
            if self.left < 0:
                self.images = None
            else:
                self.images[index] = image


def decode_all(
    paths: Sequence[Path], *, masks: bool, resize: Resize | None, keep_bytes: int, name: str
) -> Decoded:
    """Decode every file once, in threads.

    Args:
        paths: The files.
        masks: Whether they hold labels of pixels.
        resize: The policy for images (masks are left as they are).
        keep_bytes: How many bytes of pixels may be kept.
        name: What messages call the set.

    Raises:
        DataError: Listing every file that cannot be decoded.
    """
    import tensorflow as tf

    keep = _Keep(keep_bytes, len(paths))

    def look(index: int) -> tuple[int, ...] | str:
        path = paths[index]
        try:
            with tf.device("CPU:0"):
                contents = path.read_bytes()
                image = decoded_mask(contents) if masks else np.asarray(decoded(contents))
        except (OSError, ValueError) as error:
            return f"{path}: {str(error).strip().splitlines()[0]}"
        except tf.errors.OpError as error:
            return f"{path}: {str(error.message).strip().splitlines()[0]}"
        shape = tuple(image.shape)
        if 0 in shape:
            return f"{path}: no pixels"
        if keep.images is not None:
            keep.put(index, image if resize is None or masks else resized_numpy(image, resize))
        return shape

    with ThreadPoolExecutor() as pool:
        results = list(pool.map(look, range(len(paths))))
    broken = [result for result in results if isinstance(result, str)]
    if broken:
        raise DataError(
            f"{len(broken)} of the {len(paths)} files of {name} cannot be decoded.",
            required="JPEG, PNG, GIF, BMP or WebP files that are whole.",
            received="\n    " + "\n    ".join(broken),
            advice="Replace or remove these files.",
        )
    images = None
    if keep.images is not None:
        images = [image for image in keep.images if image is not None]
    return Decoded([r for r in results if not isinstance(r, str)], images)


def mask_dtype(paths: Sequence[Path]) -> str:
    """`"uint16"` where any mask is a PNG of 16 bits, else `"uint8"`; reads the headers only."""
    for path in paths:
        with path.open("rb") as file:
            head = file.read(25)
        if head.startswith(_PNG) and head[24] == 16:
            return "uint16"
    return "uint8"
