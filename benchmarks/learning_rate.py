"""How good is the learning rate that Étude finds?

For each seed `etude.tune` finds a rate on the default path: nothing but the optimizer's name
and the batch size are given. A sweep then trains at nine fixed rates, half a decade apart,
with the one-cycle recipe of a run, each from the same initial weights and in the same order of
samples; and `etude.train` trains at the found rate. Reported is the mean final validation loss
at the found rates over that of the best rate on the sweep's mean curve. Nothing here is timed,
so a loaded machine does no harm.

Only CIFAR-10's training part is used: 12,500 images to train, 2,500 others to validate. To
make a run take half a minute on one core of a laptop, images are averaged to 16 × 16 and the
ResNet-9 has width 4; `--size 32 --width 8` takes four times as long.

    python benchmarks/learning_rate.py --optimizer adam
    python benchmarks/learning_rate.py --optimizer nesterov --batch 64
    python benchmarks/learning_rate.py --quick
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from pathlib import Path
from typing import Any

import _common
import numpy as np

PACK = Path(__file__).resolve().parents[2] / "shared" / "data" / "cifar10"
# The middle of the sweep, where both kinds of optimizers are usually tuned.
MIDDLE = {"adam": 1e-2, "nesterov": 1e-1, "adamw": 1e-2, "lamb": 1e-2, "lars": 1e1}
Split = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


def cifar(train: int, validation: int, size: int = 32) -> tuple[Split, Split]:
    """The first images of the training part, then the next ones; uint8, labels int64."""
    from PIL import Image

    labels = np.load(PACK / "labels.npz")
    images, targets = [], []
    for number in range(1, 2 + (train + validation - 1) // 10_000):
        name = f"data_batch_{number}"
        sheet = np.asarray(Image.open(PACK / f"{name}.webp"))
        tiles = sheet.reshape(100, 32, 100, 32, 3).swapaxes(1, 2)
        images.append(tiles.reshape(-1, 32, 32, 3))
        targets.append(labels[name])
    x, y = np.concatenate(images), np.concatenate(targets).astype("int64")
    if size < 32:
        factor = 32 // size
        means = x.reshape(-1, size, factor, size, factor, 3).mean((2, 4))
        x = np.round(means).astype(np.uint8)
    end = train + validation
    return (x[:train], y[:train]), (x[train:end], y[train:end])


def stated(args: argparse.Namespace) -> Any:
    """The default recipe, but for the optimizer with its weight decay, and the batch size."""
    import etude
    from etude_metalearners.optimizer import CHALLENGERS

    recipe = etude.Recipe()
    if args.batch:
        recipe = recipe.give(compute={"batch_size": args.batch})
    if args.optimizer in CHALLENGERS:  # as in the race of optimizers
        decay = CHALLENGERS[args.optimizer]
        return recipe.give(optimization={"optimizer": args.optimizer, "weight_decay": decay})
    return recipe.give(optimization={"optimizer": args.optimizer})


class Seed:
    """One seed's model, what the study found on it, and its row of the sweep."""

    def __init__(self, args: argparse.Namespace, data: tuple[Split, Split], seed: int) -> None:
        import keras

        import etude

        keras.utils.set_random_seed(seed)
        shape = (args.size, args.size, 3)
        self.model = etude.models.build("resnet9", shape, 10, width=args.width)
        self.args, self.data, self.seed = args, data, seed
        self.weights = self.model.get_weights()
        tuning = etude.tune(
            self.model,
            *data,
            epochs=args.epochs,
            seed=seed,
            recipe=stated(args),
            verbose=0,
        )
        self.recipe = tuning.recipe
        finding = next(f for f in tuning.findings if f.learner == "learning_rate")
        self.found = self.recipe.optimization.learning_rate
        self.study_steps = finding.true.steps
        print(f"seed {seed}: {finding.why}", flush=True)

    def sweep(self, rates: Any) -> tuple[list[float], list[float]]:
        """Final validation and training loss at each rate, in one compiled studio."""
        from etude.budget import Budget, schedule_epochs
        from etude.problem import Problem
        from etude.training.studio import Studio

        self.model.set_weights(self.weights)
        problem = Problem.inspect(self.model, *self.data, seed=self.seed)
        studio = Studio(problem, self.recipe, budget=Budget(None), seed=self.seed)
        steps = schedule_epochs(self.args.epochs, studio.steps_per_epoch, 1).total_steps
        validation, training = [], []
        for rate in rates:
            trial = studio.trial(steps, rate=float(rate), score_samples=len(self.data[1][1]))
            validation.append(trial.score)
            training.append(float(trial.losses[-50:].mean()))
            print(
                f"seed {self.seed} rate {rate:9.3g}   validation loss {validation[-1]:8.4f}"
                f"   training loss {training[-1]:8.4f}",
                flush=True,
            )
        return validation, training

    def train(self) -> float:
        """Final validation loss of a run of the product with what it found."""
        import etude
        from etude.problem import Problem

        self.model.set_weights(self.weights)
        # The sweep's are the last weights, so these are too.
        last = dataclasses.replace(self.recipe.regularization, best_weights=False)
        recipe = dataclasses.replace(self.recipe, regularization=last)
        problem = Problem.inspect(self.model, *self.data, seed=self.seed)
        report = etude.train(problem, recipe, epochs=self.args.epochs, seed=self.seed, verbose=0)
        return float(report.outcome["val_loss"])


def main() -> None:
    """Runs the measurement and prints a table and one JSON line."""
    parser = _common.parser(__doc__)
    parser.add_argument("--optimizer", choices=tuple(MIDDLE), default="adam")
    parser.add_argument("--batch", type=int, help="samples a batch; left out, Étude's start")
    parser.add_argument("--epochs", type=float, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rates", type=int, default=9)
    parser.add_argument("--size", type=int, choices=(16, 32), default=16)
    parser.add_argument("--width", type=int, default=4)
    parser.add_argument("--train", type=int, default=12_500)
    parser.add_argument("--validation", type=int, default=2_500)
    args = parser.parse_args()
    if args.quick:
        args.epochs, args.seeds, args.rates = 8, 1, 3
        args.train, args.validation = 2_000, 500

    data = cifar(args.train, args.validation, args.size)
    rates = MIDDLE[args.optimizer] * 10.0 ** (0.5 * (np.arange(args.rates) - args.rates // 2))
    seeds = [Seed(args, data, seed) for seed in range(args.seeds)]
    found = [float(seed.found) for seed in seeds if seed.found is not None]
    if len(found) < len(seeds):
        raise SystemExit("A study found no rate: there is none to measure.")
    trained = np.array([seed.train() for seed in seeds])
    for rate, loss in zip(found, trained, strict=True):
        print(f"found {rate:9.3g}   validation loss {loss:8.4f}", flush=True)
    rows = [seed.sweep(rates) for seed in seeds]
    validation, training = np.swapaxes(np.array(rows), 0, 1)
    report(args, rates, validation, training, found, trained, seeds)


def report(
    args: argparse.Namespace,
    rates: Any,
    validation: Any,
    training: Any,
    found: list[float],
    trained: Any,
    seeds: list[Seed],
) -> None:
    """Prints the curve, the found rates on it, and the JSON line."""
    curve = np.where(np.isfinite(validation), validation, np.inf).mean(axis=0)
    best = float(curve.min())
    for index, rate in enumerate(rates):
        print(
            f"rate {rate:9.3g}   mean validation loss {curve[index]:8.4f} "
            f"({curve[index] / best - 1:+7.1%})   mean training loss "
            f"{training[:, index].mean():8.4f}"
        )
    read = np.interp(np.log(found), np.log(rates), curve)
    for rate, loss, on_curve in zip(found, trained, read, strict=True):
        print(
            f"found {rate:9.3g}   trained {loss:.4f} ({loss / best - 1:+.1%})   "
            f"on the mean curve {on_curve:.4f} ({on_curve / best - 1:+.1%})"
        )
    excess = float(trained.mean()) / best - 1
    print(f"mean at the found rates {trained.mean():.4f}: {excess:+.1%} of the best rate's")
    _common.finish(
        "learning_rate",
        optimizer=args.optimizer,
        batch=seeds[0].recipe.compute.batch_size,
        quick=args.quick,
        epochs=args.epochs,
        size=args.size,
        width=args.width,
        n=args.seeds,
        rates=[float(rate) for rate in rates],
        curve=[float(loss) if math.isfinite(loss) else None for loss in curve],
        spread=[float(s) for s in np.std(validation, axis=0, ddof=min(1, args.seeds - 1))],
        best_at_an_end=int(curve.argmin()) in (0, args.rates - 1),
        found=found,
        found_losses=[float(loss) for loss in trained],
        excess=excess,
        excess_on_the_curve=[float(loss) / best - 1 for loss in read],
        study_steps=[seed.study_steps for seed in seeds],
        within_5_percent=bool(excess <= 0.05),
    )


if __name__ == "__main__":
    main()
