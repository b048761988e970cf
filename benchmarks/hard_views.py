"""What Hard Augment adds to a step, against what it should add, and what multi-crop adds.

Theory: m views are scored by a forward pass at the resolution r_sel, where a step takes as long as
C forward passes of a view at the full one, r: m / C · (r_sel / r)² of a step (Koçyiğit 2023,
equation 3.11); an objective with a slower copy scores by both networks. To that the making of m - 2
more views is added as it is measured. C is measured too: the seconds of a step over those of a
forward pass of a view through backbone and heads, in training, without a gradient.

Beside it stands the multi-crop of the thesis' table 3.9: two full views, and m - 2 crops at the
lower resolution that are trained on as well, each to say what the full ones are.

All arms are Trainers in one process that take turns with `--steps` steps; a figure is the median of
paired differences. The parts are timed by functions of their own: what is left over is the loss of
all pairs, the gathering of the hardest, and what TensorFlow orders otherwise in a larger graph.

To be reached: at most 1.15 of the theory. With `--epochs` the arms are also trained as long, from
the same weights, and compared by nearest neighbours.

    python benchmarks/hard_views.py --busy --keep rows.json
    python benchmarks/hard_views.py --busy --keep rows.json --summarize
    python benchmarks/hard_views.py --busy --views 4 --resolutions 0.5 --epochs 20
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from _common import finish, interval, wait_until_idle
from _rows import backbone, clock, feed, kept, note, options, photos, same, table

import keras  # isort: skip
import numpy as np
import tensorflow as tf
from keras import ops
from pretrain_step import Watch
from scipy import stats  # type: ignore[import-untyped, unused-ignore]

from etude._pretrain import _recipe
from etude.ssl.objectives import OBJECTIVES
from etude.training import gradients, low_resolution
from etude.training.pretrainer import HardViews, Neighbours, Pretrainer
from etude.training.trainer import gathered

REACHED = 1.15
SAME = ("objective", "size", "width", "batch", "busy")
ARMS = ("plain", "hard", "multi-crop")


class MultiCrop(Pretrainer):
    """Trains on two views and on smaller ones, that are to say what the two are.

    Its `hard` says how many views there are in all, and the resolution of the smaller ones.
    """

    def train_step(self, data: Any) -> Any:
        """As a Pretrainer's, with more losses."""
        assert self.hard is not None and self.augmenter is not None
        images, objective, head = gathered(data).x, self.objective, self.model.predictor
        kept = {name: variable.value for name, variable in self.kept.items()}
        views = [self.augmenter.images(images) for _ in range(self.hard.views)]
        sides = self._copies.sides
        assert sides is not None
        crops = [low_resolution.resized(view, sides) for view in views[2:]]
        small, copy = self._scoring()[0], self._copy()
        others = [] if copy is None else [self._copied_at(view) for view in views[:2]]
        with tf.GradientTape() as tape:
            said = [self._forward(view, True) for view in views[:2]]
            given = others or said
            if objective.target == "stopped":
                given = [ops.stop_gradient(one) for one in said]
            said += [self._forward(crop, True, small) for crop in crops]
            asked = said if head is None else [head(one, training=True) for one in said]
            losses = [
                objective.loss(asked[i], given[j], kept)
                for i in range(len(asked))
                for j in range(2)
                if i != j
            ]
            loss = sum(losses) / len(losses)
        variables = self.trainable_variables
        grads = tape.gradient(loss, [variable.value for variable in variables])
        limit = self.recipe.regularization.clip_norm
        if limit is not None:
            grads = gradients.clip_by_global_norm(grads, limit)
        self._update(grads, loss)
        for name, value in objective.updated(kept, ops.concatenate(given, axis=0)).items():
            self.kept[name].assign(value)
        if copy is not None:
            follow(copy, self.model, objective.keep)
        return {"loss": loss}


def follow(copy: Any, network: Any, keep: float) -> None:
    """Moves a slower copy's weights on."""
    for part, other in ((copy.backbone, network.backbone), (copy.projector, network.projector)):
        for own, its in zip(part.trainable_variables, other.trainable_variables, strict=True):
            own.assign_add((its.value - own.value) * (1.0 - keep))


def trainer(args: argparse.Namespace, arm: str, hard: HardViews, seed: int = 0) -> Pretrainer:
    """The Trainer of an arm."""
    objective = OBJECTIVES[args.objective]()
    made = (MultiCrop if arm == "multi-crop" else Pretrainer)(
        backbone(args, seed),
        objective,
        _recipe(None, objective.rate, args.batch, "contrastive"),
        value_range=(0, 255),
        hard=None if arm == "plain" else hard,
        seed=seed,
    )
    made.compile()
    return made


def parts(plain: Pretrainer, hard: Pretrainer, images: Any) -> Mapping[str, Callable[[], Any]]:
    """Functions that do one of the things that a step is of: those of a step and of scoring."""
    sides, augmenter = hard._copies.sides, plain.augmenter
    assert sides is not None and augmenter is not None
    small = hard._scoring()[0]
    view = ops.cast(images, "float32")
    little = ops.cast(low_resolution.resized(view, sides), "float32")

    def compiled(function: Callable[[Any], Any], given: Any) -> Callable[[], Any]:
        made = tf.function(lambda x: tf.reduce_sum(function(x)), autograph=False)
        return lambda: float(made(given))

    def passed(network: Any) -> Callable[[Any], Any]:
        def run(x: Any) -> Any:
            with keras.StatelessScope():
                said = plain._forward(x, True, network)
                head = network.predictor
                return said if head is None else head(said, training=True)

        return run

    return {
        "pass": compiled(passed(plain.model), view),
        "small pass": compiled(passed(small), little),
        "view": compiled(lambda x: ops.cast(augmenter.images(x), "float32"), images),
        "shrinking": compiled(lambda x: low_resolution.resized(x, sides), view),
    }


def measured(
    args: argparse.Namespace, views: int, resolution: float, now: Callable[[], float]
) -> dict[str, Any]:
    """Seconds of a step of each arm, and of each part, in turns."""
    keras.backend.clear_session()
    data = feed(args)
    hard = HardViews(views=views, resolution=resolution)
    trainers = {arm: trainer(args, arm, hard) for arm in ARMS}
    images = ops.convert_to_tensor(photos(args)[0][0][: args.batch])
    functions = parts(trainers["plain"], trainers["hard"], images)
    sides = trainers["hard"]._copies.sides

    def step(arm: str) -> float:
        watch = Watch(now)
        trainers[arm].fit(
            data.shuffled(args.batch, seed=0), steps_per_epoch=args.steps + 1, shuffle=False,
            callbacks=[watch], verbose=0,
        )  # fmt: skip
        return (watch.end - watch.start) / args.steps

    def part(name: str) -> float:
        start = now()
        for _ in range(args.steps):
            functions[name]()
        return (now() - start) / args.steps

    timed: dict[str, Callable[[str], float]] = {
        **dict.fromkeys(ARMS, step), **dict.fromkeys(functions, part)
    }  # fmt: skip
    for name, function in timed.items():
        function(name)
    load = None if args.busy else wait_until_idle(60.0)
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for turn in range(args.rounds):
        for name in list(timed)[:: -1 if turn % 2 else 1]:
            seconds[name].append(timed[name](name))
    return {
        "sides": sides, "load": load, "seconds": seconds,
        "flops": {arm: trainers[arm].flops((args.size, args.size, 3)) for arm in ARMS[:2]},
    }  # fmt: skip


def learned(args: argparse.Namespace, views: int, resolution: float, seed: int) -> dict[str, float]:
    """The accuracy of nearest neighbours after as many epochs, by arm."""
    train, test = photos(args)
    data, found = feed(args), {}
    for arm in ARMS:
        keras.backend.clear_session()
        one = trainer(args, arm, HardViews(views=views, resolution=resolution), seed)
        one.fit(
            data.shuffled(args.batch, seed=seed), epochs=args.epochs,
            steps_per_epoch=args.images // args.batch, shuffle=False, verbose=0,
        )  # fmt: skip
        found[arm] = Neighbours(one.model.backbone, train, test).look()["knn_accuracy"]
    return found


def theory(row: Mapping[str, Any]) -> dict[str, float]:
    """What a step should take more, and what it does, in seconds and in shares of a step."""
    seconds = {name: np.asarray(each) for name, each in row["seconds"].items()}
    median = {name: float(np.median(each)) for name, each in seconds.items()}
    views, step = row["views"], median["plain"]
    networks = 2 if OBJECTIVES[row["objective"]].target == "momentum" else 1
    cost = step / median["pass"]
    area = (row["sides"][0] * row["sides"][1]) / row["size"] ** 2
    scoring = networks * views / cost * area
    making = (views - 2) * median["view"] / step
    added = (seconds["hard"] - seconds["plain"]) / step
    found = float(np.median(added))
    between = stats.quantile_test(added, p=0.5).confidence_interval()
    return {
        "step": step,
        "C": cost,
        "scoring": scoring,
        "making": making,
        "theory": scoring + making,
        "overhead": found,
        "low": float(between.low),
        "high": float(between.high),
        "ratio": found / (scoring + making),
        "passes": networks * views * median["small pass"] / step,
        "shrinking": views * median["shrinking"] / step,
        "multi-crop": float(np.median(seconds["multi-crop"] - seconds["plain"])) / step,
    }


def said(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Two tables, and their numbers."""
    found, lines, looks = [], [], []
    order = sorted(rows, key=lambda row: (row["resolution"], row["views"]))
    for row in [row for row in order if "seconds" in row]:
        own = theory(row)
        found.append({"views": row["views"], "resolution": row["resolution"], **own})
        names = ("overhead", "theory", "scoring", "making", "passes", "shrinking", "multi-crop")
        shares = {name: f"{100 * own[name]:.1f} %" for name in names}
        side = row["sides"][0]
        lines.append([
            str(row["views"]), f"{side} of {row['size']}", f"{1000 * own['step']:.0f} ms",
            f"{own['C']:.2f}",
            f"{shares['overhead']} ({100 * own['low']:.1f} to {100 * own['high']:.1f})",
            shares["theory"], f"{own['ratio']:.2f}",
            *(shares[name] for name in names[2:]),
        ])  # fmt: skip
    head = [
        "views", "scored at", "step", "C", "adds (95 %)", "theory", "ratio", "of it passes",
        "and views", "passes as timed", "shrinking", "multi-crop adds",
    ]  # fmt: skip
    table(head, lines)
    kinds = dict.fromkeys(
        (row["views"], row["resolution"], row["epochs"]) for row in order if "knn" in row
    )
    for kind in kinds:
        mine = [
            row["knn"]
            for row in order
            if "knn" in row and (row["views"], row["resolution"], row["epochs"]) == kind
        ]
        cells = []
        for arm in ARMS:
            mean, _ = interval([one[arm] for one in mine])
            away, half = interval([one[arm] - one["plain"] for one in mine])
            told = "" if arm == "plain" else f" ({100 * away:+.1f} ± {100 * half:.1f})"
            cells.append(f"{100 * mean:.1f} %{told}")
        looks.append([*(f"{one:g}" for one in kind), str(len(mine)), *cells])
    if looks:
        table(["views", "resolution", "epochs", "seeds", *ARMS], looks)
    return found


def main() -> None:
    """Measures what is not kept yet, and prints the tables."""
    made = options(__doc__)
    made.add_argument("--objective", choices=tuple(OBJECTIVES), default="simsiam")
    made.add_argument("--views", type=int, nargs="+", default=[3, 4, 6])
    made.add_argument("--resolutions", type=float, nargs="+", default=[0.5, 0.75])
    made.add_argument("--rounds", type=int, default=9)
    made.add_argument("--steps", type=int, default=4, help="of each arm in each round")
    made.add_argument("--epochs", type=int, default=0, help="trains the arms as well")
    made.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = made.parse_args()
    if args.quick:
        args.size, args.width, args.images, args.rounds, args.steps = 16, 4, 1000, 3, 2
        args.views, args.resolutions, args.seeds = args.views[:1], args.resolutions[:1], [0]
    now = clock(args)
    rows = kept(args.keep)
    own = {name: getattr(args, name) for name in SAME}
    for resolution in [] if args.summarize else args.resolutions:
        for views in args.views:
            this = {**own, "views": views, "resolution": resolution}
            has = [row for row in rows if this.items() <= row.items()]
            if not any("seconds" in row for row in has):
                note(rows, {**this, **measured(args, views, resolution, now)}, args.keep)
            longer = {"epochs": args.epochs, "images": args.images}
            for seed in args.seeds if args.epochs else []:
                if any({**longer, "seed": seed}.items() <= row.items() for row in has):
                    continue
                knn = learned(args, views, resolution, seed)
                note(rows, {**this, **longer, "seed": seed, "knn": knn}, args.keep)
    results = said([row for row in rows if same(row, args, *SAME)])
    reached = bool(results) and all(one["ratio"] <= REACHED for one in results)
    finish("hard_views", quick=args.quick, results=results, reached=reached)


if __name__ == "__main__":
    main()
