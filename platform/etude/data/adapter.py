"""Sources whose images meet the model: its number of channels, its size."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from etude.data._base import Arrays, Source, Spec
from etude.data.arrays import ArraySource, arrays_of, sample_bytes, spec_of
from etude.data.convert import Array
from etude.data.resize import (
    Resize,
    check_padding,
    is_mask,
    parse_resize,
    resize_images,
    resize_masks,
)
from etude.data.streams import StreamSource, gather_batches
from etude.errors import DataError

if TYPE_CHECKING:
    import tensorflow as tf

_CHUNK = 128


@dataclasses.dataclass(frozen=True)
class Adapter:
    """What is done to images, and to masks with them, so that they meet the model.

    Attributes:
        repeat: How often the one channel is repeated; 1 leaves the channels as they are.
        resize: The policy of resizing, or `None`.
        masks: Whether labels are masks, resized with the images by the nearest pixel.
        mask_fill: The label of the padding of masks.
    """

    repeat: int = 1
    resize: Resize | None = None
    masks: bool = False
    mask_fill: int | None = None

    def __post_init__(self) -> None:
        if self.masks:
            check_padding(self.resize, self.mask_fill)

    @property
    def identity(self) -> bool:
        """Whether nothing is done."""
        return self.repeat == 1 and self.resize is None

    def describe(self) -> str:
        """What is done, in words."""
        words = []
        if self.resize is not None:
            words.append(f"images are {self.resize}")
            if self.masks:
                words.append("masks with them by the nearest pixel")
        if self.repeat > 1:
            words.append(f"the one channel is repeated {self.repeat} times")
        return ", ".join(words) or "images are taken as they are"

    def spec(self, spec: Spec) -> Spec:
        """The spec after adapting a sample of `spec`."""
        height, width, channels = spec.image_shape
        label_shape = spec.label_shape
        if self.resize is not None:
            height, width = self.resize.size
            if self.masks and label_shape is not None:
                label_shape = (height, width, *label_shape[2:])
        channels = None if channels is None else channels * self.repeat
        return dataclasses.replace(
            spec, image_shape=(height, width, channels), label_shape=label_shape
        )

    def tensors(self, batch: tuple[Any, ...]) -> tuple[Any, ...]:
        """An adapted batch of tensors `(images,)` up to `(images, labels, weights)`."""
        import tensorflow as tf

        images, *rest = batch
        if self.resize is not None:
            images = resize_images(images, self.resize)
            if self.masks and rest:
                rest[0] = resize_masks(rest[0], self.resize, fill=self.mask_fill)
        if self.repeat > 1:
            images = tf.repeat(images, self.repeat, axis=-1)
        return (images, *rest)

    def arrays(self, arrays: Arrays) -> Arrays:
        """Adapted samples in memory, by chunks: the peak is the source, the result, a chunk."""
        import tensorflow as tf

        spec = self.spec(spec_of(arrays))
        shape = tuple(extent or 0 for extent in spec.image_shape)
        images = np.empty((len(arrays), *shape), arrays.images.dtype)
        labels = arrays.labels
        grow = self.masks and self.resize is not None and labels is not None
        if grow and labels is not None and spec.label_shape is not None:
            label_shape = tuple(extent or 0 for extent in spec.label_shape)
            labels = np.empty((len(arrays), *label_shape), labels.dtype)
        with tf.device("CPU:0"):
            for first in range(0, len(arrays), _CHUNK):
                part = slice(first, first + _CHUNK)
                batch = [tf.convert_to_tensor(arrays.images[part])]
                if grow and arrays.labels is not None:
                    batch.append(tf.convert_to_tensor(arrays.labels[part]))
                adapted = self.tensors(tuple(batch))
                images[part] = adapted[0].numpy()
                if grow and labels is not None:
                    labels[part] = adapted[1].numpy()
        return Arrays(images, labels, arrays.weights)


def adapter_for(
    spec: Spec,
    input_shape: tuple[int | None, ...],
    *,
    resize: Any = None,
    mask_fill: int | None = None,
    name: str = "train",
) -> Adapter:
    """What has to be done to samples of `spec` so that a model takes them.

    Args:
        spec: What the samples are.
        input_shape: The model's `(height, width, channels)`, `None` where it takes any.
        resize: The policy; without one, images of another size are refused.
        mask_fill: The label of the padding of masks.
        name: What messages call the set.

    Raises:
        DataError: If nothing that is allowed makes them meet.
    """
    policy = parse_resize(resize)
    height, width, channels = input_shape
    size = spec.image_shape[:2] if policy is None else policy.size
    for found, wanted in zip(size, (height, width), strict=True):
        if wanted is not None and found != wanted:
            raise _misfit(spec, input_shape, policy, name)
    found_channels = spec.image_shape[2]
    repeat = 1
    if channels is not None and found_channels != channels:
        if found_channels != 1:
            raise _misfit(spec, input_shape, policy, name)
        repeat = channels
    if policy is not None and policy.size == spec.image_shape[:2]:
        policy = None
    masks = is_mask(spec.label_shape, spec.image_shape)
    return Adapter(repeat=repeat, resize=policy, masks=masks, mask_fill=mask_fill)


def _misfit(
    spec: Spec, input_shape: tuple[int | None, ...], policy: Resize | None, name: str
) -> DataError:
    resized = "" if policy is None else f", {policy}"
    sizes = ", ".join("any" if extent is None else str(extent) for extent in input_shape)
    channels_only = spec.image_shape[2] not in (1, input_shape[2]) and input_shape[2] is not None
    advice = f"Pass resize=({input_shape[0]}, {input_shape[1]}), or build the model for the data."
    if channels_only:
        advice = "Build the model for these channels, or convert the images beforehand."
    return DataError(
        f"The images of {name} do not fit the model's input.",
        required=f"Images of (height, width, channels) = ({sizes}).",
        received=f"{spec.image_shape}{resized}.",
        advice=advice,
    )


def adapt(source: Source, adapter: Adapter) -> Source:
    """The source behind an adapter, or the source itself where nothing is to be done."""
    return source if adapter.identity else AdaptedSource(source, adapter)


def innermost(source: Source) -> Source:
    """What is behind all adapters."""
    while isinstance(source, AdaptedSource):
        source = source.source
    return source


class AdaptedSource(Source):
    """A source whose images are adapted as they are read.

    Args:
        source: Where the samples come from.
        adapter: What is done to them.
    """

    def __init__(self, source: Source, adapter: Adapter) -> None:
        self.source = source
        self.adapter = adapter
        self.name = source.name
        self.shuffle = source.shuffle
        self.endless: bool = getattr(source, "endless", False)
        self.class_names: tuple[str, ...] | None = getattr(source, "class_names", None)
        self.notes: tuple[str, ...] = (
            *getattr(source, "notes", ()),
            f"{source.name}: {adapter.describe()}.",
        )
        self._held: Arrays | None = None
        self._exceeds = -1

    @property
    def size(self) -> int | None:
        """The number of samples; `None` when unknown or endless."""
        return self.source.size

    @property
    def spec(self) -> Spec:
        """Shape and dtype of a sample."""
        return self.adapter.spec(self.source.spec)

    @property
    def labels(self) -> Array | None:
        """All labels, where they are known and not resized with the images."""
        return None if self._labels_change else self.source.labels

    @property
    def _labels_change(self) -> bool:
        return self.adapter.masks and self.adapter.resize is not None

    def label_blocks(self, block_bytes: int) -> Iterator[Array]:
        """As `Source.label_blocks`."""
        return iter(()) if self._labels_change else self.source.label_blocks(block_bytes)

    def renumbered(self, table: Array, names: tuple[str, ...]) -> Source:
        """As `Source.renumbered`."""
        return AdaptedSource(self.source.renumbered(table, names), self.adapter)

    def count(self) -> int:
        """The number of samples; reads a stream once when it is not known.

        Raises:
            DataError: For an endless stream.
        """
        if isinstance(self.source, (StreamSource, ArraySource, AdaptedSource)):
            return self.source.count()
        if self.size is None:
            raise TypeError(f"{type(self.source).__name__} cannot count its samples.")
        return self.size

    def counted(self, size: int) -> None:
        """Takes note of the number of samples, which a full pass over them showed."""
        self.source.counted(size)

    def _batches(self) -> Iterator[Arrays]:
        for batch in self.in_order(_CHUNK):
            yield arrays_of(batch, self.spec)

    def arrays(self, limit: int) -> Arrays | None:
        """All samples in memory, or `None` when they take more than `limit` bytes."""
        inner = innermost(self)
        if isinstance(inner, StreamSource) and inner.varies:
            self._held = None
            return None
        if self._held is not None:
            return self._held if self._held.nbytes <= limit else None
        if self.endless or limit <= self._exceeds:
            return None
        each = sample_bytes(self.spec) or 1
        held = None
        if self.size is None or self.size * each <= limit:
            whole = self.source.arrays(limit)
            if whole is None:
                # Adapted images may fit where the originals do not.
                held = gather_batches(self._batches(), limit)
            elif len(whole) * each <= limit:
                held = self.adapter.arrays(whole)
        if held is None:
            self._exceeds = limit
        self._held = held
        return held

    def in_order(self, batch_size: int) -> tf.data.Dataset:
        """One pass in natural order; the last batch may be smaller."""
        return self._adapted(self.source.in_order(batch_size))

    def shuffled(self, batch_size: int, *, seed: int, start: int = 0) -> tf.data.Dataset:
        """Endless full batches, a function of `seed`, beginning with step `start`."""
        return self._adapted(self.source.shuffled(batch_size, seed=seed, start=start))

    def _adapted(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        def change(*batch: Any) -> tuple[Any, ...]:
            return self.adapter.tensors(batch)

        return batches.map(change, num_parallel_calls=2, deterministic=True).prefetch(2)

    def subset(self, indices: Array, *, name: str) -> AdaptedSource:
        """A source of the samples at `indices`, adapted alike."""
        inner: Any = self.source
        return AdaptedSource(inner.subset(indices, name=name), self.adapter)
