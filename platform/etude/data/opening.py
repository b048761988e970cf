"""The one door: whatever the user holds, as a source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from etude.data._base import Arrays, Source
from etude.data.arrays import ArraySource
from etude.data.convert import as_images, as_labels, as_weights, refuse_kinds
from etude.data.fields import parts
from etude.data.resize import Resize, is_mask, parse_resize

DEFAULT_MEMORY = 4 * 2**30


def open_source(
    data: Any,
    *,
    name: str = "train",
    resize: Any = None,
    memory_budget: int = DEFAULT_MEMORY,
    labelled: bool = True,
    mask_fill: int | None = None,
) -> Source:
    """Whatever the user holds, as a source.

    Args:
        data: `(x, y)`, `(x, y, w)`, a bare `x` or a dict of these, of anything that
            `np.asarray` takes; a `tf.data.Dataset`; a `keras.utils.PyDataset`; `"tfds:NAME"`
            (also `"tfds:NAME/CONFIG[SPLIT]"`, with `"?download"` behind it to allow that); a
            folder of class folders, or of `images/` and `masks/`; an `.npz` file; a `Source`,
            which is returned as it is (resized if asked).
        name: What messages call the set; also chooses the split of a TFDS set or `.npz` file.
        resize: `None`, `(h, w)` or `{"size": (h, w), "how": "stretch" | "pad" | "crop"}`.
        memory_budget: Bytes that decoded files and shuffle buffers keep within.
        labelled: Whether labels are wanted. If not, labels that are there are left out.
        mask_fill: The label that the padding of masks gets under `"pad"`.

    Returns:
        The source. Images are `(height, width, channels)`; float64 became float32.

    Raises:
        DataError: If the data cannot be a set of images, and why.

    Example:
        >>> import numpy as np
        >>> source = open_source((np.zeros((6, 8, 8), np.uint8), np.arange(6)))
        >>> source.size, source.spec.image_shape
        (6, (8, 8, 1))
    """
    policy = parse_resize(resize)
    if isinstance(data, Source):
        return _resized(data, policy, mask_fill)
    if isinstance(data, (str, Path)):
        return _from_text(
            data,
            name=name,
            policy=policy,
            memory_budget=memory_budget,
            labelled=labelled,
            mask_fill=mask_fill,
        )
    if not isinstance(data, (tuple, list, dict, np.ndarray)) and data is not None:
        source = _from_stream(
            data,
            name=name,
            policy=policy,
            memory_budget=memory_budget,
            labelled=labelled,
            mask_fill=mask_fill,
        )
        if source is not None:
            return source
    return _resized(from_arrays(data, name=name, labelled=labelled), policy, mask_fill)


def from_arrays(data: Any, *, name: str = "train", labelled: bool = True) -> ArraySource:
    """`(x, y)`, `(x, y, w)`, a bare `x` or a dict of these, as a source.

    Raises:
        DataError: If they are no images and labels of equal number.
    """
    if not isinstance(data, (tuple, dict)):
        refuse_kinds(data, "samples", name)
    values = parts(data, name=name, labelled=labelled)
    images = as_images(values[0], name, as_mapped=True)
    labels = as_labels(values[1], len(images), name) if len(values) > 1 else None
    weights = as_weights(values[2], len(images), name) if len(values) > 2 else None
    return ArraySource(Arrays(images, labels, weights), name=name)


def _resized(source: Source, policy: Resize | None, mask_fill: int | None) -> Source:
    from etude.data.adapter import AdaptedSource, Adapter

    if policy is None or source.spec.image_shape[:2] == policy.size:
        return source
    masks = is_mask(source.spec.label_shape, source.spec.image_shape)
    return AdaptedSource(source, Adapter(resize=policy, masks=masks, mask_fill=mask_fill))


def _from_text(
    data: str | Path,
    *,
    name: str,
    policy: Resize | None,
    memory_budget: int,
    labelled: bool,
    mask_fill: int | None,
) -> Source:
    text = str(data)
    if text.startswith("tfds:"):
        from etude.data._tfds import open_tfds

        return open_tfds(
            text,
            name=name,
            resize=policy,
            mask_fill=mask_fill,
            memory_budget=memory_budget,
            labelled=labelled,
        )
    path = Path(data).expanduser()
    if path.suffix.lower() == ".npz":
        from etude.data.npz import npz_part

        values = npz_part(path, name)
        return _resized(from_arrays(values, name=name, labelled=labelled), policy, mask_fill)
    from etude.data.folder import open_folder

    return open_folder(
        path,
        name=name,
        resize=policy,
        mask_fill=mask_fill,
        memory_budget=memory_budget,
        labelled=labelled,
    )


def _from_stream(
    data: Any,
    *,
    name: str,
    policy: Resize | None,
    memory_budget: int,
    labelled: bool,
    mask_fill: int | None,
) -> Source | None:
    import keras
    import tensorflow as tf

    if isinstance(data, tf.data.Dataset):
        from etude.data.tfdata import DatasetSource

        return DatasetSource(
            data,
            name=name,
            resize=policy,
            mask_fill=mask_fill,
            memory_budget=memory_budget,
            labelled=labelled,
        )
    if isinstance(data, keras.utils.PyDataset):
        from etude.data.pydataset import PyDatasetSource

        source = PyDatasetSource(data, name=name, memory_budget=memory_budget, labelled=labelled)
        return _resized(source, policy, mask_fill)
    return None
