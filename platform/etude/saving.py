"""Loading saved models together with the losses and metrics that are Étude's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras


def load_model(path: str | Path, **options: Any) -> keras.Model:
    """`keras.saving.load_model`, with Étude's own losses and metrics known to Keras.

    A segmentation model is saved with the loss and metrics it was compiled with, and some
    are Étude's. Without them, `keras.saving.load_model(path, compile=False)` loads it
    anywhere.

    Args:
        path: A `.keras` file.
        options: As for `keras.saving.load_model`.
    """
    import keras

    import etude.tasks._masked  # noqa: F401  registers them

    return keras.saving.load_model(path, **options)
