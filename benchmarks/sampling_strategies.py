"""Every strategy of importance sampling at equal time: test errors and training losses.

CIFAR-10, a ResNet-9 without augmentation, AdamW on a one-cycle schedule, and a time budget that is
the same for every arm: what scoring costs comes out of the steps. Every run has a process of its
own; arms of a seed share data, split, initial weights and order.

    python benchmarks/sampling_strategies.py --size 16 --width 8 --seeds 3

`--arms` names some, `--first` and `--join` make a measurement of several calls.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import _common

from etude.optim.variance_reduction import REDUCTIONS
from etude.sampling.strategies import STRATEGIES, UNIFORM

ARMS = (UNIFORM, *STRATEGIES, *REDUCTIONS)


def one(given: Any) -> dict[str, Any]:
    """Trains one arm."""
    from learning_rate import cifar
    from time_to_accuracy import network, test_part

    import etude

    train, _ = cifar(given.train, 0, given.size)
    test = test_part(given.size)
    strategy = given.arms[0]
    recipe = etude.Recipe().give(
        compute={"batch_size": given.batch},
        optimization={
            "optimizer": "adamw",
            "learning_rate": given.rate,
            "weight_decay": given.decay,
            "schedule": "one_cycle",
        },
        sampling={"strategy": strategy, "forward": given.forward},
    )
    model = network(given, given.first)
    start = time.monotonic()
    report = etude.fit(
        model, train, test=test, recipe=recipe, time_budget=given.seconds, seed=given.first,
        keep=["compute", "optimization", "augmentation", "regularization"], verbose=0,
    )  # fmt: skip
    took = time.monotonic() - start
    losses = model.evaluate(*train, batch_size=250, verbose=0, return_dict=True)
    return {
        "arm": strategy,
        "seed": given.first,
        "error": 1.0 - report.outcome["test_accuracy"],
        "train_loss": losses["loss"],
        "steps": report.budget["steps"],
        "epochs": report.budget["epochs_done"],
        "sampling": report.history.get("sampling", [0.0]),
        "tau": report.history.get("tau", [0.0]),
        "seconds": took,
    }


def compared(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means with intervals, and paired differences from uniform."""
    figures: dict[str, Any] = {}
    uniform = {row["seed"]: row for row in rows if row["arm"] == UNIFORM}
    for arm in dict.fromkeys(row["arm"] for row in rows):
        own = [row for row in rows if row["arm"] == arm]
        paired = [100.0 * (row["error"] - uniform[row["seed"]]["error"])
                  for row in own if row["seed"] in uniform]  # fmt: skip
        figures[arm] = {
            "error": _common.interval([100.0 * row["error"] for row in own]),
            "minus_uniform": _common.interval(paired) if paired else None,
            "train_loss": _common.interval([row["train_loss"] for row in own]),
            "steps": [row["steps"] for row in own],
        }
    return figures


def main() -> None:
    """Runs all arms of all seeds in turn, or one."""
    parser = _common.parser(__doc__)
    parser.add_argument("--arms", nargs="*", default=list(ARMS), choices=ARMS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--size", type=int, choices=(8, 16, 32), default=16)
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--train", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=1e-2)
    parser.add_argument("--decay", type=float, default=0.05)
    parser.add_argument("--forward", type=float, default=0.3, help="of a step, by sampling_step.py")
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--one", action="store_true", help="one arm, printed as JSON")
    parser.add_argument("--join", nargs="*", help="logs of several calls, to be summed up")
    given = parser.parse_args()
    if given.quick:
        given.size, given.width, given.train, given.seconds = 8, 4, 4_000, 20.0
    if given.join:
        lines = [line for log in given.join for line in Path(log).read_text("utf-8").splitlines()]
        rows = [json.loads(line) for line in lines if line.startswith('{"arm')]
        print(json.dumps(compared(rows), indent=1))
        return
    if given.one:
        print(json.dumps(one(given)))
        return
    rows = []
    for seed in range(given.first, given.first + given.seeds):
        _common.wait_until_idle()
        for arm in given.arms:
            options = {name: getattr(given, name) for name in (
                "size", "width", "train", "batch", "rate", "decay", "forward", "seconds",
            )}  # fmt: skip
            command = [sys.executable, __file__, "--one", "--first", str(seed), "--arms", arm]
            command += [f"--{name}={value}" for name, value in options.items()]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(done.stderr[-2000:])
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            print(json.dumps(rows[-1]), flush=True)
    print(json.dumps({"commit": _common.commit(), "figures": compared(rows)}))


if __name__ == "__main__":
    main()
