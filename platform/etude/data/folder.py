"""A folder of images as a source: checked once, then held in memory or decoded as needed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from etude.data import shuffle
from etude.data._base import Arrays, Spec
from etude.data.convert import Array
from etude.data.decode import (
    Decoded,
    decode_all,
    decoded,
    decoded_mask,
    mask_dtype,
    with_channels,
)
from etude.data.listing import Listing, list_folder
from etude.data.resize import Resize, check_padding, resize_images, resize_masks
from etude.data.streams import StreamSource
from etude.data.tfdata import mixed_sizes
from etude.errors import DataError

if TYPE_CHECKING:
    import tensorflow as tf


class FolderSource(StreamSource):
    """Images in files, read at random access.

    Made by `open_folder`; every file was decoded once before.

    Args:
        listing: The files.
        spec: What a sample is after decoding and resizing.
        name: What messages call the source.
        resize: The policy of resizing.
        mask_fill: Label of the padding of masks.
        held: All samples, where they fit in memory.
    """

    def __init__(
        self,
        listing: Listing,
        spec: Spec,
        *,
        name: str,
        resize: Resize | None,
        mask_fill: int | None,
        held: Arrays | None,
    ) -> None:
        super().__init__(spec, name=name, size=len(listing.images))
        self._listing = listing
        self._resize = resize
        self._mask_fill = mask_fill
        self._held = held
        self.class_names = listing.class_names or None
        self.notes = listing.notes
        self.shuffle = "perfect: every epoch is its own permutation of all files"

    def subset(self, indices: Array, *, name: str) -> FolderSource:
        """A source of the files at `indices`, in that order."""
        old = self._listing
        listing = Listing(
            images=tuple(old.images[i] for i in indices),
            labels=tuple(old.labels[i] for i in indices) if old.labels else (),
            masks=tuple(old.masks[i] for i in indices) if old.masks else (),
            class_names=old.class_names,
            notes=old.notes,
        )
        held = None if self._held is None else self._held.take(indices)
        return FolderSource(
            listing,
            self.spec,
            name=name,
            resize=self._resize,
            mask_fill=self._mask_fill,
            held=held,
        )

    @property
    def labels(self) -> Array | None:
        """The class numbers `(samples,)` int64, without decoding anything; `None` for masks."""
        return np.asarray(self._listing.labels, np.int64) if self._listing.labels else None

    def renumbered(self, table: Array, names: tuple[str, ...]) -> FolderSource:
        """As `Source.renumbered`."""
        labels = tuple(int(table[label]) for label in self._listing.labels)
        listing = dataclasses.replace(self._listing, labels=labels, class_names=names)
        held = self._held
        if held is not None:
            held = dataclasses.replace(held, labels=np.asarray(labels, np.int64))
        return FolderSource(
            listing,
            self.spec,
            name=self.name,
            resize=self._resize,
            mask_fill=self._mask_fill,
            held=held,
        )

    def _read(self, ids: tf.data.Dataset) -> tf.data.Dataset:
        """Samples at a stream of single ids, decoded in parallel, in the order of the ids."""
        import tensorflow as tf

        spec, listing, policy = self.spec, self._listing, self._resize
        with tf.device("CPU:0"):
            images = tf.constant([str(path) for path in listing.images])
            masks = tf.constant([str(path) for path in listing.masks]) if listing.masks else None
            labels = tf.constant(listing.labels, tf.int64) if listing.labels else None

        def read_mask(path: Any) -> Array:
            return decoded_mask(Path(path.decode()).read_bytes()).astype(spec.label_dtype)

        def read(index: Any) -> tuple[Any, ...]:
            image = decoded(tf.io.read_file(images[index]))
            image = with_channels(image, spec.image_shape[2] or 3)
            if policy is not None:
                image = resize_images(image[None], policy)[0]
            values = [tf.ensure_shape(image, spec.image_shape)]
            if labels is not None:
                values.append(labels[index])
            if masks is not None:
                mask = tf.numpy_function(
                    read_mask, [masks[index]], tf.as_dtype(spec.label_dtype), stateful=False
                )
                mask.set_shape((None, None))
                if policy is not None:
                    mask = resize_masks(mask[None], policy, fill=self._mask_fill)[0]
                values.append(tf.ensure_shape(mask, spec.label_shape))
            return tuple(values)

        decoded_ones = ids.map(read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        return shuffle.untuned(decoded_ones)

    def samples(self) -> tf.data.Dataset:
        """One pass over single samples `(image, ...)`, in natural order."""
        import tensorflow as tf

        return self._read(tf.data.Dataset.range(len(self._listing.images)))

    def batches(self, batch_size: int) -> Iterator[Arrays]:
        """One pass in NumPy, in natural order."""
        import tensorflow as tf

        labelled = self.spec.labelled
        try:
            for batch in self.samples().batch(batch_size).as_numpy_iterator():
                yield Arrays(batch[0], batch[1] if labelled else None)
        except tf.errors.OpError as error:
            raise DataError(
                f"A file of {self.name} cannot be read any more.",
                required="The files as they were when they were checked.",
                received=str(error.message).strip().splitlines()[0],
                advice="Restore the files and start again.",
            ) from error

    def in_order(self, batch_size: int) -> tf.data.Dataset:
        """One pass in natural order; the last batch may be smaller."""
        return self.samples().batch(batch_size).prefetch(2)

    def shuffled(self, batch_size: int, *, seed: int, start: int = 0) -> tf.data.Dataset:
        """Endless full batches, a function of `seed`, beginning with step `start`."""
        ids = shuffle.id_stream(len(self._listing.images), batch_size, seed, start).unbatch()
        return self._read(ids).batch(batch_size, drop_remainder=False).prefetch(2)


def _channels(shapes: list[tuple[int, ...]]) -> int:
    """1 where every image is grey (with or without alpha), else 3."""
    return 1 if all(shape[2] < 3 for shape in shapes) else 3


def _same_channels(image: Array, channels: int) -> Array:
    if channels == 1:
        return image[..., :1]
    return np.repeat(image[..., :1], 3, axis=-1) if image.shape[-1] < 3 else image[..., :3]


def _check_masks(listing: Listing, images: Decoded, masks: Decoded, name: str) -> None:
    odd = [
        f"{path.name}: image {tuple(i[:2])}, mask {tuple(m)}"
        for path, i, m in zip(listing.images, images.shapes, masks.shapes, strict=True)
        if i[:2] != m
    ]
    if odd:
        raise DataError(
            f"{len(odd)} masks of {name} differ in size from their images.",
            required="Masks of the same height and width as their images.",
            received="; ".join(odd[:20]) + ".",
            advice="Make the masks anew at the size of the images.",
        )


def _stack(images: list[Array]) -> Array:
    """Images of one shape as one array.

    Each of the list becomes a view of the result, so that the originals go one by one: nobody
    else may hold them, else the peak is twice the set.
    """
    result = np.empty((len(images), *images[0].shape), images[0].dtype)
    for index in range(len(images)):
        result[index] = images[index]
        images[index] = result[index]
    return result


def _all_masks(
    listing: Listing,
    images: Decoded,
    spec: Spec,
    resize: Resize | None,
    mask_fill: int | None,
    memory_budget: int,
    name: str,
) -> Array | None:
    """All masks after a check of their sizes; `None` where they do not fit."""
    import tensorflow as tf

    found = decode_all(
        listing.masks, masks=True, resize=None, keep_bytes=memory_budget, name=f"{name} (masks)"
    )
    _check_masks(listing, images, found, name)
    if found.images is None:
        return None
    masks = found.images  # replaced one by one: a second list would hold them all twice
    with tf.device("CPU:0"):
        for index, mask in enumerate(masks):
            masks[index] = mask.astype(spec.label_dtype, copy=False)
            if resize is not None:
                tensor = tf.convert_to_tensor(masks[index][None])
                masks[index] = np.asarray(resize_masks(tensor, resize, fill=mask_fill)[0])
    return _stack(masks)


def open_folder(
    folder: str | Path,
    *,
    name: str = "train",
    resize: Resize | None = None,
    mask_fill: int | None = None,
    memory_budget: int = 4 * 2**30,
    labelled: bool = True,
) -> FolderSource:
    """A folder as a source, after decoding every file once.

    Args:
        folder: Class folders with images, or `images/` and `masks/` with equal stems.
        name: What messages call the set.
        resize: The policy of resizing; needed where the images differ in size.
        mask_fill: Label of the padding of masks.
        memory_budget: Bytes within which the decoded images are kept at once.
        labelled: Whether labels are wanted.

    Raises:
        DataError: Listing all unreadable files, the sizes found without a policy, and so on.
    """
    listing = list_folder(Path(folder), name=name, labelled=labelled)
    if listing.masks:
        check_padding(resize, mask_fill)
    found = decode_all(
        listing.images, masks=False, resize=resize, keep_bytes=memory_budget, name=name
    )
    sizes = [shape[:2] for shape in found.shapes]
    if resize is None and len(set(sizes)) > 1:
        raise mixed_sizes(name, sizes)
    channels = _channels(found.shapes)
    height, width = sizes[0] if resize is None else resize.size
    spec = Spec((height, width, channels), "uint8")
    labels: Array | None = None
    fits = found.images is not None
    if listing.labels:
        spec = dataclasses.replace(spec, label_shape=(), label_dtype="int64")
        labels = np.asarray(listing.labels, np.int64)
    elif listing.masks:
        dtype = mask_dtype(listing.masks)
        spec = dataclasses.replace(spec, label_shape=(height, width), label_dtype=dtype)
        labels = _all_masks(listing, found, spec, resize, mask_fill, memory_budget, name)
        fits = fits and labels is not None
    held = None
    if fits and found.images is not None:
        images = found.images
        for index, image in enumerate(images):
            images[index] = _same_channels(image, channels)
        held = Arrays(_stack(images), labels)
        held = held if held.nbytes <= memory_budget else None
    return FolderSource(listing, spec, name=name, resize=resize, mask_fill=mask_fill, held=held)
