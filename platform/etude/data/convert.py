"""From whatever the user holds to checked NumPy arrays; every refusal names the sample."""

from __future__ import annotations

import mmap
import types
from collections.abc import Iterator
from typing import Any

import numpy as np

from etude.errors import DataError

Array = np.ndarray[Any, Any]

IMAGE_LAYOUT = "Images as (samples, height, width, channels) or (samples, height, width)."


def kind_of(value: Any) -> str:
    """A value's type, and its shape and dtype where it has them, for messages."""
    kind = type(value).__name__
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{kind} of shape {tuple(value.shape)} and dtype {value.dtype}"
    if isinstance(value, (list, tuple, dict)):
        return f"{kind} with {len(value)} items"
    return kind


def refuse_kinds(value: Any, what: str, name: str) -> None:
    """Raise for values that NumPy would swallow but that are no arrays."""
    if value is None:
        raise DataError(
            f"The {what} of {name} are missing.",
            required="An array.",
            received="None.",
            advice="Pass (images, labels), a tf.data.Dataset, a folder or a TFDS name.",
        )
    if type(value).__module__.split(".")[0] == "pandas" and hasattr(value, "columns"):
        raise DataError(
            f"The {what} of {name} are a table.",
            required="An array.",
            received=f"a pandas {type(value).__name__} of shape {value.shape}.",
            advice="Pass frame.to_numpy(); flat images also need .reshape(-1, h, w, c).",
        )
    if isinstance(value, (types.GeneratorType, Iterator)):
        raise DataError(
            f"The {what} of {name} are a generator, which can be read only once.",
            required="Data that can be read again in every epoch.",
            received=f"{kind_of(value)}.",
            advice="Wrap the generator function: tf.data.Dataset.from_generator("
            "function, output_signature=(image_spec, label_spec)).",
        )
    if isinstance(value, (dict, set, str, bytes)):
        raise DataError(
            f"The {what} of {name} are no array.",
            required="An array.",
            received=f"{kind_of(value)}.",
            advice="Pass one array of numbers.",
        )


def _ragged(value: Any, what: str, name: str) -> DataError:
    shapes: list[tuple[int, ...]] = []
    odd = ""
    try:
        for index, item in enumerate(value):
            shapes.append(tuple(np.shape(item)))
            if shapes[-1] != shapes[0]:
                odd = f": sample 0 has shape {shapes[0]}, sample {index} has {shapes[-1]}"
                break
    except (TypeError, ValueError):
        odd = f", from sample {len(shapes)} on"
    return DataError(
        f"The {what} of {name} are not of one shape{odd}.",
        required="Samples of one shape and a numeric type.",
        received=f"{kind_of(value)}.",
        advice="Bring all samples to one shape first, or pass a folder or an unbatched "
        "tf.data.Dataset together with resize=(height, width).",
    )


def is_mapped(array: Array) -> bool:
    """Whether an array, or what it is a view of, lies in a file."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, mmap.mmap)


def as_array(value: Any, what: str, name: str, *, as_mapped: bool = False) -> Array:
    """`value` as a native-endian array, never of objects.

    Args:
        value: What the user holds.
        what: What messages call it.
        name: What messages call the set.
        as_mapped: Leaves what lies in a file in its byte order.

    Raises:
        DataError: For None, generators, tables, ragged lists and objects.
    """
    refuse_kinds(value, what, name)
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise _ragged(value, what, name) from error
    for text in (str, bytes):
        if array.dtype == object and array.size and all(isinstance(i, text) for i in array.flat):
            return array.astype(text)
    if array.dtype == object:
        raise _ragged(value, what, name)
    if array.dtype.kind == "V":  # bfloat16 and its like
        array = array.astype(np.float32)
    if not array.dtype.isnative and not (as_mapped and is_mapped(array)):
        array = array.astype(array.dtype.newbyteorder("="))
    return array


def as_images(value: Any, name: str, *, as_mapped: bool = False) -> Array:
    """Images as `(samples, height, width, channels)`.

    Float64 becomes float32, booleans become uint8, other types stay.

    Args:
        value: What the user holds.
        name: What messages call the set.
        as_mapped: Leaves what lies in a file in its type, to be converted as it is read.

    Raises:
        DataError: For anything that is not a non-empty set of images.
    """
    images = as_array(value, "images", name, as_mapped=as_mapped)
    if images.dtype.kind not in "buif":
        raise DataError(
            f"The images of {name} are not numbers.",
            required="Integers or floating point numbers.",
            received=f"{kind_of(images)}.",
            advice="Decode the images first, or pass the folder that holds the files.",
        )
    if not (as_mapped and is_mapped(images)):
        if images.dtype.kind == "b":
            images = images.astype(np.uint8)
        if images.dtype.kind == "f" and images.dtype.itemsize > 4:
            images = images.astype(np.float32)
    _check_rank(images, name)
    if images.ndim == 3:
        images = images[..., None]
    if images.size == 0:
        raise DataError(
            f"There are no images in {name}.",
            required="At least one image with at least one pixel.",
            received=f"{kind_of(images)}.",
            advice="Look at the step that loads or filters the data.",
        )
    return images


def _check_rank(images: Array, name: str) -> None:
    if images.ndim == 2:
        raise DataError(
            f"The images of {name} are flat rows of features.",
            required=IMAGE_LAYOUT,
            received=f"{kind_of(images)}.",
            advice="Reshape the rows: x.reshape(len(x), height, width, channels).",
        )
    if images.ndim == 3 and images.shape[2] in (1, 3, 4) and images.shape[1] > 4:
        raise DataError(
            f"The images of {name} look like one single image.",
            required=IMAGE_LAYOUT,
            received=f"{kind_of(images)}.",
            advice="Add the axis of samples: x[None]; one image is not enough to train on.",
        )
    if images.ndim not in (3, 4):
        raise DataError(
            f"The images of {name} have {images.ndim} axes.",
            required=IMAGE_LAYOUT,
            received=f"{kind_of(images)}.",
            advice="Bring the images to four axes.",
        )


def as_labels(value: Any, samples: int, name: str) -> Array:
    """Labels `(samples, ...)` as they came: no value and no type is changed.

    Raises:
        DataError: For another number of labels than images, or ragged labels.
    """
    labels = as_array(value, "labels", name)
    _check_length(labels, samples, "labels", name)
    return labels


def as_weights(value: Any, samples: int, name: str, *, all_of_them: bool = True) -> Array:
    """Sample weights `(samples,)`, float32, none negative, not all zero.

    Args:
        value: What the user holds.
        samples: How many there must be.
        name: What messages call the set.
        all_of_them: Whether these are all weights of the set; those of a batch may be zero.

    Raises:
        DataError: Naming the first sample whose weight is negative or not finite.
    """
    weights = as_array(value, "sample weights", name)
    if weights.dtype.kind not in "buif":
        raise DataError(
            f"The sample weights of {name} are not numbers.",
            required="One number for each sample.",
            received=f"{kind_of(weights)}.",
            advice="Pass weights as floating point numbers.",
        )
    _check_length(weights, samples, "sample weights", name)
    if weights.size != samples:
        raise many_weights(name, f"Shape ({samples},).", f"Shape {weights.shape}.")
    weights = weights.reshape(samples).astype(np.float32, copy=False)
    check_weights(weights, name, all_of_them=all_of_them)
    return weights


def many_weights(name: str, required: str, received: str) -> DataError:
    """The error for several weights of one sample."""
    return DataError(
        f"The sample weights of {name} are not one for each sample.",
        required=required,
        received=received,
        advice="Give one weight for each sample; a label to ignore serves for pixels.",
    )


def check_weights(weights: Array, name: str, first: int = 0, *, all_of_them: bool = True) -> None:
    """Refuse weights that are negative, not finite, or (when these are all) all zero.

    Args:
        weights: `(samples,)` float.
        name: What messages call the set.
        first: The position of `weights[0]` in the set.
        all_of_them: Whether these are all weights of the set.

    Raises:
        DataError: Naming the sample.
    """
    bad = ~(np.isfinite(weights) & (weights >= 0))
    if bad.any():
        index = int(np.argmax(bad))
        raise DataError(
            f"Sample {first + index} of {name} has the weight {weights[index]}.",
            required="Finite weights, none below zero.",
            received=f"{int(bad.sum())} such weights among {len(weights)}.",
            advice="Mend or drop these samples; the weight 0 leaves a sample out.",
        )
    if all_of_them and not weights.any():
        raise DataError(
            f"Every sample of {name} has the weight 0.",
            required="At least one weight above zero.",
            received=f"{len(weights)} weights, all zero (samples 0 to {len(weights) - 1}).",
            advice="Leave the weights out or compute them anew.",
        )


def _check_length(values: Array, samples: int, what: str, name: str) -> None:
    received = len(values) if values.ndim else 0
    if received != samples or not values.ndim:
        raise DataError(
            f"The images and the {what} of {name} differ in number.",
            required=f"{samples} {what}, one for each image.",
            received=f"{kind_of(values)}.",
            advice=f"Pass images and {what} of the same samples in the same order.",
        )
