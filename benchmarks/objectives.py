"""Seven self-supervised objectives beside random and supervised features, on CIFAR-10.

10,000 images without their labels train a ResNet-9's backbone by each objective, in as many epochs.
Then its features of the same images, with their labels, tell the classes of the test part: by 200
nearest neighbours, and by a linear classifier that LARS trains. Beside them stand the network as it
began, and one that learned from all labels in as many epochs.

    python benchmarks/objectives.py
    python benchmarks/objectives.py --arms simsiam byol --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from _common import finish, interval, parser

import keras  # isort: skip
from learning_rate import cifar
from time_to_accuracy import test_part

import etude
from etude._pretrain import _recipe
from etude.inspection import backbone as backbones
from etude.ssl.objectives import OBJECTIVES
from etude.training.pretrainer import Neighbours

ARMS = ("random", "supervised", *OBJECTIVES)


def trained(arm: str, args: argparse.Namespace, train: Any, seed: int) -> dict[str, Any]:
    """The network of an arm, its own figures and its seconds."""
    keras.backend.clear_session()
    x, y = train
    shape = (args.size, args.size, 3)
    model = etude.models.build("resnet9", shape, 10, width=args.width, seed=seed)
    start, found = time.monotonic(), {}
    if arm == "supervised":
        recipe = etude.Recipe().give(
            optimization={"optimizer": "adamw", "learning_rate": 0.005, "schedule": "one_cycle"},
            compute={"batch_size": args.batch},
            augmentation={"policy": "standard_cifar"},
        )
        trainer = etude.Trainer(model, recipe, seed=seed, value_range=(0, 255))
        trainer.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        trainer.fit(x, y, batch_size=args.batch, epochs=args.epochs, verbose=0)
    elif arm != "random":
        rate = OBJECTIVES[arm].rate if args.rate is None else args.rate
        result = etude.pretrain(
            model, x, objective=arm, epochs=args.epochs, batch_size=args.batch, seed=seed,
            verbose=0, recipe=_recipe(None, rate, args.batch, "contrastive"),
        )  # fmt: skip
        found = {
            "rate": rate,
            "loss": result.history["loss"][-1],
            "spread": result.history["spread"][-1],
            "flops": result.flops,
        }
    return {"model": model, "seconds": time.monotonic() - start, **found}


def main() -> None:
    """A line per network, then means."""
    made = parser(__doc__)
    made.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    made.add_argument("--seeds", type=int, nargs="+", default=[0])
    made.add_argument("--size", type=int, choices=(8, 16, 32), default=16)
    made.add_argument("--width", type=int, default=16)
    made.add_argument("--images", type=int, default=10_000)
    made.add_argument("--epochs", type=int, default=30)
    made.add_argument("--batch", type=int, default=128)
    made.add_argument("--rate", type=float, help="of objectives, for 128 images; the default's")
    made.add_argument("--keep", type=Path, help="a file of rows: read first, then added to")
    args = made.parse_args()
    if args.quick:
        args.arms, args.images, args.epochs, args.width = ["random", "simsiam"], 1000, 1, 4
    train, test = cifar(args.images, 0, args.size)[0], test_part(args.size)
    rows: list[dict[str, Any]] = []
    if args.keep and args.keep.exists():
        rows = [json.loads(line) for line in args.keep.read_text("utf-8").splitlines()]
    for seed in args.seeds:
        for arm in args.arms:
            if any((row["seed"], row["arm"]) == (seed, arm) for row in rows):
                continue
            found = trained(arm, args, train, seed)
            look = Neighbours(backbones.find(found.pop("model")), train, test).look(probe=True)
            row = {"seed": seed, "arm": arm, **look, **found}
            rows.append(row)
            print(json.dumps(row), flush=True)
            if args.keep:
                with args.keep.open("a") as file:
                    file.write(json.dumps(row) + "\n")
    means: dict[str, Any] = {}
    for arm in dict.fromkeys(row["arm"] for row in rows):
        for name in ("knn_accuracy", "probe_accuracy"):
            mean, half = interval([row[name] for row in rows if row["arm"] == arm])
            means[f"{arm} {name}"] = {"mean": mean, "half": half}
        told = (f"{100 * means[f'{arm} {name}']['mean']:.1f}" for name in
                ("knn_accuracy", "probe_accuracy"))  # fmt: skip
        print(arm, *told)
    finish("objectives", quick=args.quick, means=means)


if __name__ == "__main__":
    main()
