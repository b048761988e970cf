"""Resident memory of one process over 100 runs of a meta-learner's trial."""

from __future__ import annotations

import gc
from pathlib import Path

from _common import finish, parser

import keras  # isort: skip
import numpy as np

import etude
from etude._fit import starting_recipe
from etude.budget import Budget
from etude.training.studio import Studio
from etude_metalearners import META_LEARNERS
from etude_metalearners._base import Planned


def resident_mib() -> float:
    """The process' resident size in MiB."""
    gc.collect()
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return float(line.split()[1]) / 1024


def main() -> None:
    """Prints the size after every tenth run, and its slope beyond the first ten."""
    options = parser(__doc__).parse_args()
    runs = 15 if options.quick else 100
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (1200, 16, 16, 3)).astype("uint8")
    y = rng.integers(0, 10, len(x))
    keras.utils.set_random_seed(0)
    model = etude.models.build("resnet9", (16, 16, 3), 10, width=4)
    problem = etude.Problem.inspect(model, (x, y))
    recipe = starting_recipe(problem, etude.Recipe())
    studio = Studio(problem, recipe, budget=Budget())
    costs = studio.measure(0.2)
    learner = META_LEARNERS["learning_rate"]()
    sizes = []
    for run in range(runs):
        learner.learn(studio, recipe, Planned(10_000, 1_000.0, costs))
        sizes.append(resident_mib())
        if run % 10 == 9:
            print(f"after {run + 1:3d} runs: {sizes[-1]:.1f} MiB", flush=True)
    later = np.array(sizes[10:])
    slope = float(np.polyfit(np.arange(len(later)), later, 1)[0])
    growth = float(later[-1] - later[0])
    print(f"beyond the first ten: {growth:+.1f} MiB in all, {slope:+.3f} MiB a run")
    finish(
        "memory",
        n=runs,
        first=sizes[0],
        tenth=sizes[9],
        last=sizes[-1],
        growth_mib=growth,
        slope_mib_per_run=slope,
        reached=abs(slope) < 0.1,
    )


if __name__ == "__main__":
    main()
