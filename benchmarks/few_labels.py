"""Few labels and many images: does `fit` choose well what images without labels are for?

CIFAR-10: so many labelled images of its training part and so many others without their labels, a
ResNet-9, and a time that is the same for all arms, everything included. Per seed all begin with the
same initial weights and the same split. The score is accuracy on CIFAR-10's test part, which no arm
has seen before.

| arm | is |
|---|---|
| `supervised` | `fit` on the labelled images alone |
| `ubn` | the others count in the statistics of batch normalization (`joint`) |
| `pretrained` | half of the time is pre-training on all images |
| `noisy_student` | half of the time is a teacher's, half a student's |
| `fit` | `fit(unlabeled=...)`: trials say which of it, and take up to a third of the time |

With `--keep` a run may be made in pieces, one arm and seed in a process: what the file has is not
run again, and `--summarize` says what it holds. With `--busy` time is that of the processor, in one
thread, so that what else runs counts little.

    python benchmarks/few_labels.py --arms fit --seeds 0 --keep rows.jsonl
    python benchmarks/few_labels.py --summarize --keep rows.jsonl
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from _common import commit, finish, interval, parser, wait_until_idle
from learning_rate import cifar
from time_to_accuracy import test_part

import tensorflow as tf  # isort: skip

import etude

SUPERVISED, FIT = "supervised", "fit"
METHODS = {
    "ubn": {"batch_norm": "joint", "method": "none"},
    "pretrained": {"batch_norm": "labelled", "method": "pretrained"},
    "noisy_student": {"batch_norm": "labelled", "method": "noisy_student"},
}
ARMS = (SUPERVISED, *METHODS, FIT)


def told(arm: str, images: Any) -> dict[str, Any]:
    """What `fit` is told of the images without labels."""
    if arm == SUPERVISED:
        return {}
    if arm == FIT:
        return {"unlabeled": images}
    return {"unlabeled": images, "recipe": etude.Recipe().give(semisupervised=METHODS[arm])}


def run(arm: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One arm on one seed, and what it chose."""
    count = options.labels + options.unlabelled
    (x, y), _ = cifar(count, 0, options.size)
    few = options.labels
    model = etude.models.build(
        "resnet9", (options.size, options.size, 3), 10, width=options.width, seed=seed
    )
    load = None if options.busy else wait_until_idle(60.0)
    start = time.monotonic()
    report = etude.fit(
        model, (x[:few], y[:few]), test=test_part(options.size), time_budget=options.seconds,
        seed=seed, verbose=options.verbose, clock=time.process_time if options.busy else None,
        **told(arm, x[few:]),
    )  # fmt: skip
    found = [one for one in report.findings if one.learner == "unlabeled_use"]
    group = report.recipe.semisupervised
    return {
        "arm": arm, "seed": seed, **setting(options), "score": report.outcome["test_accuracy"],
        "steps": report.budget["steps"], "spent": report.budget["seconds"],
        "wall": time.monotonic() - start, "method": group.method, "batch_norm": group.batch_norm,
        "why": found[0].why if found else "", "trials": found[0].to_dict() if found else None,
        "load": load, "commit": commit(),
    }  # fmt: skip


def setting(options: argparse.Namespace) -> dict[str, Any]:
    """What rows must agree in to be compared."""
    names = ("labels", "unlabelled", "size", "width", "seconds", "busy")
    return {name: getattr(options, name) for name in names}


def say(rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """Each arm's accuracy, and how it differs from `supervised` on the same seeds."""
    scores = {(row["arm"], row["seed"]): float(row["score"]) for row in rows}
    table: dict[str, Any] = {}
    for arm in ARMS:
        seeds = sorted(seed for name, seed in scores if name == arm)
        if not seeds:
            continue
        mean, half = interval([scores[arm, seed] for seed in seeds])
        line = f"{arm:14} {mean:.4f} ± {half:.4f} (n = {len(seeds)})"
        table[arm] = {"mean": mean, "half": half, "seeds": seeds}
        paired = [seed for seed in seeds if (SUPERVISED, seed) in scores]
        if arm != SUPERVISED and paired:
            differences = [scores[arm, seed] - scores[SUPERVISED, seed] for seed in paired]
            mean, half = interval(differences)
            line += f", {mean:+.4f} ± {half:.4f} against {SUPERVISED} (n = {len(paired)})"
            table[arm] |= {"difference": mean, "difference_half": half}
        if arm == FIT:
            picks = [(row["method"], row["batch_norm"]) for row in rows if row["arm"] == FIT]
            line += "; chose " + ", ".join("/".join(pick) for pick in picks)
        print(line, flush=True)
    finish("few_labels", quick=options.quick, **setting(options), results=table)


def main() -> None:
    """Prints a line for each run, and a table at the end."""
    made = parser(__doc__)
    made.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    made.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    made.add_argument("--labels", type=int, default=1_000)
    made.add_argument("--unlabelled", type=int, default=19_000)
    made.add_argument("--seconds", type=float, default=480.0, help="of each arm, in all")
    made.add_argument("--size", type=int, choices=(8, 16, 32), default=32)
    made.add_argument("--width", type=int, default=16)
    made.add_argument("--verbose", type=int, default=0)
    made.add_argument("--keep", type=Path, help="a file of rows: read first, then added to")
    made.add_argument("--summarize", action="store_true", help="only say what the file holds")
    made.add_argument("--busy", action="store_true", help="processor time of one thread")
    options = made.parse_args()
    if options.busy:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    if options.quick:
        options.seeds, options.seconds = [0], 20.0
        options.labels, options.unlabelled, options.size, options.width = 300, 600, 8, 4
    known = options.keep is not None and options.keep.exists()
    kept = [json.loads(line) for line in options.keep.open()] if known else []
    wanted = setting(options)
    rows = [row for row in kept if all(row.get(k) == v for k, v in wanted.items())]
    done = {(row["arm"], row["seed"]) for row in rows}
    for seed in options.seeds if not options.summarize else ():
        for arm in options.arms:
            if (arm, seed) in done:
                continue
            row = run(arm, seed, options)
            rows.append(row)
            print(arm, seed, f"{row['score']:.4f}", row["method"], row["why"], flush=True)
            if options.keep:
                with options.keep.open("a") as file:
                    file.write(json.dumps(row, default=str) + "\n")
    say(rows, options)


if __name__ == "__main__":
    main()
