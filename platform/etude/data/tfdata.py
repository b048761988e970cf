"""Samples that come from a `tf.data.Dataset`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from etude.data import shuffle
from etude.data._base import Arrays, Source, Spec
from etude.data.arrays import arrays_of
from etude.data.convert import Array, check_weights, many_weights
from etude.data.fields import parts
from etude.data.resize import Resize, is_mask, resize_images, resize_masks
from etude.data.streams import COUNTED_AT_MOST, StreamSource, buffer_samples, buffer_words
from etude.errors import DataError

if TYPE_CHECKING:
    import tensorflow as tf

_PEEK = 32


def _images_spec(spec: Any, name: str) -> Any:
    """The spec of the images, refused when it can be no image."""
    import tensorflow as tf

    received = f"{spec}."
    if not isinstance(spec, tf.TensorSpec):
        raise DataError(
            f"The images of {name} are no dense tensors.",
            required="Dense tensors.",
            received=received,
            advice="Bring ragged images to one size in dataset.map, before .batch.",
        )
    if spec.shape.rank is None:
        raise DataError(
            f"The images of {name} have an unknown number of axes.",
            required="Images of known rank: (height, width, channels), or batches of these.",
            received=received,
            advice="State it: dataset.map(lambda x, y: (tf.ensure_shape(x, (None, None, 3)), y)), "
            "or give from_generator an output_signature.",
        )
    if spec.dtype == tf.string:
        raise DataError(
            f"The images of {name} are text.",
            required="Decoded images.",
            received=received,
            advice="Decode them: dataset.map(lambda x, y: (tf.io.decode_image(x, "
            "expand_animations=False), y)).",
        )
    if spec.shape.rank not in (2, 3, 4):
        raise DataError(
            f"The images of {name} have {spec.shape.rank} axes.",
            required="2 (h, w), 3 (h, w, channels) or 4 (batch, h, w, channels).",
            received=received,
            advice="Reshape the images in dataset.map.",
        )
    return spec


def is_batched(images: Any, labels: Any) -> bool:
    """Whether elements are batches, from the specs of their images and labels.

    Four axes are a batch, two are one image. Three are an image, unless the last axis cannot be
    channels (more than 4) and the first is a batch axis (free, and the labels have one too).
    """
    shape = images.shape
    if shape.rank != 3:
        return bool(shape.rank == 4)
    if shape[2] is None or shape[2] <= 4 or (labels is not None and labels.shape.rank == 0):
        return False
    if labels is None or labels.shape.rank is None:
        return shape[0] is None
    return bool(shape[0] == labels.shape[0])


def _canonical(dataset: tf.data.Dataset, *, name: str, labelled: bool) -> tf.data.Dataset:
    """Single samples `(image (h, w, c), ...)` in plain dtypes."""
    import tensorflow as tf

    specs = parts(dataset.element_spec, name=name, labelled=labelled)
    images = _images_spec(specs[0], name)
    for spec in specs[1:]:
        if not isinstance(spec, tf.TensorSpec) or spec.shape.rank is None:
            raise DataError(
                f"The labels of {name} are no dense tensors of known rank.",
                required="Dense labels.",
                received=f"{spec}.",
                advice="Fix their shape with tf.ensure_shape in dataset.map.",
            )
    if is_batched(images, specs[1] if len(specs) > 1 else None):
        dataset = dataset.unbatch()
    single = parts(dataset.element_spec, name=name, labelled=labelled)
    rank = single[0].shape.rank
    if len(single) == 3 and single[2].shape.num_elements() not in (None, 1):
        raise many_weights(name, "One number.", f"Shape {tuple(single[2].shape)} for a sample.")

    def tidy(*element: Any) -> tuple[Any, ...]:
        whole = element[0] if len(element) == 1 else element
        values = list(parts(whole, name=name, labelled=labelled))
        image = values[0][..., None] if rank == 2 else values[0]
        if image.dtype in (tf.float64, tf.bfloat16):
            image = tf.cast(image, tf.float32)
        values[0] = tf.cast(image, tf.uint8) if image.dtype == tf.bool else image
        if len(values) == 3:
            values[2] = tf.reshape(tf.cast(values[2], tf.float32), ())
        return tuple(values)

    return dataset.map(tidy, num_parallel_calls=2, deterministic=True)


def _resized(samples: tf.data.Dataset, resize: Resize, fill: int | None) -> tf.data.Dataset:
    specs = samples.element_spec
    masks = len(specs) > 1 and is_mask(tuple(specs[1].shape), tuple(specs[0].shape))

    def grow(image: Any, *rest: Any) -> tuple[Any, ...]:
        others = list(rest)
        if masks:
            others[0] = resize_masks(others[0][None], resize, fill=fill)[0]
        return (resize_images(image[None], resize)[0], *others)

    return samples.map(grow, num_parallel_calls=2, deterministic=True)


def _sizes(shapes: list[tuple[int, ...]]) -> str:
    distinct = sorted(set(shapes))
    words = ", ".join("x".join(map(str, shape)) for shape in distinct[:8])
    return words + (f" and {len(distinct) - 8} more" if len(distinct) > 8 else "")


def mixed_sizes(name: str, shapes: list[tuple[int, ...]], what: str = "images") -> DataError:
    """The error for samples of several sizes without a policy."""
    return DataError(
        f"The {what} of {name} have several sizes.",
        required=f"{what.capitalize()} of one size, or a resize policy.",
        received=f"{_sizes(shapes)} (height x width).",
        advice='Pass resize=(height, width), or resize={"size": (height, width), '
        '"how": "pad"} (or "crop").',
    )


def unreadable(name: str, first: int, count: int, required: str, error: Any) -> DataError:
    """The error for samples that TensorFlow cannot read."""
    return DataError(
        f"Reading {name} failed at one of the samples {first} to {first + count - 1}.",
        required=required,
        received=str(error.message).strip().splitlines()[0],
        advice="Mend that sample; for images of several sizes pass resize=.",
    )


def _pinned(samples: tf.data.Dataset, *, name: str) -> tf.data.Dataset:
    """The samples with the static shapes that the first few of them have.

    Raises:
        DataError: If there are none, or they differ in size.
    """
    import tensorflow as tf

    try:
        first = list(samples.take(_PEEK).as_numpy_iterator())
    except tf.errors.OpError as error:
        raise unreadable(name, 0, _PEEK, "Samples of one kind.", error) from error
    if not first:
        raise DataError(
            f"The dataset {name} is empty.",
            required="At least one sample.",
            received="No element.",
            advice="Look at the filters, the split and the file names that lead to it; a "
            "generator that was read before is empty, too.",
        )
    if len(first[0]) == 3:
        given = np.asarray([sample[2] for sample in first])
        check_weights(given, name, all_of_them=False)
    columns = list(zip(*first, strict=True))
    shapes = []
    for column, what in zip(columns[:2], ("images", "labels"), strict=False):
        found = [tuple(np.shape(value)) for value in column]
        if len(set(found)) > 1:
            raise mixed_sizes(name, found if what == "labels" else [s[:2] for s in found], what)
        if what == "images" and 0 in found[0]:
            raise DataError(
                f"The images of {name} have no pixels.",
                required="At least one pixel.",
                received=f"Shape {found[0]}.",
                advice="Look at the decoding in dataset.map.",
            )
        shapes.append(found[0])
    if len(columns) == 3:
        shapes.append(())

    def pin(*values: Any) -> tuple[Any, ...]:
        return tuple(tf.ensure_shape(v, s) for v, s in zip(values, shapes, strict=True))

    return samples.map(pin)


def _spec(samples: tf.data.Dataset) -> Spec:
    specs = samples.element_spec
    label = specs[1] if len(specs) > 1 else None
    text = label is not None and label.dtype.name == "string"
    return Spec(
        image_shape=tuple(specs[0].shape),
        image_dtype=specs[0].dtype.name,
        label_shape=None if label is None else tuple(label.shape),
        label_dtype=None if label is None else ("str" if text else label.dtype.name),
        weighted=len(specs) == 3,
    )


class DatasetSource(StreamSource):
    """A source over a `tf.data.Dataset`, batched or not, finite or endless.

    Args:
        dataset: Elements as `fields.parts` understands them.
        name: What messages call the source.
        resize: The policy for images of several sizes.
        mask_fill: Label of the padding of masks.
        memory_budget: Bytes that the shuffle buffer may take a share of.
        labelled: Whether labels are wanted.
        size: The number of samples, where it is known from elsewhere.
        class_names: Names of the classes, where known.
        notes: What is worth saying of it.

    Raises:
        DataError: If the dataset is empty or its elements cannot be images.
    """

    def __init__(
        self,
        dataset: tf.data.Dataset,
        *,
        name: str = "train",
        resize: Resize | None = None,
        mask_fill: int | None = None,
        memory_budget: int = 4 * 2**30,
        labelled: bool = True,
        size: int | None = None,
        class_names: tuple[str, ...] | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.endless = bool(dataset.cardinality().numpy() == -1)
        self.memory_budget = memory_budget
        samples = _canonical(dataset, name=name, labelled=labelled)
        if resize is not None:
            samples = _resized(samples, resize, mask_fill)
        self._samples = shuffle.untuned(_pinned(samples, name=name))
        cardinality = int(self._samples.cardinality().numpy())
        known = size if size is not None else (cardinality if cardinality >= 0 else None)
        super().__init__(_spec(self._samples), name=name, size=known)
        self.counts_at_most = COUNTED_AT_MOST if known is None else None
        # Not a function of the size: the order may not depend on whether it was counted before.
        self._buffer = buffer_samples(self.spec, memory_budget)
        self.class_names = class_names
        self.notes = notes
        self.shuffle = buffer_words(self._buffer, known)

    def samples(self) -> tf.data.Dataset:
        """One pass over single samples `(image, ...)`, in natural order."""
        return self._samples

    def renumbered(self, table: Array, names: tuple[str, ...]) -> Source:
        """As `Source.renumbered`."""
        import tensorflow as tf

        dtype = self.spec.label_dtype or ""
        if self.spec.label_shape != () or not dtype.startswith(("int", "uint")):
            return super().renumbered(table, names)
        numbers = tf.constant(table, tf.int64)

        def change(image: Any, label: Any, *weight: Any) -> tuple[Any, ...]:
            old = tf.cast(label, tf.int64)
            known = (old >= 0) & (old < len(table))  # what is no class stays, to be reported so
            new = tf.where(known, tf.gather(numbers, tf.where(known, old, 0)), old)
            return image, tf.cast(new, dtype), *weight

        return DatasetSource(
            self._samples.map(change),
            name=self.name,
            memory_budget=self.memory_budget,
            size=self.size,
            class_names=names,
            notes=self.notes,
        )

    def batches(self, batch_size: int) -> Iterator[Arrays]:
        """One pass in NumPy, in natural order."""
        import tensorflow as tf

        read = 0
        batches = iter(self.in_order(batch_size))
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except tf.errors.OpError as error:
                required = f"Samples of shape {self.spec.image_shape} throughout."
                raise unreadable(self.name, read, batch_size, required, error) from error
            arrays = arrays_of(batch, self.spec)
            if arrays.weights is not None:
                check_weights(arrays.weights, self.name, read, all_of_them=False)
            read += len(arrays)
            yield arrays

    def in_order(self, batch_size: int) -> tf.data.Dataset:
        """One pass in natural order; the last batch may be smaller."""
        return self._samples.batch(batch_size).prefetch(2)

    def shuffled(self, batch_size: int, *, seed: int, start: int = 0) -> tf.data.Dataset:
        """Endless full batches, a function of `seed`, beginning with step `start`."""
        passes = shuffle.shuffled_passes(self._samples, self._buffer, seed, endless=self.endless)
        return passes.skip(start * batch_size).batch(batch_size, drop_remainder=False).prefetch(2)
