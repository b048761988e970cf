"""A few labels, and many images without: pre-training, training with both, and a student.

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

    # What the model says of images that it is sure of teaches a smaller one.
    small = etude.models.small_cnn((28, 28, 1), classes=10, width=4, seed=0)
    told = etude.distill(
        small, model, (x[:labelled], y[:labelled]), images, epochs=1 if quick else 20
    )
    print({name: round(value, 3) for name, value in told.outcome.items()})


if __name__ == "__main__":
    main("--quick" in sys.argv)
