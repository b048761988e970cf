"""Images a second with what the study of compute found, against Keras' defaults.

ResNet-9 on images of CIFAR-10's shape. Keras: `model.fit` on arrays, batch 32, float32, no XLA
(`jit_compile="auto"` leaves it off without a GPU). Étude: the Trainer with precision, XLA, steps
per execution and batch size that `etude.tune` found for a run of `--budget` seconds. Both arms run
in turn in one process, for `--rounds` rounds.

    python benchmarks/compute.py --width 16
    python benchmarks/compute.py --width 64
"""

from __future__ import annotations

import time
from typing import Any

from _common import finish, interval, parser, wait_until_idle

import keras  # isort: skip
import numpy as np

import etude
from etude.problem import Problem
from etude.training.readers import Watch
from etude.training.trainer import Trainer

BATCH = 32  # Keras' own default


def main() -> None:
    """Prints what was found, a line per round, and the ratio with its interval."""
    made = parser(__doc__)
    made.add_argument("--width", type=int, default=16)
    made.add_argument("--budget", type=float, default=3600.0)
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--seconds", type=float, default=15.0, help="of each arm in each round")
    options = made.parse_args()
    if options.quick:
        options.width, options.rounds, options.seconds, options.budget = 4, 2, 3.0, 300.0
    rng = np.random.default_rng(0)
    count = 4096
    x = rng.integers(0, 256, (count, 32, 32, 3)).astype("uint8")
    y = rng.integers(0, 10, count)
    load = wait_until_idle()
    model = etude.models.build("resnet9", (32, 32, 3), 10, width=options.width, seed=0)
    kept = ["optimizer", "learning_rate", "momentum", "weight_decay", "batch_norm_momentum"]
    # The rate would fix the batch size, which is part of what is compared.
    tuning = etude.tune(
        model, (x, y), time_budget=options.budget, keep=kept[:1] + kept[2:], verbose=0
    )
    for finding in tuning.findings:
        print(f"{finding.learner}: {finding.changes} {finding.why}", flush=True)
    arms = {
        "keras": keras_arm(x, y, options.width),
        "etude": etude_arm(x, y, options.width, tuning),
    }
    rows: list[dict[str, float]] = []
    for number in range(options.rounds):
        row = {name: arm(options.seconds) for name, arm in arms.items()}
        row["ratio"] = row["etude"] / row["keras"]
        rows.append(row)
        print(
            f"round {number + 1}: Keras {row['keras']:.1f}, Étude {row['etude']:.1f} images/s, "
            f"{row['ratio']:.3f} ×",
            flush=True,
        )
    mean, half = interval([row["ratio"] for row in rows])
    print(f"{mean:.3f} ± {half:.3f} × (n = {len(rows)})")
    compute = tuning.recipe.compute
    finish(
        "compute",
        quick=options.quick,
        width=options.width,
        load=load,
        found={"batch_size": compute.batch_size, "precision": compute.precision}
        | {"xla": compute.xla, "steps_per_execution": compute.steps_per_execution},
        variants=tuning.findings[0].evidence.get("variants"),
        ratio=mean,
        half=half,
        rows=rows,
    )


class _Until(Watch):
    """Times whole executions for some seconds, the first left out."""

    def __init__(self, seconds: float) -> None:
        super().__init__(time.monotonic)
        self.seconds = seconds

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        super().on_train_batch_end(batch, logs)
        if self.count > 2 and self.total > self.seconds:
            self.model.stop_training = True


def keras_arm(x: Any, y: Any, width: int) -> Any:
    """Plain `model.fit` on arrays."""
    model = etude.models.build("resnet9", (32, 32, 3), 10, width=width, seed=0)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))

    def run(seconds: float) -> float:
        watch = _Until(seconds)
        model.fit(x, y, batch_size=BATCH, epochs=1000, verbose=0, callbacks=[watch])
        return (watch.count - 1) * BATCH / watch.total

    run(0.1)  # traces
    return run


def etude_arm(x: Any, y: Any, width: int, tuning: Any) -> Any:
    """The Trainer by what was found."""
    from etude.budget import Budget
    from etude.training.studio import Studio

    model = etude.models.build("resnet9", (32, 32, 3), 10, width=width, seed=0)
    problem = Problem.inspect(model, (x, y))
    studio = Studio(problem, tuning.recipe, budget=Budget(None))
    trainer: Trainer = studio.trainer
    compute = tuning.recipe.compute
    data = studio.train.shuffled(compute.batch_size, seed=0)
    multiple = compute.steps_per_execution

    def run(seconds: float) -> float:
        watch = _Until(seconds)
        trainer.fit(
            data, steps_per_epoch=10**6 * multiple, epochs=1, verbose=0, shuffle=False,
            callbacks=[watch],
        )  # fmt: skip
        return (watch.count - 1) * compute.batch_size * multiple / watch.total

    run(0.1)  # traces
    return run


if __name__ == "__main__":
    main()
