"""Seconds per step: plain Keras on arrays and on `tf.data`, the Trainer on resident data.

All three train the same network on the same data in one process, epoch by epoch in turn, so
that whatever slows the machine down slows all of them down.
"""

from __future__ import annotations

import time
from typing import Any

from _common import finish, interval, parser, wait_until_idle

import keras  # isort: skip
import numpy as np
import tensorflow as tf

import etude
from etude.data import Arrays
from etude.data.resident import Resident


def network(width: int) -> Any:
    """The network, compiled as a user would."""
    keras.utils.set_random_seed(0)
    model = etude.models.build("resnet9", (32, 32, 3), 10, width=width)
    return model


def main() -> None:
    """Prints seconds per step and paired ratios."""
    made = parser(__doc__)
    made.add_argument("--width", type=int, default=8)
    made.add_argument("--batch_size", type=int, default=64)
    options = made.parse_args()
    count, rounds = (640, 3) if options.quick else (1280, 12)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (count, 32, 32, 3)).astype("uint8")
    y = rng.integers(0, 10, count)
    batch = options.batch_size
    steps = count // batch
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    stream = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(count).batch(batch)
    arms: dict[str, tuple[Any, dict[str, Any]]] = {
        "arrays": (network(options.width), {"x": x, "y": y, "batch_size": batch}),
        "tf.data": (network(options.width), {"x": stream.prefetch(tf.data.AUTOTUNE)}),
        "trainer on arrays": (
            etude.Trainer(network(options.width)), {"x": x, "y": y, "batch_size": batch},
        ),
        "resident": (
            etude.Trainer(network(options.width)),
            {"x": Resident(Arrays(x, y)), "batch_size": batch},
        ),
    }  # fmt: skip
    for model, data in arms.values():
        model.compile("adam", loss, metrics=["accuracy"])
        model.fit(**data, verbose=0)
    load = wait_until_idle()
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(rounds):
        names = list(arms)
        for name in names[turn % 4 :] + names[: turn % 4]:
            model, data = arms[name]
            start = time.perf_counter()
            model.fit(**data, verbose=0)
            seconds[name].append((time.perf_counter() - start) / steps)
    for name, values in seconds.items():
        print(f"{name:18s} {1000 * np.median(values):8.2f} ms a step (median of {rounds})")
    ratios = {}
    for name in ("arrays", "tf.data"):
        pairs = np.array(seconds["resident"]) / np.array(seconds[name])
        ratios[name] = interval(pairs.tolist())
        print(f"resident / {name:8s} {ratios[name][0]:.3f} ± {ratios[name][1]:.3f} (95 %)")
    finish(
        "step_overhead",
        n=rounds,
        steps_per_round=steps,
        width=options.width,
        batch_size=batch,
        load=load,
        ms={name: 1000 * float(np.median(values)) for name, values in seconds.items()},
        ratio={name: {"mean": m, "interval": h} for name, (m, h) in ratios.items()},
        reached=ratios["arrays"][0] <= 1.03 and ratios["tf.data"][0] < 1.0,
    )


if __name__ == "__main__":
    main()
