"""Whether searching an augmentation pays: test errors of policies at equal total cost.

Few labels, a small network and a time budget, the same for every arm: no augmentation, known
policies, and the one that `etude.fit` searches within the same time. All else is given. Every run
has a process of its own, so that nobody profits from what another has compiled; arms of a seed
share data, split and initial weights.

    python benchmarks/augmentation_search.py --set cifar10 --seeds 5

`--first` and `--join` make a measurement of several calls. `--arms searched greedy` with more time
(`--seconds 300`) compares the beam with greedy stacking, stage by stage from nothing.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import _common
import numpy as np

ARMS = ("none", "standard_cifar", "randaugment", "trivialaugment", "searched")
LABELS = {"cifar10": 4000, "fashion": 2000, "mnist": 2000}
SECONDS, QUICK_SECONDS = 90.0, 20.0
RATE, DECAY, BATCH = 5e-3, 0.05, 128


def network(shape: tuple[int, int, int], classes: int, width: int, seed: int) -> Any:
    """Four convolutions, three of them with strides: as many steps a second as two cores do."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(seed)
    inputs = keras.Input(shape)
    x = layers.Rescaling(1 / 127.5, -1.0)(inputs)
    for filters, stride in ((width, 2), (2 * width, 2), (4 * width, 2), (4 * width, 1)):
        x = layers.Conv2D(filters, 3, stride, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        x = layers.ReLU()(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(classes)(x))


def mnist(part: str) -> tuple[Any, Any]:
    """Digits, which a mirror turns into none."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data" / "mnist"
    with gzip.open(folder / f"{part}-images-idx3-ubyte.gz") as file:
        x = np.frombuffer(file.read(), np.uint8, offset=16)
    with gzip.open(folder / f"{part}-labels-idx1-ubyte.gz") as file:
        y = np.frombuffer(file.read(), np.uint8, offset=8)
    return x.reshape(-1, 28, 28, 1), y.astype("int64")


def data(name: str, seed: int) -> tuple[Any, Any]:
    """A few labelled images drawn by seed, and others to test on."""
    from learning_rate import cifar

    from etude.data import fashion_mnist

    if name == "cifar10":
        train, test = cifar(40_000, 10_000)
    elif name == "mnist":
        train, test = mnist("train"), mnist("t10k")
    else:
        train, test = fashion_mnist.load()
    chosen = np.random.default_rng(seed).permutation(len(train[0]))[: LABELS[name]]
    return (train[0][chosen], train[1][chosen]), test


def stated(decay: float = DECAY, **others: Any) -> Any:
    """The recipe of all arms."""
    import etude

    return etude.Recipe().give(
        compute={"batch_size": BATCH},
        optimization={
            "optimizer": "adamw",
            "learning_rate": RATE,
            "weight_decay": decay,
            "schedule": "one_cycle",
        },
        **others,
    )


def fitted(
    name: str, seed: int, width: int, recipe: Any, keep: Sequence[str], **limits: Any
) -> tuple[Any, Any, float]:
    """Trains the network within limits: model, report, and seconds."""
    import etude

    train, test = data(name, seed)
    model = network(train[0].shape[1:], 10, width, seed)
    start = time.monotonic()
    report = etude.fit(
        model, train, test=test, recipe=recipe, keep=keep, seed=seed, verbose=0, **limits
    )
    return model, report, time.monotonic() - start


def one(name: str, arm: str, seed: int, seconds: float, width: int) -> dict[str, Any]:
    """Trains one arm."""
    recipe = stated()
    if arm == "greedy":
        stack_greedily()
    elif arm != "searched":
        recipe = recipe.give(augmentation={"policy": arm})
    keep = ("compute", "optimization")
    _, report, took = fitted(name, seed, width, recipe, keep, time_budget=seconds)
    study = next((f for f in report.findings if f.learner == "augmentation"), None)
    return {
        "arm": arm,
        "seed": seed,
        "error": 1.0 - report.outcome["test_accuracy"],
        "loss": report.outcome["test_loss"],
        "seconds": took,
        "budget": report.budget["seconds"],
        "steps": report.budget["steps"],
        "study": 0.0 if study is None else study.true.seconds,
        "predicted": 0.0 if study is None else study.predicted.seconds,
        "compiling": (study.evidence.get("plan") or {}).get("compiling", 0.0) if study else 0.0,
        "parts": study.evidence.get("seconds", {}) if study else {},
        "policy": str(report.recipe.augmentation.policy),
        "trials": [trial["told"] for trial in study.evidence.get("trials", ())] if study else [],
        "why": "" if study is None else study.why,
    }


def stack_greedily() -> None:
    """Lets searches of this process begin with nothing, and go on with the best alone."""
    from etude_metalearners import augmentation, candidates

    candidates.first = lambda stages_: []
    augmentation.WIDTH = 1


def apart(options: Sequence[str]) -> dict[str, Any]:
    """One arm in a process of its own."""
    command = [sys.executable, __file__, "--one", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return dict(json.loads(done.stdout.splitlines()[-1]))


def compared(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean errors with intervals, and paired differences of the searched arm from each other."""
    errors: dict[str, dict[int, float]] = {}
    for row in rows:
        errors.setdefault(row["arm"], {})[row["seed"]] = 100.0 * row["error"]
    table = {arm: _common.interval(list(found.values())) for arm, found in errors.items()}
    searched = errors.get("searched", {})
    differences = {}
    for arm, found in errors.items():
        both = [searched[seed] - found[seed] for seed in found if seed in searched]
        if arm != "searched" and both:
            differences[arm] = (*_common.interval(both), len(both))
    return {"errors": table, "searched minus": differences}


def main() -> None:
    """Runs all arms of all seeds in turn, or one."""
    parser = _common.parser(__doc__)
    parser.add_argument("--set", default="cifar10", choices=LABELS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--arms", nargs="*", default=list(ARMS), choices=(*ARMS, "greedy"))
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--one", action="store_true", help="one arm, printed as JSON")
    parser.add_argument("--join", nargs="*", help="logs of several processes, to be summed up")
    given = parser.parse_args()
    if given.join:
        lines = [line for log in given.join for line in Path(log).read_text("utf-8").splitlines()]
        rows = [json.loads(line) for line in lines if line.startswith("{")]
        print(json.dumps(compared([row for row in rows if "arm" in row]), indent=1))
        return
    seconds = QUICK_SECONDS if given.quick else given.seconds
    if given.one:
        print(json.dumps(one(given.set, given.arms[0], given.first, seconds, given.width)))
        return
    rows = []
    for seed in range(given.first, given.first + given.seeds):
        for arm in given.arms:
            options = ["--set", given.set, "--first", seed, "--arms", arm]
            options += ["--seconds", seconds, "--width", given.width]
            rows.append(apart([str(option) for option in options]))
            print(json.dumps(rows[-1]), flush=True)
    print(json.dumps({"commit": _common.commit(), **compared(rows)}))


if __name__ == "__main__":
    main()
