"""The transforms' names, by family, in the order in which they are applied."""

from __future__ import annotations

import difflib
import types
from collections.abc import Mapping

from etude.errors import RecipeError

FAMILIES: Mapping[str, tuple[str, ...]] = types.MappingProxyType(
    {
        "geometry": (
            "mirror_horizontal", "mirror_vertical", "quarter_turns", "rotation", "shear_x",
            "shear_y", "translation_x", "translation_y", "zoom_in", "zoom_out",
            "random_resized_crop", "perspective",
        ),
        "elastic": ("elastic",),
        "colour": (
            "brightness_up", "brightness_down", "contrast_up", "contrast_down", "saturation_up",
            "saturation_down", "hue", "invert", "grayscale", "channel_shuffle",
        ),
        "tone": ("auto_contrast", "gamma", "equalize", "solarize", "posterize"),
        "filters": ("sharpen", "gaussian_blur", "gaussian_noise"),
        "erasing": ("cutout", "random_erasing", "grid_mask"),
    }
)  # fmt: skip

OF_THREE_CHANNELS = frozenset(
    ("saturation_up", "saturation_down", "hue", "grayscale", "channel_shuffle")
)
"""What only images of red, green and blue can do."""

INDEX: Mapping[str, int] = types.MappingProxyType(
    {name: k for k, name in enumerate(name for family in FAMILIES.values() for name in family)}
)


def index_of(name: str) -> int:
    """A transform's index by its name.

    Raises:
        RecipeError: There is none of this name.
    """
    if name not in INDEX:
        near = difflib.get_close_matches(name, INDEX, n=1)
        raise RecipeError(
            f"There is no transform {name!r}.",
            required="one of " + ", ".join(INDEX),
            received=repr(name),
            advice=f"did you mean {near[0]!r}?" if near else "take one of these",
        )
    return INDEX[name]


def possible(name: str, channels: int) -> bool:
    """Whether images of so many channels can do what a name stands for."""
    return channels == 3 or name not in OF_THREE_CHANNELS


def span(family: str) -> tuple[int, int]:
    """First index of a family's transforms, and the one after its last."""
    first = INDEX[FAMILIES[family][0]]
    return first, first + len(FAMILIES[family])
