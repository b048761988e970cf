"""Which part of an element is the image, the label and the weight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from etude.data.convert import kind_of
from etude.errors import DataError

IMAGE_KEYS = ("image", "images", "x")
LABEL_KEYS = (
    "label", "labels", "y", "segmentation_mask", "mask", "masks", "segmentation_label", "depth",
)  # fmt: skip
WEIGHT_KEYS = ("weight", "weights", "sample_weight", "w")

_ACCEPTED = (
    "images, (images, labels), (images, labels, weights) or a dict with "
    f"an image key {IMAGE_KEYS}, a label key {LABEL_KEYS} and maybe a weight key {WEIGHT_KEYS}."
)


def _find(element: Mapping[str, Any], keys: tuple[str, ...], name: str) -> Any:
    present = [key for key in keys if key in element]
    if len(present) > 1:
        raise DataError(
            f"The elements of {name} have several candidates for one part.",
            required=f"One key out of {keys}.",
            received=f"The keys {present}.",
            advice="Select the parts yourself: dataset.map(lambda e: (e['image'], e['label'])).",
        )
    return element[present[0]] if present else None


def parts(element: Any, *, name: str, labelled: bool) -> tuple[Any, ...]:
    """The parts of an element (or of its spec): `(images,)` up to `(images, labels, weights)`.

    Args:
        element: A tuple, a dict or a bare image.
        name: What messages call the source.
        labelled: Whether labels are wanted; if not, labels and weights are left out.

    Raises:
        DataError: If the element is none of these, or labels are wanted and absent.
    """
    if isinstance(element, Mapping):
        found = [_find(element, keys, name) for keys in (IMAGE_KEYS, LABEL_KEYS, WEIGHT_KEYS)]
        values = tuple(found)
        known = values[0] is not None
        while values and values[-1] is None:
            values = values[:-1]
    elif isinstance(element, tuple):
        # Keras writes an absent weight as None.
        values = element
        while len(values) > 1 and values[-1] is None:
            values = values[:-1]
        known = 1 <= len(values) <= 3
    else:
        values, known = (element,), True
    if not known:
        keys = f" with the keys {sorted(map(str, element))}" if isinstance(element, Mapping) else ""
        raise DataError(
            f"The parts of {name} are not understood.",
            required=_ACCEPTED,
            received=f"{kind_of(element)}{keys}.",
            advice="Give images and labels as (images, labels).",
        )
    for value in values:
        if isinstance(value, (Mapping, tuple)):
            raise DataError(
                f"A part of {name} is itself a {type(value).__name__}.",
                required=_ACCEPTED,
                received=f"{kind_of(value)}.",
                advice="Pass one array for the images and one for the labels; of "
                "((x, y), (x_test, y_test)) pass the pairs separately; a tuple of images needs "
                "np.stack.",
            )
    if not labelled:
        return values[:1]
    if len(values) < 2 or values[1] is None:
        raise DataError(
            f"The samples of {name} have no labels.",
            required="Images with labels.",
            received=f"{kind_of(element)}.",
            advice="Pass (images, labels); images without labels go to unlabeled=.",
        )
    return values
