"""Do short trials rank policies as whole runs do? Miniatures of the run, and trials on all data.

Known policies and some that the search may choose, each in a whole run (its error on test images),
and in branches as the search runs them: over a part of the training set with as many passes as a
branch of that length makes, and over all of it. Spearman's correlation of the branches' validation
losses with the errors says how good a trial is as an oracle.

    python benchmarks/augmentation_trials.py --branches 256,20,40 512,40,80 0,40,80
"""

from __future__ import annotations

import time
from typing import Any

import _common
import numpy as np

from augmentation_search import data, network, stated  # isort: skip

KNOWN = ("none", "standard_cifar", "randaugment", "trivialaugment")


def policies(studio: Any, recipe: Any, plan: Any) -> dict[str, Any]:
    """Known policies, and mirror with geometry and all clusters of rising strength."""
    from etude.augment.names import INDEX, possible
    from etude.augment.policy import POLICIES
    from etude_metalearners import augmentation, candidates, distances, features

    problem = studio.problem
    extract = features.of("model", problem.model, problem.value_range)
    shape = problem.model.input_shape[1:]
    with studio.warmed(recipe, plan[1], batch=augmentation.BATCH, part=plan[0]):
        transformer = distances.Transformer(
            extract, shape, problem.value_range, batch=augmentation.BATCH
        )
        images = augmentation._images(studio, 64)
        names = [name for name in INDEX if possible(name, shape[-1])]
        ladders = distances.measure(transformer, images, names=names)
    groups = candidates.grouped(ladders, augmentation.GROUPS)
    stages = candidates.stages(
        groups, ladders, soft=True, decay=0.0, dropout=False, free=["augmentation.policy"]
    )
    found = {name: POLICIES[name]() for name in KNOWN}
    for tied in (("mirror",), ("mirror", "geometry"), ("mirror", *candidates.CLUSTERS)):
        for rung in range(1, augmentation.GROUPS + 1):
            config = tuple(
                0
                if stage.name not in tied or stage.name == "erasing"
                else min(rung, len(stage.options))
                if stage.name in candidates.CLUSTERS
                else 1
                for stage in stages
            )
            policy = candidates.changes(config, stages)["augmentation.policy"]
            if policy not in found.values():
                found[candidates.told(config, stages)] = policy
    return found


def measured(given: Any, seed: int) -> dict[str, Any]:
    """Errors of whole runs, and losses of branches, of all policies for one seed."""
    from scipy.stats import spearmanr

    import etude
    from etude.budget import Budget
    from etude.problem import Problem
    from etude.training.isolation import isolated
    from etude.training.studio import Studio
    from etude_metalearners import augmentation

    train, test = data(given.set, seed)
    model = network(train[0].shape[1:], 10, given.width, seed)
    problem = Problem.inspect(model, train, test=test, seed=seed)
    recipe = stated()
    studio = Studio(problem, recipe, budget=Budget(None), seed=seed)

    def by(policy: Any) -> Any:
        return recipe.learn("augmentation", augmentation={"policy": policy})

    size = studio.train.size or 0
    plans = [tuple(int(part) for part in branch.split(",")) for branch in given.branches]
    plans = [(part or size, warm, steps) for part, warm, steps in plans]
    off = by(etude.augment.Policy())
    found = policies(studio, off, plans[0])
    scores: dict[str, dict[str, float]] = {}
    for plan, name in zip(plans, given.branches, strict=True):
        part, warm, steps = plan
        options = {"batch": augmentation.BATCH, "part": part}
        with studio.warmed(off, warm, **options):
            scores[name] = {
                policy: float(studio.branch(by(p), steps, samples=2048, order=0, **options).mean())
                for policy, p in found.items()
            }
    errors = {}
    for name, policy in found.items():
        start = time.monotonic()
        with studio.at(by(policy)), isolated(studio.trainer):
            controls = studio.trainer.controls
            assert controls is not None
            controls.step.assign(0)
            controls.total.assign(float(given.steps))
            studio._fit(given.steps)
            errors[name] = 1.0 - studio.evaluate(problem.test)["accuracy"]
        row = {branch: scores[branch][name] for branch in scores}
        print(name, errors[name], row, f"{time.monotonic() - start:.0f} s", flush=True)
    order = list(found)
    true = [errors[name] for name in order]
    best = min(true)
    return {
        branch: {
            "spearman": float(spearmanr(true, [values[name] for name in order])[0]),
            "regret": errors[min(values, key=values.__getitem__)] - best,
        }
        for branch, values in scores.items()
    }


def main() -> None:
    """All seeds."""
    parser = _common.parser(__doc__)
    parser.add_argument("--set", default="cifar10", choices=("cifar10", "fashion"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=1000, help="of a whole run")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument(
        "--branches",
        nargs="*",
        default=["256,20,40", "512,40,80", "0,40,80"],
        help="samples (0 for all), warm steps, steps",
    )
    given = parser.parse_args()
    if given.quick:
        given.seeds, given.steps = [0], 20
    rows = []
    for seed in given.seeds:
        rows.append(measured(given, seed))
        print(seed, rows[-1], flush=True)
    _common.finish(
        "augmentation_trials",
        **{
            branch: {
                key: np.round(_common.interval([row[branch][key] for row in rows]), 3).tolist()
                for key in ("spearman", "regret")
            }
            for branch in given.branches
        },
    )


if __name__ == "__main__":
    main()
