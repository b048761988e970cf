"""Twenty runs of `etude.fit` with a time budget: when they end, and how much of it they use."""

from __future__ import annotations

import time
from typing import Any

from _common import finish, parser, wait_until_idle

import keras  # isort: skip
import numpy as np

import etude
from etude.data import fashion_mnist

# (model, options, seconds): 20 runs of three models.
RUNS: list[tuple[str, dict[str, Any], int]] = [
    *[("small_cnn", {}, 30)] * 5,
    *[("resnet9", {"width": 4}, 30)] * 5,
    *[("resnet9", {"width": 8}, 30)] * 3,
    ("small_cnn", {}, 60),
    ("resnet9", {"width": 4}, 60),
    ("resnet9", {"width": 8}, 60),
    ("small_cnn", {}, 120),
    ("resnet9", {"width": 4}, 120),
    ("resnet9", {"width": 8}, 120),
    ("resnet9", {"width": 8}, 300),
]


def main() -> None:
    """Prints a line per run: budget, time taken, share used, whether the schedule ended."""
    options = parser(__doc__).parse_args()
    runs = [("small_cnn", {}, 15)] if options.quick else RUNS
    (x, y), (x_test, y_test) = fashion_mnist.load()
    rows = []
    for seed, (name, settings, seconds) in enumerate(runs):
        load = wait_until_idle(60.0)
        keras.utils.set_random_seed(seed)
        model = etude.models.build(name, (28, 28, 1), 10, **settings)
        start = time.monotonic()
        report = etude.fit(
            model, (x, y), test=(x_test, y_test), time_budget=seconds, seed=seed, verbose=0
        )
        took = time.monotonic() - start
        rate = report.history["learning_rate"]
        rows.append(
            {
                "model": f"{name}{settings.get('width', '')}",
                "budget": seconds,
                "took": took,
                "share": took / seconds,
                "finished": report.finished and rate[-1] < 0.02 * max(rate),
                "steps": report.budget["steps"],
                "test_accuracy": report.outcome["test_accuracy"],
                "load": load,
            }
        )
        print(
            f"{rows[-1]['model']:12s} {seconds:4d} s: took {took:7.2f} s "
            f"({100 * took / seconds:5.1f} %), schedule finished: {rows[-1]['finished']}, "
            f"{report.budget['steps']} steps, load {load:.2f}",
            flush=True,
        )
    shares = np.array([row["share"] for row in rows])
    within = int(((shares <= 1.0) & (shares >= 0.9)).sum())
    print(f"{within} of {len(rows)} within +0 / -10 %")
    finish(
        "time_budget",
        n=len(rows),
        within=within,
        shares={"least": shares.min(), "mean": shares.mean(), "most": shares.max()},
        finished=sum(bool(row["finished"]) for row in rows),
        rows=rows,
        reached=within == len(rows) and all(row["finished"] for row in rows),
    )


if __name__ == "__main__":
    main()
