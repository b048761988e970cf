"""The whole product at equal time: plain Keras' wall-clock is the others' budget.

Plain: Adam at 1e-3, batch 64, Keras' defaults, 10 epochs; its best test accuracy over the epochs,
the evaluations left out of its clock. Étude: one call of `fit` with that many seconds as its time
budget, from the same initial weights. Expert: AdamW on a one-cycle schedule, with flips and crops
in `tf.data`, written by hand; as many steps as fit into the same seconds at its pace, its rate from
a sweep that is not counted (`--arms expert --rate …`).

The arms of a seed run one after the other, so that they share the machine's pace.

    python benchmarks/equal_time.py --size 16 --train 20000
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from pathlib import Path
from typing import Any

from _common import finish, interval, parser, wait_until_idle

import keras  # isort: skip
import numpy as np
from learning_rate import Split, cifar
from time_to_accuracy import loss, network, plain, test_part

import etude


def with_etude(
    args: argparse.Namespace, train: Split, test: Split, seed: int, seconds: float
) -> dict[str, Any]:
    """One call of `fit`."""
    model = network(args, seed)
    start = time.monotonic()
    report = etude.fit(model, train, time_budget=seconds, seed=seed, verbose=0)
    took = time.monotonic() - start
    return {
        "accuracy": model.evaluate(*test, batch_size=250, verbose=0, return_dict=True)["accuracy"],
        "seconds": took,
        "epochs": report.budget["epochs_done"],
        "study": sum(row["true"] for row in report.costs if row["part"].startswith("study")),
        "why": {finding.learner: finding.why for finding in report.findings},
    }


def expert(
    args: argparse.Namespace, train: Split, test: Split, seed: int, seconds: float
) -> dict[str, Any]:
    """AdamW, one cycle, flips and crops by hand."""
    import tensorflow as tf

    batch, side, pad = args.expert_batch, args.size, args.size // 8
    start = time.monotonic()
    keras.utils.set_random_seed(seed)
    model = network(args, seed)
    model.compile(keras.optimizers.AdamW(weight_decay=args.decay), loss(), metrics=["accuracy"])

    def changed(image: Any, label: Any) -> Any:
        image = tf.image.random_flip_left_right(image)
        image = tf.pad(image, [[pad, pad], [pad, pad], [0, 0]])
        return tf.image.random_crop(image, (side, side, 3)), label

    data = tf.data.Dataset.from_tensor_slices(train).shuffle(len(train[0]), seed=seed).repeat()
    data = data.map(changed, num_parallel_calls=tf.data.AUTOTUNE).batch(batch).prefetch(2)

    class OneCycle(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
        """Rises over a quarter of the steps, and falls to nothing with the last."""

        def __init__(self) -> None:
            super().__init__()
            self.done, self.total, self.begun = 0, 0, 0.0

        def on_train_batch_begin(self, index: int, logs: Any = None) -> None:
            if self.done == TIMED:
                self.begun = time.monotonic()
            if self.done == 2 * TIMED:  # compiled, and its pace is known
                pace = (time.monotonic() - self.begun) / TIMED
                left = seconds - (time.monotonic() - start)
                self.total = self.done + max(1, int(left / pace))
            t = (self.done + 0.5) / (self.total or 1e9)
            share = t / 0.25 if t < 0.25 else max(0.0, 1.0 - (t - 0.25) / 0.75)
            rate = args.rate * 0.5 * (1.0 - np.cos(np.pi * share))
            self.model.optimizer.learning_rate = max(rate, 1e-6)
            self.done += 1

        def on_train_batch_end(self, index: int, logs: Any = None) -> None:
            if self.total and self.done >= self.total:
                self.model.stop_training = True

    cycle = OneCycle()
    model.fit(data, steps_per_epoch=10**6, epochs=1, verbose=0, callbacks=[cycle])
    took = time.monotonic() - start
    accuracy = model.evaluate(*test, batch_size=250, verbose=0, return_dict=True)["accuracy"]
    epochs = cycle.done * batch / len(train[0])
    return {"accuracy": accuracy, "seconds": took, "epochs": epochs, "rate": args.rate}


# Steps to warm up in the expert's run, and as many again that are timed.
TIMED = 200
ARMS = {"etude": with_etude, "expert": expert}


def main() -> None:
    """All arms of all seeds."""
    made = parser(__doc__)
    made.add_argument("--arms", nargs="+", choices=tuple(ARMS), default=tuple(ARMS))
    made.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    made.add_argument("--epochs", type=int, default=10)
    made.add_argument("--size", type=int, choices=(8, 16, 32), default=32)
    made.add_argument("--width", type=int, default=16)
    made.add_argument("--train", type=int, default=50_000)
    made.add_argument("--rate", type=float, default=1e-2, help="the expert's peak rate")
    made.add_argument("--decay", type=float, default=5e-2, help="the expert's weight decay")
    made.add_argument("--expert_batch", type=int, default=64)
    made.add_argument("--seconds", type=float, help="in the place of plain Keras', not run then")
    made.add_argument("--keep", type=Path, help="a file of rows: read first, then added to")
    args = made.parse_args()
    if args.quick:
        args.seeds, args.epochs, args.size, args.width, args.train = [0], 2, 16, 4, 5_000
    train, _ = cifar(args.train, 0, args.size)
    test = test_part(args.size)
    known = args.keep is not None and args.keep.exists()
    rows = [json.loads(line) for line in args.keep.open()] if known else []

    def note(row: dict[str, Any]) -> None:
        rows.append(row)
        print(json.dumps(row), flush=True)
        if args.keep:
            with args.keep.open("a") as file:
                file.write(json.dumps(row) + "\n")

    for seed in args.seeds:
        wait_until_idle()
        seconds = args.seconds
        if seconds is None:
            row = plain(args, train, test, seed)
            note(row | {"accuracy": max(row["accuracies"])})
            seconds = row["seconds"][-1]
        for arm in args.arms:
            gc.collect()
            note({"arm": arm, "seed": seed, **ARMS[arm](args, train, test, seed, seconds)})
    finish("equal_time", quick=args.quick, **said(rows))


def said(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean errors, Étude's as a share of plain Keras', and its difference from the expert's."""
    errors: dict[str, dict[int, float]] = {}
    for row in rows:
        errors.setdefault(row["arm"], {})[row["seed"]] = 100.0 * (1.0 - row["accuracy"])
    figures: dict[str, Any] = {
        arm: [round(part, 2) for part in interval(list(found.values()))]
        for arm, found in errors.items()
    }
    ours = errors.get("etude", {})
    for other, name in (("plain", "share_of_plain"), ("expert", "minus_expert")):
        both = [seed for seed in ours if seed in errors.get(other, {})]
        if both:
            theirs = errors[other]
            paired = [
                ours[seed] / theirs[seed] if other == "plain" else ours[seed] - theirs[seed]
                for seed in both
            ]
            figures[name] = [round(part, 3) for part in interval(paired)]
    return figures


if __name__ == "__main__":
    main()
