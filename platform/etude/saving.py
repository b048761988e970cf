"""Loading saved models together with the losses, metrics, optimizers and layers of Étude's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras


def load_model(path: str | Path, **options: Any) -> keras.Model:
    """`keras.saving.load_model`, with Étude's own losses, metrics, optimizers and layers known.

    A model is saved with the loss, the metrics and the optimizer it was compiled with, and
    some are Étude's. Without them, `keras.saving.load_model(path, compile=False)` loads it
    anywhere, unless it has layers of Étude's, as `vit` and `dispnet` do.

    Args:
        path: A `.keras` file.
        options: As for `keras.saving.load_model`.
    """
    import keras

    import etude.models.disparity
    import etude.models.transformer
    import etude.optim._registry
    import etude.tasks._depth_measures
    import etude.tasks._masked  # noqa: F401  all register what is theirs

    return keras.saving.load_model(path, **options)
