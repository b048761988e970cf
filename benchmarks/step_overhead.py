"""Seconds per step: plain Keras on arrays and on `tf.data`, the Trainer on resident data.

All arms train the same network on the same data in one process, epoch by epoch in turn, so that
whatever slows the machine down slows all of them down. Two figures a round: a step, from the end
of an epoch's first to the end of its last; and the whole call of `fit` by its steps, which counts
the start and the end of the input pipeline in.
"""

from __future__ import annotations

import time
from typing import Any

from _common import finish, interval, parser, wait_until_idle

import keras  # isort: skip
import numpy as np
import tensorflow as tf
from scipy import stats  # type: ignore[import-untyped, unused-ignore]

import etude
from etude.data import Arrays
from etude.data.resident import Resident


def network(width: int) -> Any:
    """The network, compiled as a user would."""
    keras.utils.set_random_seed(0)
    model = etude.models.build("resnet9", (32, 32, 3), 10, width=width)
    return model


class Watch(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
    """Seconds per step of the latest epoch, without its first step."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Notes the time; reading the loss waits for the device."""
        float((logs or {})["loss"])
        if batch == 0:
            self.first = time.perf_counter()
        else:
            self.seconds = (time.perf_counter() - self.first) / batch


def paired(name: str, ours: list[float], theirs: list[float]) -> dict[str, float]:
    """Median and mean of the paired ratios with their 95 % intervals."""
    pairs = np.array(ours) / np.array(theirs)
    low, high = stats.quantile_test(pairs, p=0.5).confidence_interval()
    mean, half = interval(pairs.tolist())
    median = float(np.median(pairs))
    print(f"{name:30s} median {median:.3f} ({low:.3f} to {high:.3f}), mean {mean:.3f} ± {half:.3f}")
    return {"median": median, "low": low, "high": high, "mean": mean, "half": half}


def main() -> None:
    """Prints seconds per step and paired ratios."""
    made = parser(__doc__)
    made.add_argument("--width", type=int, default=8)
    made.add_argument("--batch_size", type=int, default=64)
    options = made.parse_args()
    count, rounds = (640, 3) if options.quick else (2560, 16)
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
        for _ in range(2):
            model.fit(**data, verbose=0)
    load = wait_until_idle()
    step: dict[str, list[float]] = {name: [] for name in arms}
    whole: dict[str, list[float]] = {name: [] for name in arms}
    watch = Watch()
    for turn in range(rounds):
        names = list(arms)
        for name in names[turn % 4 :] + names[: turn % 4]:
            model, data = arms[name]
            start = time.perf_counter()
            model.fit(**data, verbose=0, callbacks=[watch])
            whole[name].append((time.perf_counter() - start) / steps)
            step[name].append(watch.seconds)
    medians = {}
    for name in arms:
        medians[name] = [1000 * float(np.median(values[name])) for values in (step, whole)]
        print(f"{name:18s} {medians[name][0]:8.2f} ms a step, {medians[name][1]:8.2f} in the whole")
    ratio = {
        f"resident / {name}, {label}": paired(
            f"resident / {name}, {label}", values["resident"], values[name]
        )
        for name in ("arrays", "tf.data")
        for label, values in (("step", step), ("whole", whole))
    }
    reached = ratio["resident / arrays, step"]["median"] <= 1.03
    finish(
        "step_overhead",
        n=rounds,
        steps_per_round=steps,
        width=options.width,
        batch_size=batch,
        load=load,
        ms=medians,
        ratio=ratio,
        reached=reached and ratio["resident / tf.data, step"]["median"] < 1.0,
    )


if __name__ == "__main__":
    main()
