"""Do the studies ever cost more than they give? `fit` with them against `fit` without.

Per seed and set, from the same initial weights, in the same order of samples and within the same
time budget: `etude.fit`, and `etude.fit` with the recipe that studies begin with and all of it
kept: Adam at its own rate on a one-cycle schedule, and a batch by the number of samples. The score
is the task's own on images that neither has seen: accuracy, and mean intersection over union for
`nuclei`. Every second seed begins with the other arm, since what runs first in a process also waits
for what TensorFlow does once. With `--keep` a run may be made in pieces: a pair that the file has
is not run again.

With `--sampling` the arms are `fit` with the study of importance sampling and `fit` without it,
both beside the other studies; with `--tuned` both have a recipe that the other studies found before
without augmentation, and nothing else to study, so that arms differ by this study alone.

With `--busy` time is that of the processor, in one thread, so that what else runs counts little.

A study is begun only where it can pay. Steps of `nuclei` and `pretrained` take a tenth of a second
and more on two cores: in less than about 90 s nothing is studied there, and arms differ by chance.

    python benchmarks/no_harm.py --sets fashion digits --seconds 40
    python benchmarks/no_harm.py --sets pretrained --seeds 0 1 --keep rows.json
    python benchmarks/no_harm.py --sets pretrained --seeds 2 3 4 --keep rows.json
    python benchmarks/no_harm.py --sampling --tuned --sets fashion digits --seconds 100
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import time
from pathlib import Path
from typing import Any

from _common import commit, finish, interval, parser, wait_until_idle

from _sets import SETS, Case  # isort: skip

import tensorflow as tf

import etude
from etude._fit import starting_recipe
from etude.problem import Problem

# The arm that studies more, and the one that it is compared with.
STUDY, NONE, WITH = "study", "none", "sampling"
# By how much the arm that studies more may be worse and still be called not inferior: of all
# studies, and of that of importance sampling.
MARGINS = {STUDY: 0.01, WITH: 0.005}


def fitted(arm: str, start: etude.Recipe, options: argparse.Namespace) -> dict[str, Any]:
    """What an arm tells `fit`."""
    told: dict[str, Any] = {"clock": time.process_time} if options.busy else {}
    kept: list[str] = []
    if arm == NONE or options.tuned:
        told["recipe"] = start
        kept += ("compute", "optimization", "regularization", "augmentation")
    if arm == NONE or (options.sampling and arm == STUDY):
        kept.append("sampling")
    return told | {"keep": kept}


def start_of(case: Case) -> etude.Recipe:
    """What studies begin with, which the arm without them has to state: `keep` alone would leave
    a recipe's own defaults, a constant rate and another batch."""
    problem = Problem.inspect(case.build(0), case.train, test=case.test)
    return starting_recipe(problem, etude.Recipe())


def tuned(case: Case, options: argparse.Namespace) -> etude.Recipe:
    """What studies find for a run of this length, without augmentation."""
    clock = time.process_time if options.busy else None
    found = etude.tune(
        case.build(0), case.train, time_budget=options.seconds,
        keep=("augmentation", "sampling"), verbose=0, clock=clock,
    )  # fmt: skip
    print({f.learner: dict(f.changes) for f in found.findings if f.changes}, flush=True)
    # Its length is that of another run, whose studies took other time.
    # What was kept from these studies is for the arms to say.
    return dataclasses.replace(
        found.recipe,
        marks=tuple(mark for mark in found.recipe.marks if not mark[0].startswith("sampling.")),
        optimization=dataclasses.replace(found.recipe.optimization, epochs=None),
    )


def kept(name: str, case: Case, options: argparse.Namespace) -> etude.Recipe:
    """`tuned`, from beside the rows where it was found before."""
    if options.keep is None:
        return tuned(case, options)
    path = options.keep.with_suffix(f".{name}.{options.seconds:g}.yaml")
    if not path.exists():
        tuned(case, options).save(path)
    return etude.Recipe.load(path)


def pair(
    options: argparse.Namespace, name: str, case: Case, start: etude.Recipe, seed: int
) -> dict[str, Any]:
    """Both arms on a seed, and what the one that studies more found."""
    more, less = (WITH, STUDY) if options.sampling else (STUDY, NONE)
    row: dict[str, Any] = {"set": name, "seed": seed, "seconds": options.seconds}
    row |= {"score": case.score, "steps": {}, "load": {}, "commit": commit()}
    for arm in (more, less)[:: -1 if seed % 2 else 1]:
        gc.collect()
        row["load"][arm] = None if options.busy else wait_until_idle(60.0)
        report = etude.fit(
            case.build(seed), case.train, test=case.test, time_budget=options.seconds, seed=seed,
            verbose=0, **fitted(arm, start, options),
        )  # fmt: skip
        row[arm] = report.outcome[case.score]
        row["steps"][arm] = report.budget["steps"]
        if arm == more:
            row["found"] = {f.learner: dict(f.changes) for f in report.findings if f.changes}
            row["why"] = {f.learner: f.why for f in report.findings}
            assert "fixed by you" not in row["why"].get("sampling", "") or not options.sampling
    row["difference"] = row[more] - row[less]
    scores = {key: round(row[key], 4) for key in (more, less, "difference")}
    print(name, seed, scores, row["steps"], row["found"], flush=True)
    return row


def main() -> None:
    """Prints a line per pair, and each set's mean difference with its interval."""
    made = parser(__doc__)
    made.add_argument("--sets", nargs="+", choices=tuple(SETS), default=tuple(SETS)[:4])
    made.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    made.add_argument("--sampling", action="store_true", help="only that study is in question")
    made.add_argument("--tuned", action="store_true", help="all else is found before")
    made.add_argument("--seconds", type=float, default=40.0)
    made.add_argument("--keep", type=Path, help="a file of rows: read first, then added to")
    made.add_argument("--busy", action="store_true", help="processor time of one thread")
    options = made.parse_args()
    if options.busy:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    if options.quick:
        options.seeds, options.seconds = [0], 15.0
    known = options.keep is not None and options.keep.exists()
    rows = [json.loads(line) for line in options.keep.open()] if known else []
    done = {(row["set"], row["seed"], row["seconds"]) for row in rows}
    for name in options.sets:
        case = SETS[name]()
        start = start_of(case) if not options.tuned else None
        for seed in options.seeds:
            if (name, seed, options.seconds) in done:  # a seed counts once
                continue
            start = start or kept(name, case, options)
            row = pair(options, name, case, start, seed)
            rows.append(row)
            if options.keep:
                with options.keep.open("a") as file:
                    file.write(json.dumps(row, default=str) + "\n")
    say(options, rows)


def say(options: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    """The mean difference of every set with its interval, over all rows kept of this budget."""
    results: dict[str, Any] = {}
    margin = MARGINS[WITH if options.sampling else STUDY]
    for name in SETS:
        mine = [r for r in rows if (r["set"], r["seconds"]) == (name, options.seconds)]
        if not mine:
            continue
        mean, half = interval([row["difference"] for row in mine])
        safe = mean - half > -margin
        told = f"{'' if safe else 'not '}non-inferior at a margin of {100 * margin:g} point"
        if len(mine) < 2:
            told = "too few to tell"
        print(f"{name}: {mean:+.4f} ± {half:.4f} (n = {len(mine)}), {told}", flush=True)
        results[name] = {"mean": mean, "half": half, "rows": mine, "safe": safe}
    finish("no_harm", quick=options.quick, seconds=options.seconds, results=results)


if __name__ == "__main__":
    main()
