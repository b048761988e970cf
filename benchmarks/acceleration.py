"""Three accelerations of pre-training, alone and together: the thesis' table 3.3 in small.

10,000 images of CIFAR-10 without their labels train a ResNet-9's backbone. The baseline: Nesterov
momentum of .9 at .3 for a batch of 128, on a cosine. `cycle`: Fixed 1-cycle, twice the rate,
momentum from .95 to .85 and back against it. `progressive`: growing images, changes of colour that
grow with them. `hard`: six views, of which the hardest pair is trained on. An accelerated arm ends,
and its schedule with it, after `--share` of the baseline's epochs.

After every so many epochs the features of these images, with their labels, tell the classes of the
test part by nearest neighbours. So there is a final accuracy of each arm; and the operations and
the seconds at which it came to the *baseline's* final accuracy on the same seed, between two looks
by a line. A curve is not always rising: the baseline itself may have been there before it ended,
and its own line says when, which is to be held against what the others have. A backward pass counts
as two forward ones; the seconds are without the looks, and in a second column also without the
first step of each size of images, which traces: a long run does not notice it.

    python benchmarks/acceleration.py --busy --keep rows.json --seeds 0
    python benchmarks/acceleration.py --busy --keep rows.json --objectives simsiam byol \\
        --arms baseline all --seeds 0 1 2
    python benchmarks/acceleration.py --keep rows.json --summarize
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from _common import finish, interval, wait_until_idle
from _rows import clock, kept, network, note, options, photos, same, table

import keras  # isort: skip

import etude
from etude._pretrain import PER
from etude.inspection import backbone as backbones
from etude.ssl.objectives.simsiam import SimSiam
from etude.training.pretrainer import Count, Neighbours

ARMS: Mapping[str, frozenset[str]] = {
    "baseline": frozenset(),
    "cycle": frozenset({"cycle"}),
    "progressive": frozenset({"progressive"}),
    "hard": frozenset({"hard"}),
    "cycle+progressive": frozenset({"cycle", "progressive"}),
    "all": frozenset({"cycle", "progressive", "hard"}),
}
SAME = (
    "size", "width", "images", "batch", "epochs", "share", "busy", "warmup", "peak", "views",
    "resolution", "least", "grow", "queries", "rate",
)  # fmt: skip


class Curve(Neighbours):
    """Operations, seconds and accuracy after epochs, and before the first.

    Args:
        now: Tells seconds.
        count: Counts operations.
        **options: Those of `Neighbours`.
    """

    def __init__(self, *given: Any, now: Callable[[], float], count: Count, **options: Any) -> None:
        super().__init__(*given, **options)
        self.now, self.count = now, count
        self.begun, self.looking, self.tracing, self.step = now(), 0.0, 0.0, 0.0
        self.seen: set[Any] = set()
        self.points: list[dict[str, float]] = []

    def set_model(self, model: Any) -> None:
        """Of the counter too."""
        super().set_model(model)
        self.count.set_model(model)

    def on_train_begin(self, logs: Any = None) -> None:
        """Looks at the network as it began."""
        start = self.now()
        self._add(0, self.look())
        self.looking += self.now() - start

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Marks the time."""
        self.step = self.now()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Counts, and notes what the first step of a size took."""
        model: Any = self.model
        sides, now = model.resolution.sides, self.now()
        if sides not in self.seen:
            self.seen.add(sides)
            self.tracing += now - self.step
        self.count.on_train_batch_end(batch, logs)
        self.looking += self.now() - now

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Looks, where it is time to."""
        start, logs = self.now(), {} if logs is None else logs
        super().on_epoch_end(epoch, logs)
        if "knn_accuracy" in logs:
            self._add(epoch + 1, logs, start)
        self.looking += self.now() - start

    def _add(self, epoch: int, found: Mapping[str, float], at: float | None = None) -> None:
        seconds = 0.0 if at is None else at - self.begun - self.looking
        self.points.append({
            "epoch": epoch, "flops": float(self.count.total), "seconds": seconds,
            "untraced": max(0.0, seconds - self.tracing), "knn": float(found["knn_accuracy"]),
        })  # fmt: skip


def run(
    args: argparse.Namespace, objective: str, arm: str, seed: int, now: Callable[[], float]
) -> dict[str, Any]:
    """One arm on one seed."""
    keras.backend.clear_session()
    train, (x, y) = photos(args)
    model, parts = network(args, seed), ARMS[arm]
    epochs = max(1, round(args.epochs * (args.share if parts else 1.0)))
    steps = epochs * (args.images // args.batch)
    own: dict[str, Any] = {
        "optimizer": "nesterov",
        "learning_rate": args.rate * args.batch / PER,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "schedule": "cosine",
    }
    if "cycle" in parts:
        own |= {
            "learning_rate": args.peak * own["learning_rate"],
            "schedule": "f1_clr",
            "warmup_steps": max(1, round(args.warmup * steps)),
            "cycle_momentum": True,
        }
    told: dict[str, Any] = {"recipe": etude.Recipe().give(optimization=own)}
    if "hard" in parts:
        told["hard"] = etude.HardViews(views=args.views, resolution=args.resolution)
    grow = etude.Progressive(least=args.least, step=args.grow, warmup=args.warmup)
    load = None if args.busy else wait_until_idle(60.0)
    curve = Curve(
        backbones.find(model), train, (x[: args.queries], y[: args.queries]),
        now=now, count=Count((args.size, args.size, 3), args.batch),
        every=max(1, epochs // args.looks),
    )  # fmt: skip
    result = etude.pretrain(
        model, train[0], objective=objective, epochs=epochs, batch_size=args.batch, seed=seed,
        verbose=0, callbacks=[*([grow] if "progressive" in parts else []), curve], **told,
    )  # fmt: skip
    assert result.flops == curve.count.total
    return {
        "load": load, "spread": result.history["spread"][-1], "points": curve.points,
        "notes": result.notes,
    }  # fmt: skip


def reached(points: Sequence[Mapping[str, float]], target: float, what: str) -> float | None:
    """What it took to come to an accuracy, between two looks by a line; `None` if it never did."""
    for before, after in itertools.pairwise(points):
        if after["knn"] >= target:
            share = (target - before["knn"]) / max(after["knn"] - before["knn"], 1e-9)
            return before[what] + min(max(share, 0.0), 1.0) * (after[what] - before[what])
    return None


def said(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The table of each objective, and its numbers."""
    results: dict[str, Any] = {}
    for objective in dict.fromkeys(row["objective"] for row in rows):
        by: dict[str, dict[int, Any]] = {}
        for row in rows:
            if row["objective"] == objective:
                by.setdefault(row["arm"], {})[row["seed"]] = row["points"]
        lines = []
        for arm in (arm for arm in ARMS if arm in by):
            own = compared(by[arm], by.get("baseline", {}))
            results[f"{objective} {arm}"] = own
            lines.append([arm, *told(own)])
        print(f"\n{objective}\n")
        table(
            ["arm", "seeds", "kNN, %", "minus baseline", "TFLOPs", "s", "× fewer FLOPs",
             "× fewer s", "without tracing", "came to the baseline's", "× fewer FLOPs to it",
             "× fewer s", "without tracing"], lines,
        )  # fmt: skip
    return results


def compared(own: Mapping[int, Any], base: Mapping[int, Any]) -> dict[str, Any]:
    """An arm's figures, and ratios by seeds that the baseline has too."""
    found: dict[str, Any] = {
        "n": len(own),
        "first": interval([points[0]["knn"] for points in own.values()])[0],
        "knn": interval([points[-1]["knn"] for points in own.values()]),
        **{what: interval([points[-1][what] for points in own.values()])[0]
           for what in ("flops", "seconds")},
    }  # fmt: skip
    both = [seed for seed in own if seed in base]
    if not both:
        return found
    found["difference"] = interval([own[s][-1]["knn"] - base[s][-1]["knn"] for s in both])
    for what in ("flops", "seconds", "untraced"):
        found[f"{what} ratio"] = interval([base[s][-1][what] / own[s][-1][what] for s in both])
        took = {s: reached(own[s], base[s][-1]["knn"], what) for s in both}
        there = [base[s][-1][what] / value for s, value in took.items() if value]
        found["came"] = f"{len(there)} of {len(both)}"
        found[f"{what} to it"] = interval(there) if there else None
    return found


def told(own: Mapping[str, Any]) -> list[str]:
    """The cells of a line."""

    def with_half(pair: Any, form: str) -> str:
        if not pair:
            return ""
        mean, half = pair
        return format(mean, form) + (f" ± {abs(half):.2f}" if half == half else "")

    def percent(pair: Any, form: str) -> str:
        return with_half(pair and [100 * one for one in pair], form)

    def ratio(name: str) -> str:
        return with_half(own.get(name), ".2f")

    return [
        str(own["n"]),
        percent(own["knn"], ".1f"),
        percent(own.get("difference"), "+.1f"),
        f"{own['flops'] / 1e12:.3g}",
        f"{own['seconds']:.0f}",
        *(ratio(f"{what} ratio") for what in ("flops", "seconds", "untraced")),
        own.get("came", ""),
        *(ratio(f"{what} to it") for what in ("flops", "seconds", "untraced")),
    ]


def main() -> None:
    """Runs what is not kept yet, and prints the tables."""
    made = options(__doc__)
    made.add_argument("--objectives", nargs="+", choices=("simsiam", "byol"), default=["simsiam"])
    made.add_argument("--arms", nargs="+", choices=tuple(ARMS), default=list(ARMS))
    made.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    made.add_argument("--epochs", type=int, default=60, help="of the baseline")
    made.add_argument("--share", type=float, default=0.4, help="of them for accelerated arms")
    made.add_argument("--warmup", type=float, default=1 / 6, help="the share of a run that rises")
    made.add_argument(
        "--rate", type=float, default=SimSiam.rate, help="of the baseline, for 128 images"
    )
    made.add_argument("--peak", type=float, default=2.0, help="times the rate, of 1-cycle")
    made.add_argument("--views", type=int, default=6)
    made.add_argument("--resolution", type=float, default=0.5, help="of the scoring")
    made.add_argument("--least", type=int, help="pixels of the smallest images; half of all")
    made.add_argument("--grow", type=int, help="pixels from one size to the next; a quarter")
    made.add_argument("--queries", type=int, default=5000)
    made.add_argument("--looks", type=int, default=10, help="at the features, about, in a run")
    args = made.parse_args()
    if args.quick:
        args.size, args.width, args.images, args.epochs, args.queries = 16, 4, 1000, 3, 500
        args.seeds, args.views = args.seeds[:1], 3
    args.least, args.grow = args.least or args.size // 2, args.grow or args.size // 4
    now = clock(args)
    rows = kept(args.keep)
    own = {name: getattr(args, name) for name in SAME}
    for seed in [] if args.summarize else args.seeds:
        for objective in args.objectives:
            for arm in args.arms:
                this = {**own, "objective": objective, "arm": arm, "seed": seed}
                if not any(this.items() <= row.items() for row in rows):
                    note(rows, {**this, **run(args, objective, arm, seed, now)}, args.keep)
    results = said([row for row in rows if same(row, args, *SAME)])
    finish("acceleration", quick=args.quick, results=results)


if __name__ == "__main__":
    main()
