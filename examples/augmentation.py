"""Training with a policy of augmentation that is written by hand.

python examples/augmentation.py [--quick]
"""

from __future__ import annotations

import sys

import etude
from etude.augment import Choice, Policy, Slot
from etude.data import fashion_mnist


def main(quick: bool) -> None:
    """Writes a policy down and trains with it."""
    (x, y), test = fashion_mnist.load()
    samples = 800 if quick else 10000
    # Clothes are mirrored half the time, and half of them are turned or sheared a little.
    # Whatever is drawn for an image is one resampling.
    policy = Policy(
        slots=(
            Slot((Choice("mirror_horizontal", 50, 50),)),
            Slot((Choice("rotation", 0, 8), Choice("shear_x", 0, 15)), probability=0.5),
        ),
        fill="black",
    )
    print(policy.to_yaml())

    model = etude.models.small_cnn((28, 28, 1), classes=10, seed=0)
    recipe = etude.Recipe().give(augmentation={"policy": policy})
    report = etude.fit(
        model, (x[:samples], y[:samples]), test=test, recipe=recipe, epochs=1 if quick else 10
    )
    report.summary()


if __name__ == "__main__":
    main("--quick" in sys.argv)
