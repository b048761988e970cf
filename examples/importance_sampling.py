"""A compiled model, trained on the samples that matter: one line more than Keras.

python examples/importance_sampling.py [--quick]
"""

from __future__ import annotations

import sys

import etude
from etude.data import fashion_mnist


def main(quick: bool) -> None:
    """Trains by the upper bound, and says how often samples were chosen."""
    import keras

    (x, y), test = fashion_mnist.load()
    samples, epochs = (800, 1) if quick else (10_000, 10)
    model = etude.models.small_cnn((28, 28, 1), classes=10, seed=0)
    model.compile(
        keras.optimizers.Adam(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    sampled = etude.ImportanceSampling(model, "upper_bound", presample=3, seed=0)
    history = sampled.fit(
        x[:samples], y[:samples], batch_size=64, epochs=epochs, validation_data=test
    ).history
    for epoch, (tau, share) in enumerate(zip(history["tau"], history["sampling"], strict=True), 1):
        print(f"epoch {epoch}: τ {tau:.2f}, samples were chosen in {share:.0%} of the steps")
    print(f"choosing pays above τ {sampled.threshold:.2f}")


if __name__ == "__main__":
    main("--quick" in sys.argv)
