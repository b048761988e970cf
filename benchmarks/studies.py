"""What the studies cost, how well that was predicted, and how far their findings scatter.

For each budget and seed `etude.tune` studies a network on the packaged images, or on CIFAR-10 where
it is at hand (`--cifar`). Reported are the share of the budget that all studies took, with what was
measured again because of them, predicted against true seconds, and every finding.

    python benchmarks/studies.py --budgets 60 240 900 --seeds 1
    python benchmarks/studies.py --budgets 240 --seeds 5
"""

from __future__ import annotations

import gc
import json
from typing import Any

from _common import finish, interval, parser, wait_until_idle

import keras  # isort: skip

import etude
from etude.data import fashion_mnist


def main() -> None:
    """Prints a line per run, and the spread of every value that was found."""
    made = parser(__doc__)
    made.add_argument("--budgets", type=float, nargs="+", default=[60.0, 240.0, 900.0])
    made.add_argument("--seeds", type=int, default=1)
    made.add_argument("--network", default="small_cnn", choices=tuple(etude.models.MODELS))
    made.add_argument("--width", type=int)
    made.add_argument("--cifar", type=int, help="CIFAR-10 images of this size, 50,000 of them")
    options = made.parse_args()
    if options.quick:
        options.budgets, options.seeds = [30.0], 1
    if options.cifar:
        from learning_rate import cifar

        data, _ = cifar(50_000, 0, options.cifar)
    else:
        data, _ = fashion_mnist.load()
    width = {} if options.width is None else {"width": options.width}
    rows: list[dict[str, Any]] = []
    for budget in options.budgets:
        for seed in range(options.seeds):
            gc.collect()
            load = wait_until_idle(60.0)
            shape = data[0].shape[1:]
            if len(shape) == 2:
                shape = (*shape, 1)
            keras.utils.set_random_seed(seed)
            model = etude.models.build(options.network, shape, 10, seed=seed, **width)
            tuning = etude.tune(model, data, time_budget=budget, seed=seed, verbose=0)
            rows.append({"budget": budget, "seed": seed, "load": load, **told(tuning, budget)})
            print(json.dumps(rows[-1]), flush=True)
    report(rows)


def told(tuning: Any, budget: float) -> dict[str, Any]:
    """What one tuning found, and what its studies took."""
    studies = [r for r in tuning.costs if r["part"].startswith("study") and r["true"]]
    again = sum(r["true"] for r in tuning.costs if r["part"] == "measuring again")
    true = sum(r["true"] for r in studies)
    return {
        "share": (true + again) / budget,
        "predicted": sum(r["predicted"] for r in studies),
        "true": true,
        "again": again,
        "parts": {r["part"]: (r["predicted"], r["true"]) for r in studies},
        "found": {f.learner: dict(f.changes) for f in tuning.findings if f.evidence},
        "skipped": [f.learner for f in tuning.findings if not f.evidence],
        "noise_scale": next(
            (
                f.evidence["noise_scale"]["value"]
                for f in tuning.findings
                if "noise_scale" in f.evidence
            ),
            None,
        ),
    }


def report(rows: list[dict[str, Any]]) -> None:
    """Shares by budget, and the spread of what was found over the seeds."""
    shares: dict[str, Any] = {}
    for budget in sorted({row["budget"] for row in rows}):
        mine = [row for row in rows if row["budget"] == budget]
        mean, half = interval([row["share"] for row in mine])
        ratio = sum(r["true"] for r in mine) / max(1e-9, sum(r["predicted"] for r in mine))
        shares[f"{budget:g}"] = {"mean": mean, "half": half, "most": max(r["share"] for r in mine)}
        shares[f"{budget:g}"]["true_over_predicted"] = ratio
        print(f"{budget:6.0f} s: share {mean:.1%}, true / predicted {ratio:.2f}, n = {len(mine)}")
        for learner in sorted({name for row in mine for name in row["found"]}):
            found = [row["found"].get(learner, {}) for row in mine]
            print(f"    {learner}: {found}")
    finish("studies", shares=shares, rows=rows)


if __name__ == "__main__":
    main()
