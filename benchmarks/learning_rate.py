"""How good is the learning rate that Étude finds?

For each seed the study of `etude.tune` finds a rate. A sweep trains at nine rates, log-spaced
around the middle finding, with the one-cycle schedule, several seeds a rate. Reported is the
mean final loss at the found rates, as trained and as read off the sweep's mean curve, over the
best of the sweep. Nothing here is timed, so a loaded machine does no harm.

Choices use only CIFAR-10's training part: 12,500 images to train, 2,500 others to validate.

    python benchmarks/learning_rate.py --optimizer adam
    python benchmarks/learning_rate.py --optimizer sgd
    python benchmarks/learning_rate.py --quick
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

PACK = Path(__file__).resolve().parents[2] / "shared" / "data" / "cifar10"
Split = tuple[np.ndarray, np.ndarray]


def cifar(train: int, validation: int) -> tuple[Split, Split]:
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
    end = train + validation
    return (x[:train], y[:train]), (x[train:end], y[train:end])


def network(width: int, seed: int, optimizer: str) -> Any:
    """A ResNet-9 with batch normalization, rescaling within; compiled with `optimizer`."""
    import keras

    keras.utils.set_random_seed(seed)
    layers = keras.layers

    def block(x: Any, channels: int, pool: bool = False) -> Any:
        x = layers.Conv2D(channels, 3, padding="same", use_bias=False)(x)
        x = layers.MaxPooling2D()(x) if pool else x
        return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))

    inputs = keras.Input((32, 32, 3))
    x = block(layers.Rescaling(1 / 127.5, -1.0)(inputs), width)
    x = block(x, 2 * width, pool=True)
    x = layers.Add()([x, block(block(x, 2 * width), 2 * width)])
    x = block(x, 4 * width, pool=True)
    x = block(x, 8 * width, pool=True)
    x = layers.Add()([x, block(block(x, 8 * width), 8 * width)])
    model = keras.Model(inputs, layers.Dense(10)(layers.GlobalMaxPooling2D()(x)))
    sgd = keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True)
    model.compile(
        optimizer=sgd if optimizer == "sgd" else keras.optimizers.Adam(),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def find(args: argparse.Namespace, data: tuple[Split, Split], seed: int) -> Any:
    """What the product's own study says, nothing but the rate left to learn."""
    import etude

    model = network(args.width, seed, args.optimizer)
    return etude.tune(model, *data, epochs=args.epochs, seed=seed, recipe=start(args), verbose=0)


def start(args: argparse.Namespace, rate: float | None = None) -> Any:
    """A recipe with one-cycle schedule and fixed batch; the rate given, or open."""
    import etude

    optimization = {"optimizer": "compiled", "schedule": "one_cycle", "warmup_fraction": 0.25}
    if rate is not None:
        optimization["learning_rate"] = rate
    return etude.Recipe().give(
        compute={"batch_size": args.batch_size},
        optimization=optimization,
        regularization={"best_weights": False},
    )


def final_loss(
    args: argparse.Namespace, data: tuple[Split, Split], rate: float, seed: int
) -> float:
    """Validation loss after training at `rate`, as `model.evaluate` gives it; NaN as 1e9.

    Every group of the recipe is kept, so nothing is studied and `rate` is the only difference.
    """
    import etude

    model = network(args.width, seed, args.optimizer)
    recipe = start(args, rate)
    etude.fit(
        model,
        *data,
        recipe=recipe,
        keep=tuple(type(recipe).groups()),
        epochs=args.epochs,
        seed=seed,
        verbose=0,
    )
    loss = float(model.evaluate(*data[1], batch_size=500, verbose=0, return_dict=True)["loss"])
    return loss if math.isfinite(loss) else 1e9


def main() -> None:
    """Runs the measurement and prints a table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--optimizer", choices=("adam", "sgd"), default="adam")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rates", type=int, default=9)
    parser.add_argument("--factor", type=float, default=10.0**0.5, help="between two rates")
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--train", type=int, default=12_500)
    parser.add_argument("--validation", type=int, default=2_500)
    parser.add_argument("--quick", action="store_true", help="a small run, to see that it works")
    args = parser.parse_args()
    if args.quick:
        args.epochs, args.seeds, args.rates, args.width = 1, 1, 3, 4
        args.train, args.validation = 2_000, 500

    data = cifar(args.train, args.validation)
    seeds = range(args.seeds)
    found: list[float] = []
    for seed in seeds:
        tuning = find(args, data, seed)
        rate = tuning.recipe.optimization.learning_rate
        print(tuning.summary(), flush=True)
        if rate is None:
            raise SystemExit(f"The study of seed {seed} found no rate: there is none to measure.")
        found.append(float(rate))

    middle = float(np.median(found))
    rates = middle * args.factor ** (np.arange(args.rates) - args.rates // 2)
    table = np.empty((args.rates, args.seeds))
    for row, rate in enumerate(rates):
        table[row] = [final_loss(args, data, float(rate), seed) for seed in seeds]
        losses = " ".join(f"{loss:8.4f}" for loss in table[row])
        print(f"rate {rate:10.3g}   {losses}   mean {table[row].mean():8.4f}", flush=True)
    curve = table.mean(axis=1)
    best = float(curve.min())
    trained = [np.mean([final_loss(args, data, rate, seed) for seed in seeds]) for rate in found]
    read = np.interp(np.log(found), np.log(rates), curve)
    for rate, loss, curve_loss in zip(found, trained, read, strict=True):
        print(f"found {rate:9.3g}   trained {loss:.4f} ({loss / best - 1:+.1%})"
              f"   on the curve {curve_loss:.4f} ({curve_loss / best - 1:+.1%})")  # fmt: skip
    worst = max(trained) / best - 1
    print(
        json.dumps(
            {
                "benchmark": "learning_rate",
                **vars(args),
                "rates": rates.tolist(),
                "losses": table.tolist(),
                "best_at_an_end": int(curve.argmin()) in (0, args.rates - 1),
                "found": found,
                "found_losses": [float(loss) for loss in trained],
                "excess_mean": float(np.mean(trained)) / best - 1,
                "excess_worst": float(worst),
                "within_5_percent": bool(worst <= 0.05),
            }
        )
    )


if __name__ == "__main__":
    main()
