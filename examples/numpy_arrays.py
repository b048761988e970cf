"""NumPy arrays in, a trained model and its report out.

python examples/numpy_arrays.py            # a time budget of two minutes
python examples/numpy_arrays.py --quick    # one pass over a few images
"""

from __future__ import annotations

import sys
from typing import Any

import etude
from etude.data import fashion_mnist


def main(quick: bool) -> None:
    """Trains a ResNet-9 on the Fashion-MNIST images that come with Étude."""
    (x_train, y_train), test = fashion_mnist.load()
    end: dict[str, Any] = {"time_budget": "2m"}
    if quick:
        x_train, y_train = x_train[:500], y_train[:500]
        test = test[0][:100], test[1][:100]
        end = {"epochs": 1}

    model = etude.models.resnet9((28, 28, 1), classes=10, width=4 if quick else 16, seed=0)
    # No validation data are given, so a part of the training data is held out. The test
    # data are touched once, at the end.
    report = etude.fit(model, (x_train, y_train), test=test, **end)
    report.summary()


if __name__ == "__main__":
    main("--quick" in sys.argv)
