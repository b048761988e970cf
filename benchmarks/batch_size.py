"""Is the noise scale that Étude measures the critical batch, and is the batch that it chooses fast?

For each of several batch sizes a network trains at constant rates after a short warm-up until its
smoothed training loss first falls below a mark; the best of the rates counts. The steps S and the
samples E = N · S that this takes follow (S / S_min − 1)(E / E_min − 1) = 1; B_crit = E_min / S_min
(McCandlish et al. 2018, equation 2.7). Beside it stand the noise scale that the study finds, at the
start and in the course of a run, and the batch that it chooses: time to the mark is S times the
seconds of a step, which are measured by themselves on an idle machine.

Only CIFAR-10's training part is used, averaged down to 16 × 16; ResNet-9 of width 4. The sweep
counts steps, so it may run beside other work; `--keep` stores it, and the timed part follows.

    python benchmarks/batch_size.py --keep sweep.json --sweep
    python benchmarks/batch_size.py --keep sweep.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from _common import finish, interval, parser, wait_until_idle

import keras  # isort: skip
import numpy as np
from learning_rate import cifar
from scipy import optimize

import etude
from etude._fit import starting_recipe
from etude.budget import Budget
from etude.problem import Problem
from etude.recipe import Recipe
from etude.training.isolation import isolated
from etude.training.studio import Studio

# The smoothed loss is a mean over so many samples.
SMOOTHING = 2048
CHUNK = 50


def main() -> None:
    """Prints steps and samples at each size, the fit, and what the study says."""
    made = parser(__doc__)
    made.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    made.add_argument("--sizes", type=int, nargs="+", default=[16, 32, 64, 128, 256, 512])
    made.add_argument("--mark", type=float, default=1.5)
    made.add_argument("--most", type=int, default=200_000, help="samples of a run at most")
    made.add_argument("--rate", type=float, default=0.01, help="Adam's at batch 64, to begin with")
    made.add_argument("--train", type=int, default=12_500)
    made.add_argument("--size", type=int, default=16)
    made.add_argument("--width", type=int, default=4)
    made.add_argument("--keep", type=Path, help="a file of sweeps: read first, then added to")
    made.add_argument("--sweep", action="store_true", help="count steps only, time nothing")
    args = made.parse_args()
    if args.quick:
        args.seeds, args.sizes, args.mark, args.most = [0], [16, 64, 256], 1.9, 10_000
        args.train = 3_000
    data = cifar(args.train, 2_500, args.size)
    known = args.keep is not None and args.keep.exists()
    sweeps = [json.loads(line) for line in args.keep.open()] if known else []
    for seed in args.seeds:
        if all(row["seed"] != seed for row in sweeps):
            sweeps.append({"seed": seed, "steps": swept(args, data, seed)})
            if args.keep:
                with args.keep.open("a") as file:
                    file.write(json.dumps(sweeps[-1]) + "\n")
    if args.sweep:
        return
    rows = []
    for row in sweeps:
        steps = {int(size): count for size, count in row["steps"].items()}
        rows.append(studied(args, data, row["seed"], steps))
        print(json.dumps(rows[-1]), flush=True)
    crit = [row["b_crit"] for row in rows]
    noise = [row["noise_scale"] for row in rows]
    excess = [row["excess"] for row in rows]
    factor = float(np.exp(np.mean(np.log(noise)) - np.mean(np.log(crit))))
    print(f"noise scale / B_crit {factor:.2f}; chosen N over the best {interval(excess)}")
    finish("batch_size", quick=args.quick, factor=factor, excess=interval(excess), rows=rows)


def prepared(args: argparse.Namespace, data: Any, seed: int) -> Studio:
    """A studio with a constant rate after a short warm-up."""
    keras.utils.set_random_seed(seed)
    problem = Problem.inspect(network(args, seed), *data, seed=seed)
    stated = Recipe().give(optimization={"schedule": "constant", "warmup_steps": 20})
    return Studio(problem, starting_recipe(problem, stated), budget=Budget(None), seed=seed)


def network(args: argparse.Namespace, seed: int) -> keras.Model:
    """ResNet-9 at the initial weights of a seed."""
    shape = (args.size, args.size, 3)
    return etude.models.build("resnet9", shape, 10, width=args.width, seed=seed)


def swept(args: argparse.Namespace, data: Any, seed: int) -> dict[int, float]:
    """Steps to the mark at each size, at its best rate."""
    studio = prepared(args, data, seed)
    steps: dict[int, float] = {}
    start = args.rate
    for size in args.sizes:
        steps[size], start = tuned(studio, args, size, start * np.sqrt(2.0) if steps else start)
        print(f"seed {seed} batch {size}: {steps[size]:.0f} steps at {start:.3g}", flush=True)
    return steps


def studied(
    args: argparse.Namespace, data: Any, seed: int, steps: dict[int, float]
) -> dict[str, Any]:
    """The fit of a sweep, the seconds of a step at each size, and what the study says."""
    s_min, e_min = fitted(steps)
    load = wait_until_idle(120.0)
    studio = prepared(args, data, seed)
    studio.measure()
    seconds = {size: studio.step_seconds(size, 12) or float("nan") for size in steps}
    model = network(args, seed)
    tuning = etude.tune(
        model, *data, time_budget=1800.0, seed=seed, verbose=0,
        keep=["compute.precision", "compute.xla", "compute.steps_per_execution", "momentum",
              "optimizer", "weight_decay", "batch_norm_momentum"],
    )  # fmt: skip
    found = next(f for f in tuning.findings if f.learner == "batch_size")
    measured = {size: steps[size] * seconds[size] for size in steps}
    chosen = min(steps, key=lambda n: abs(np.log(n / found.evidence["chosen"])))
    return {
        "seed": seed,
        "load": load,
        "steps": steps,
        "step_seconds": seconds,
        "s_min": s_min,
        "e_min": e_min,
        "b_crit": e_min / s_min,
        "noise_scale": found.evidence["noise_scale"]["value"] or float("inf"),
        "interval": [found.evidence["noise_scale"][end] for end in ("low", "high")],
        "chosen": found.evidence["chosen"],
        "seconds_to_mark": measured,
        "excess": measured[chosen] / min(measured.values()) - 1.0,
    }


def tuned(studio: Studio, args: argparse.Namespace, size: int, rate: float) -> tuple[float, float]:
    """The fewest steps to the mark over rates a factor of 2 apart, climbing from `rate`.

    A run that is already slower than the best is ended.
    """
    most = args.most // size
    found = {rate: steps_to_mark(studio, args, size, rate, most)}
    for factor in (2.0, 0.5):
        here = rate
        while True:
            there = here * factor
            found[there] = steps_to_mark(studio, args, size, there, min(most, found[here]))
            if not found[there] < found[here]:
                break
            here = there
    best = min(found, key=lambda r: found[r])
    return found[best], best


def steps_to_mark(
    studio: Studio, args: argparse.Namespace, size: int, rate: float, most: float
) -> float:
    """Steps until the smoothed loss is below the mark; infinite where `most` steps do not do it."""
    controls = studio.trainer.controls
    assert controls is not None
    recipe = studio.recipe.give(compute={"batch_size": size}, optimization={"learning_rate": rate})
    window = max(1, SMOOTHING // size)
    losses: list[float] = []
    recorded = controls.recorded

    class Reader(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            losses.extend(recorded(len(losses), len(losses) + CHUNK).tolist())
            if first(losses, window, args.mark) is not None or not np.isfinite(losses[-1]):
                self.model.stop_training = True

    with studio.at(recipe), isolated(studio.trainer):
        controls.step.assign(0)
        studio.trainer.fit(
            studio.train.shuffled(size, seed=studio.seed),
            steps_per_epoch=CHUNK,
            # The mean over a window is told half a window late.
            epochs=max(1, int(np.ceil((most + window) / CHUNK))),
            verbose=0,
            shuffle=False,
            callbacks=[Reader()],
        )
    found = first(losses, window, args.mark)
    return float("inf") if found is None else float(found)


def first(losses: list[float], window: int, mark: float) -> int | None:
    """The first step at which the mean of the latest `window` losses is below the mark."""
    if len(losses) < window:
        return None
    sums = np.cumsum(np.concatenate([[0.0], losses]))
    below = np.flatnonzero((sums[window:] - sums[:-window]) / window < mark)
    # The mean belongs to the middle of its window.
    return None if not len(below) else int(below[0]) + window // 2 + 1


def fitted(steps: dict[int, float]) -> tuple[float, float]:
    """S_min and E_min of the curve, by least squares of log S."""
    sizes = np.array([n for n, s in steps.items() if np.isfinite(s)], np.float64)
    logs = np.log([steps[int(n)] for n in sizes])

    def residual(parameters: Any) -> Any:
        s_min, b_crit = np.exp(parameters)
        return np.log(s_min * (1.0 + b_crit / sizes)) - logs

    s_min, b_crit = np.exp(optimize.least_squares(residual, [logs.min(), np.log(64.0)]).x)
    return float(s_min), float(s_min * b_crit)


if __name__ == "__main__":
    main()
