"""What share of a train step augmentation takes.

ResNet-9 on 32 × 32 images in `etude.Trainer`, resident data, batch 64: without a policy, with
`standard_cifar`, and with two draws per image from geometry, linear colour and erasing, or from all
families. The arms take turns in one process; a share is 1 - (step without) / (step with), in pairs.

    python benchmarks/augmentation_step.py --width 16
"""

from __future__ import annotations

import time
from typing import Any

from _common import finish, interval, parser, wait_until_idle

import keras  # isort: skip
import numpy as np
from augmentation import CHEAP, two_of

import etude
from etude.augment import POLICIES, Policy
from etude.augment.names import FAMILIES
from etude.data._base import Arrays
from etude.data.resident import Resident

BATCH = 64
ARMS: dict[str, Policy] = {
    "none": Policy(),
    "standard_cifar": POLICIES["standard_cifar"](),
    "cheap": two_of(CHEAP),
    "all": two_of(tuple(FAMILIES)),
}


def main() -> None:
    """Prints seconds of a step and shares."""
    made = parser(__doc__)
    made.add_argument("--width", type=int, default=16)
    made.add_argument("--rounds", type=int, default=10)
    made.add_argument("--steps", type=int, default=15, help="of each arm in each round")
    options = made.parse_args()
    if options.quick:
        options.width, options.rounds, options.steps = 4, 2, 3
    rng = np.random.default_rng(0)
    count = options.steps * BATCH
    x = rng.integers(0, 256, (count, 32, 32, 3)).astype("uint8")
    data = Resident(Arrays(x, rng.integers(0, 10, count)))
    trainers: dict[str, Any] = {}
    for name, policy in ARMS.items():
        model = etude.models.build("resnet9", (32, 32, 3), 10, width=options.width, seed=0)
        recipe = etude.Recipe().give(augmentation={"policy": policy})
        trainer = etude.Trainer(model, recipe, value_range=(0.0, 255.0))
        trainer.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        trainer.fit(data, batch_size=BATCH, epochs=2, verbose=0)
        trainers[name] = trainer
    load = wait_until_idle()
    seconds: dict[str, list[float]] = {name: [] for name in ARMS}
    for turn in range(options.rounds):
        names = list(ARMS)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = time.perf_counter()
            trainers[name].fit(data, batch_size=BATCH, verbose=0)
            seconds[name].append((time.perf_counter() - start) / options.steps)
    shares = {}
    for name, each in seconds.items():
        print(f"{name}: {1000 * np.median(each):.1f} ms a step")
        if name != "none":
            pairs = zip(seconds["none"], each, strict=True)
            shares[name] = interval([1.0 - without / with_ for without, with_ in pairs])
            print(f"  {shares[name][0]:.1%} ± {shares[name][1]:.1%} of it")
    finish(
        "augmentation_step", quick=options.quick, width=options.width, load=load,
        seconds=seconds, shares=shares,
    )  # fmt: skip


if __name__ == "__main__":
    main()
