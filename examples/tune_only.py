"""Study once, train later: the recipe is a file.

python examples/tune_only.py [--quick]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import etude
from etude.data import fashion_mnist


def main(quick: bool) -> None:
    """Tunes, stores the recipe, and trains another model by it."""
    (x, y), _ = fashion_mnist.load()
    if quick:
        x, y = x[:1000], y[:1000]
    epochs = 2 if quick else 10

    model = etude.models.small_cnn((28, 28, 1), classes=10, seed=0)
    tuning = etude.tune(model, (x, y), epochs=epochs)
    tuning.summary()

    with tempfile.TemporaryDirectory() as folder:
        tuning.save(folder)
        recipe = etude.Recipe.load(Path(folder) / "recipe.yaml")
    # What the recipe holds is kept: nothing in `keep` is studied again.
    fresh = etude.models.small_cnn((28, 28, 1), classes=10, seed=1)
    report = etude.fit(fresh, (x, y), recipe=recipe, keep=["optimization"], epochs=epochs)
    report.summary()


if __name__ == "__main__":
    main("--quick" in sys.argv)
