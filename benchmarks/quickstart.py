"""Étude against plain Keras in the same wall-clock, paired seeds, on the packaged images.

Per seed, one after the other and from the same initial weights: `etude.fit` with a time
budget, then `model.fit` with Adam and Keras' defaults for exactly as long as that took; with
`--same_batch` once more with Étude's batch size. The test set is evaluated once per arm.
"""

from __future__ import annotations

import gc
import time
from typing import Any

from _common import finish, interval, parser, wait_until_idle

import keras  # isort: skip
import numpy as np

import etude
from etude._baseline import BATCH_SIZE, plain_fit
from etude._command_data import Sets
from etude.data import fashion_mnist, open_source


def main() -> None:
    """Prints a line per seed, and the paired difference with its interval."""
    made = parser(__doc__)
    made.add_argument("--seeds", type=int, default=5)
    made.add_argument("--first_seed", type=int, default=0)
    made.add_argument("--seconds", type=float, default=75.0)
    made.add_argument("--width", type=int, default=8)
    made.add_argument("--same_batch", action="store_true", help="a third arm: Étude's batch size")
    options = made.parse_args()
    if options.quick:
        options.seeds, options.seconds, options.width = 2, 20.0, 4
    (x, y), (x_test, y_test) = fashion_mnist.load()
    rows: list[dict[str, float]] = []
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        gc.collect()  # freeing what plain Keras iterated over may wait for seconds
        load = wait_until_idle(120.0)
        keras.utils.set_random_seed(seed)
        model = etude.models.build("resnet9", (28, 28, 1), 10, width=options.width)
        initial = model.get_weights()
        start = time.monotonic()
        report = etude.fit(
            model, (x, y), test=(x_test, y_test), time_budget=options.seconds, seed=seed, verbose=0
        )
        seconds = time.monotonic() - start
        row = {"etude": report.outcome["test_accuracy"], "seconds": seconds, "load": load}
        row["rate"] = report.recipe.optimization.learning_rate or float("nan")
        row["epochs"] = report.budget["epochs_done"]
        arms = {"plain": BATCH_SIZE, "same_batch": report.recipe.compute.batch_size}
        for name, batch_size in list(arms.items())[: 1 + options.same_batch]:
            other = etude.models.build("resnet9", (28, 28, 1), 10, width=options.width)
            other.set_weights(initial)
            gc.collect()
            sets = Sets(open_source((x, y)), test=open_source((x_test, y_test), name="test"))
            plain = plain_fit(other, sets, seconds, seed=seed, batch_size=batch_size)
            row[name] = plain.outcome["test_accuracy"]
            row[f"{name}_epochs"] = plain.epochs
        rows.append(row)
        print(f"seed {seed}: " + "  ".join(f"{k} {v:.4g}" for k, v in row.items()), flush=True)
    gains: dict[str, dict[str, Any]] = {}
    names = [name for name in ("plain", "same_batch") if name in rows[0]]
    for name in names:
        mean, half = interval([row["etude"] - row[name] for row in rows])
        gains[name] = {"mean": mean, "interval": [mean - half, mean + half]}
        print(
            f"Étude - {name}: {mean:+.4f} (95 % interval {mean - half:+.4f} to {mean + half:+.4f})"
        )
    finish(
        "quickstart",
        n=options.seeds,
        budget=options.seconds,
        width=options.width,
        accuracy={name: float(np.mean([row[name] for row in rows])) for name in ("etude", *names)},
        gain=gains,
        rows=rows,
        reached=gains["plain"]["mean"] > 0,
    )


if __name__ == "__main__":
    main()
