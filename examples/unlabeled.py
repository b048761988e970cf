"""A few labels, and many images without: pre-training, then training with both.

python examples/unlabeled.py [--quick]
"""

from __future__ import annotations

import sys

import etude
from etude.data import fashion_mnist


def main(quick: bool) -> None:
    """Looks at all images, then at the labels of some."""
    (x, y), test = fashion_mnist.load()
    images, labelled = (x[:1000], 400) if quick else (x, 1000)
    model = etude.models.small_cnn((28, 28, 1), classes=10, seed=0)
    # The network's features, without its head, learn to know an image again by two views of it.
    pretrained = etude.pretrain(model, images, objective="simclr", epochs=1 if quick else 20)
    print({name: round(values[-1], 3) for name, values in pretrained.history.items()})

    # The images without labels come beside those with labels; a study tells whether it helps.
    report = etude.fit(
        model, (x[:labelled], y[:labelled]), unlabeled=images, test=test, epochs=1 if quick else 20
    )
    report.summary()


if __name__ == "__main__":
    main("--quick" in sys.argv)
