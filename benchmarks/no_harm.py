"""Do the studies ever cost more than they give? `fit` with them against `fit` without.

Per seed and set, from the same initial weights, in the same order of samples and within the same
time budget: `etude.fit`, and `etude.fit` with everything kept that studies may set, which leaves
Étude's start: Adam at its own rate on a one-cycle schedule. The score is accuracy on images that
neither has seen.

    python benchmarks/no_harm.py --sets fashion digits --seconds 40
"""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

from _common import finish, interval, parser, wait_until_idle

import keras  # isort: skip
import numpy as np

import etude
from etude.data import fashion_mnist

PACK = Path(__file__).resolve().parents[2] / "shared" / "data"
KEEP = ("compute", "optimization")


def fashion() -> tuple[Any, Any, Any]:
    """10,000 images to train, 5,000 to test, a small network."""
    train, test = fashion_mnist.load()
    return train, test, lambda seed: etude.models.build("small_cnn", (28, 28, 1), 10, seed=seed)


def digits() -> tuple[Any, Any, Any]:
    """1,297 images of 8 × 8 to train, 500 to test."""
    data = np.load(PACK / "digits8x8" / "digits.npz")
    x = (data["x"].reshape(-1, 8, 8, 1) * 16).clip(0, 255).astype("uint8")
    y = data["y"].astype("int64")
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[:1297], order[1297:]

    def build(seed: int) -> keras.Model:
        return etude.models.build("small_cnn", (8, 8, 1), 10, seed=seed)

    return (x[train], y[train]), (x[test], y[test]), build


SETS = {"fashion": fashion, "digits": digits}


def main() -> None:
    """Prints a line per pair, and each set's mean difference with its interval."""
    made = parser(__doc__)
    made.add_argument("--sets", nargs="+", choices=tuple(SETS), default=tuple(SETS))
    made.add_argument("--seeds", type=int, default=5)
    made.add_argument("--seconds", type=float, default=40.0)
    options = made.parse_args()
    if options.quick:
        options.seeds, options.seconds = 1, 15.0
    results: dict[str, Any] = {}
    for name in options.sets:
        train, test, build = SETS[name]()
        rows = []
        for seed in range(options.seeds):
            row: dict[str, float] = {}
            for arm, keep in (("study", ()), ("none", KEEP)):
                gc.collect()
                wait_until_idle(60.0)
                model = build(seed)
                report = etude.fit(
                    model, train, test=test, time_budget=options.seconds, seed=seed, keep=keep,
                    verbose=0,
                )  # fmt: skip
                row[arm] = report.outcome["test_accuracy"]
                if arm == "study":
                    found = {f.learner: dict(f.changes) for f in report.findings if f.changes}
            row["difference"] = row["study"] - row["none"]
            rows.append(row)
            print(name, seed, {k: round(v, 4) for k, v in row.items()}, found, flush=True)
        mean, half = interval([row["difference"] for row in rows])
        print(f"{name}: {mean:+.4f} ± {half:.4f} (n = {len(rows)})", flush=True)
        results[name] = {"mean": mean, "half": half, "rows": rows, "safe": mean - half > -0.01}
    finish("no_harm", quick=options.quick, seconds=options.seconds, results=results)


if __name__ == "__main__":
    main()
