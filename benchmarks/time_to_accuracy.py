"""In what share of plain Keras' time does `etude.fit` reach plain Keras' best test accuracy?

Plain: Adam at 1e-3, batch 64, Keras' defaults, CIFAR-10's 50,000 training images, 10 epochs, the
test set evaluated after each, which its clock leaves out. The best accuracy of the mean curve over
the seeds is the mark, and the mean seconds to that epoch are the time.

Étude: the whole call of `etude.fit` with a time budget, from the same initial weights: inspection,
study, training, evaluation. The pace of a shared machine changes by a factor of two within
minutes, so plain Keras is timed in the same process right before and after, and its seconds to the
mark are its epochs to the mark at that pace. No augmentation on either side.

The last arm, `expert`, is AdamW on a one-cycle schedule written by hand with as many steps as fit
into the same seconds, its rate from a sweep that is not counted.

A run at 32 × 32 takes half an hour on two slow cores; `--size 16` averages the images down.

    python benchmarks/time_to_accuracy.py --size 16 --arms plain --keep plain.json
    python benchmarks/time_to_accuracy.py --size 16 --arms etude --seconds 100 --keep etude.json
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
from learning_rate import PACK, Split, cifar

import etude

BATCH = 64


def test_part(size: int) -> Split:
    """CIFAR-10's 10,000 test images."""
    from PIL import Image

    sheet = np.asarray(Image.open(PACK / "test_batch.webp"))
    x = sheet.reshape(100, 32, 100, 32, 3).swapaxes(1, 2).reshape(-1, 32, 32, 3)
    if size < 32:
        factor = 32 // size
        x = np.round(x.reshape(-1, size, factor, size, factor, 3).mean((2, 4))).astype(np.uint8)
    return x, np.load(PACK / "labels.npz")["test_batch"].astype("int64")


def network(args: argparse.Namespace, seed: int) -> keras.Model:
    """ResNet-9 at the initial weights of a seed."""
    return etude.models.build("resnet9", (args.size, args.size, 3), 10, width=args.width, seed=seed)


def loss() -> keras.losses.Loss:
    """What both arms minimize."""
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def plain(args: argparse.Namespace, train: Split, test: Split, seed: int) -> dict[str, Any]:
    """Test accuracy after each epoch, and the seconds of training up to there."""
    model = network(args, seed)
    model.compile("adam", loss(), metrics=["accuracy"])
    keras.utils.set_random_seed(seed)
    accuracies, seconds = [], []
    spent = 0.0
    for epoch in range(args.epochs):
        start = time.monotonic()
        model.fit(*train, batch_size=BATCH, initial_epoch=epoch, epochs=epoch + 1, verbose=0)
        spent += time.monotonic() - start
        seconds.append(spent)
        accuracies.append(model.evaluate(*test, batch_size=250, verbose=0)[1])
        print(f"plain seed {seed} epoch {epoch + 1} {accuracies[-1]:.4f} {spent:.1f} s", flush=True)
    return {"arm": "plain", "seed": seed, "accuracies": accuracies, "seconds": seconds}


class Pace:
    """Seconds that plain Keras takes for an epoch at this moment."""

    def __init__(self, args: argparse.Namespace, train: Split) -> None:
        self.model = network(args, 0)
        self.model.compile("adam", loss(), metrics=["accuracy"])
        self.part = (train[0][:6400], train[1][:6400])
        self.epochs = len(train[0]) / len(self.part[0])
        self()

    def __call__(self) -> float:
        """Times a part of an epoch."""
        gc.collect()
        start = time.monotonic()
        self.model.fit(*self.part, batch_size=BATCH, verbose=0)
        return (time.monotonic() - start) * self.epochs


def with_etude(args: argparse.Namespace, train: Split, test: Split, seed: int) -> dict[str, Any]:
    """One call of `fit`, timed from outside."""
    model = network(args, seed)
    pace = Pace(args, train)
    before = pace()
    start = time.monotonic()
    report = etude.fit(model, train, time_budget=args.seconds, seed=seed, verbose=0)
    seconds = time.monotonic() - start
    epoch = (before + pace()) / 2.0
    accuracy = model.evaluate(*test, batch_size=250, verbose=0, return_dict=True)
    study = sum(row["true"] for row in report.costs if row["part"].startswith("study"))
    row = {
        "arm": "etude",
        "seed": seed,
        "accuracy": accuracy["accuracy"],
        "seconds": seconds,
        "epochs": report.budget["epochs_done"],
        "study": study,
        "plain_epoch_seconds": epoch,
        "plain_epochs": seconds / epoch,
        "found": {finding.learner: finding.changes for finding in report.findings},
    }
    print(json.dumps(row), flush=True)
    return row


def expert(args: argparse.Namespace, train: Split, test: Split, seed: int) -> dict[str, Any]:
    """AdamW on a one-cycle schedule; compilation and a timed epoch's share count."""
    model = network(args, seed)
    steps_per_epoch = len(train[0]) // args.expert_batch
    start = time.monotonic()
    model.compile("adamw", loss(), metrics=["accuracy"])
    keras.utils.set_random_seed(seed)
    total = max(1, int(args.expert_epochs * steps_per_epoch))

    class OneCycle(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
        done = 0

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            t, up = (OneCycle.done + 0.5) / total, 0.25
            share = t / up if t < up else max(0.0, 1.0 - (t - up) / (1.0 - up))
            self.model.optimizer.learning_rate = args.rate * 0.5 * (1 - np.cos(np.pi * share))
            OneCycle.done += 1
            if OneCycle.done > total:
                self.model.stop_training = True

    model.fit(
        *train,
        batch_size=args.expert_batch,
        epochs=int(np.ceil(args.expert_epochs)),
        verbose=0,
        callbacks=[OneCycle()],
    )
    seconds = time.monotonic() - start
    accuracy = model.evaluate(*test, batch_size=250, verbose=0)[1]
    row = {"arm": "expert", "seed": seed, "accuracy": accuracy, "seconds": seconds}
    print(json.dumps(row | {"rate": args.rate}), flush=True)
    return row


ARMS = {"plain": plain, "etude": with_etude, "expert": expert}


def main() -> None:
    """Runs the arms asked for, and what can be said of all rows that are kept."""
    made = parser(__doc__)
    made.add_argument("--arms", nargs="+", choices=tuple(ARMS), default=tuple(ARMS))
    made.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    made.add_argument("--epochs", type=int, default=10)
    made.add_argument("--seconds", type=float, default=100.0, help="Étude's time budget")
    made.add_argument("--size", type=int, choices=(8, 16, 32), default=32)
    made.add_argument("--width", type=int, default=16)
    made.add_argument("--train", type=int, default=50_000)
    made.add_argument("--rate", type=float, default=1e-2, help="the expert's peak rate")
    made.add_argument("--expert_batch", type=int, default=64)
    made.add_argument("--expert_epochs", type=float, default=2.0)
    made.add_argument("--keep", type=Path, help="a file of rows: read first, then added to")
    made.add_argument("--busy", action="store_true", help="do not wait for an idle machine")
    args = made.parse_args()
    if args.quick:
        args.seeds, args.epochs, args.seconds, args.size, args.width = [0], 2, 25.0, 16, 4
        args.train, args.expert_epochs = 5_000, 1.0
    train, _ = cifar(args.train, 0, args.size)
    test = test_part(args.size)
    known = args.keep is not None and args.keep.exists()
    rows = [json.loads(line) for line in args.keep.open()] if known else []
    for seed in args.seeds:
        for arm in args.arms:
            gc.collect()
            load = None if args.busy else wait_until_idle()
            row = {**ARMS[arm](args, train, test, seed), "load": load}
            rows.append(row)
            if args.keep:
                with args.keep.open("a") as file:
                    file.write(json.dumps(row) + "\n")
    say(args, rows)


def say(args: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    """The mark, the time to it, and what the other arms reached in theirs."""
    curves = [row for row in rows if row["arm"] == "plain"]
    figures: dict[str, Any] = {"size": args.size, "width": args.width, "train": args.train}
    mark = share = None
    if curves:
        mean = np.mean([row["accuracies"] for row in curves], axis=0)
        seconds = np.mean([row["seconds"] for row in curves], axis=0)
        best = int(mean.argmax())
        mark, share = float(mean[best]), float(seconds[best])
        figures |= {"mark": mark, "mark_epoch": best + 1, "mark_seconds": share}
        figures |= {"curve": mean.tolist(), "seconds": seconds.tolist(), "plain_n": len(curves)}
        print(f"plain: best {mark:.4f} after epoch {best + 1}, {share:.1f} s (n = {len(curves)})")
    for arm in ("etude", "expert"):
        mine = [row for row in rows if row["arm"] == arm]
        if not mine:
            continue
        mean, half = interval([row["accuracy"] for row in mine])
        took = float(np.mean([row["seconds"] for row in mine]))
        figures[arm] = {"mean": mean, "half": half, "seconds": took, "n": len(mine)}
        figures[arm]["each"] = [row["accuracy"] for row in mine]
        print(f"{arm}: {mean:.4f} ± {half:.4f} in {took:.1f} s (n = {len(mine)})")
        if share is not None and arm == "etude":
            reached = sum(row["accuracy"] >= mark for row in mine)
            shares = [row["plain_epochs"] / (best + 1) for row in mine]
            figures[arm] |= {"shares": shares, "reached": reached}
            print(f"  {np.mean(shares):.3f} of plain's time; {reached} of {len(mine)} at the mark")
    finish("time_to_accuracy", quick=args.quick, **figures)


if __name__ == "__main__":
    main()
