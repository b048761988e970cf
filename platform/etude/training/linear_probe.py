"""How good features are: the accuracy of a linear classifier that is trained on them by LARS."""

from __future__ import annotations

import keras
import numpy as np
import numpy.typing as npt

from etude.optim.lars import LARS

RATE, BATCH, EPOCHS = 1.6, 256, 90
"""As of SimSiam's linear evaluation (Chen & He 2021, appendix A): .1 for 256 of a batch of 4,096,
which with rates in proportion to the weights holds for smaller batches, too."""

Floats = npt.NDArray[np.floating]


def linear_probe(
    bank: Floats,
    labels: npt.NDArray[np.integer],
    queries: Floats,
    truth: npt.NDArray[np.integer],
    *,
    epochs: int = EPOCHS,
    batch_size: int = BATCH,
    learning_rate: float = RATE,
    seed: int = 0,
) -> float:
    """The share of queries whose class a linear classifier tells, which was trained on a bank.

    LARS with momentum .9 and without decay on a cosine. Columns are brought to mean 0 and standard
    deviation 1 over the bank before, so that the features' scale is of no matter.

    Args:
        bank: `(samples, features)`.
        labels: `(samples,)`, classes from 0.
        queries: `(queries, features)`.
        truth: `(queries,)`.
        epochs: Passes over the bank.
        batch_size: Of the training; of a smaller bank all of it.
        learning_rate: The peak.
        seed: Of the initial weights and of the order.
    """
    mean, deviation = bank.mean(axis=0), bank.std(axis=0)
    scale = np.where(deviation > 0.0, deviation, 1.0)
    x, others = ((part - mean) / scale for part in (bank, queries))
    size = min(batch_size, len(x))
    start = keras.initializers.RandomNormal(stddev=0.01, seed=seed)
    classes = int(max(labels.max(), truth.max())) + 1
    model = keras.Sequential(
        [
            keras.layers.Input((x.shape[1],)),
            keras.layers.Dense(classes, kernel_initializer=start, dtype="float32"),
        ]
    )
    steps = len(x) // size
    decay = keras.optimizers.schedules.CosineDecay(learning_rate, epochs * steps)
    model.compile(
        LARS(decay, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(len(x))[: steps * size] for _ in range(epochs)])
    # In one epoch of Keras', whose own order would depend on its global seed.
    model.fit(
        x[order].astype(np.float32),
        labels[order],
        batch_size=size,
        shuffle=False,
        verbose=0,
    )
    found = model.predict(others.astype(np.float32), batch_size=1024, verbose=0)
    return float(np.mean(found.argmax(axis=1) == truth))
