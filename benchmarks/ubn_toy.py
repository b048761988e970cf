"""Unsupervised Batch Normalization on a spiral: 25 labelled points of each arm, 200 without labels.

Section 2.3.3 of Koçyiğit (2023). A network of five dense layers, four of them normalized, learns
from the labelled points with batch normalization on these alone, on both jointly, or by statistics
of both whose gradient is that of the labelled points', or none. Seeds draw points, weights and
order; arms share them. The score is the accuracy on a grid, whose truth is the arm that is nearest.
Then table 2.1: how far the features of labelled points are from those of the others, before each
normalization of the network that was trained by its own; the control is the same between halves of
the others.

    python benchmarks/ubn_toy.py
    python benchmarks/ubn_toy.py --figure docs/figures/ubn_toy.png
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from _common import finish, interval, parser

import keras  # isort: skip
import numpy as np
from scipy import stats

import etude
from etude.data._base import Arrays
from etude.data.resident import Resident
from etude.ssl import gaps
from etude.training import batch_norm
from etude.training import unsupervised_batch_norm as ubn

ARMS = ("labelled", "joint", "straight_through", "two_step")
RADIUS, TURNS, SIDE = 5.0, 1.75, 100


def spiral(count: int, noise: float, rng: np.random.Generator) -> tuple[Any, Any]:
    """Points `(2 count, 2)` float32 of both arms, and which arm each is of."""
    labels = np.repeat([0, 1], count)
    along = np.concatenate([rng.random(count), rng.random(count)])
    points = on_arm(along, labels) + noise * rng.uniform(-1.0, 1.0, (2 * count, 2))
    return points.astype(np.float32), labels


def on_arm(along: Any, labels: Any) -> Any:
    """Places on the arms; `along` is 0 in the middle and 1 at the end."""
    angle = 2.0 * np.pi * TURNS * along + np.pi * labels
    return RADIUS * along[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=1)


def grid() -> tuple[Any, Any]:
    """A grid over the square around the spiral, and the nearest arm of those within its circle.

    Points beyond it have the label -1.
    """
    axis = np.linspace(-RADIUS - 1, RADIUS + 1, SIDE, dtype=np.float32)
    points = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    along = np.linspace(0.0, 1.0, 400)
    distances = [
        np.linalg.norm(points[:, None] - on_arm(along, np.full(400, arm))[None], axis=2).min(1)
        for arm in (0, 1)
    ]
    nearest = np.argmin(distances, axis=0)
    return points, np.where(np.linalg.norm(points, axis=1) <= RADIUS, nearest, -1)


def network(width: int, seed: int) -> keras.Model:
    """Five dense layers, all but the last normalized."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.layers.Input((2,))])
    for _ in range(4):
        model.add(keras.layers.Dense(width))
        model.add(keras.layers.BatchNormalization(momentum=0.9))
        model.add(keras.layers.Activation("relu"))
    model.add(keras.layers.Dense(2))
    return model


def trained(arm: str, rate: float, seed: int, args: argparse.Namespace, sets: Any) -> Any:
    """The network of an arm."""
    (x, y), others = sets
    model = network(args.width, seed)
    recipe = etude.Recipe().give(
        optimization={"learning_rate": rate, "optimizer": "adam", "schedule": "one_cycle"},
        compute={"batch_size": args.batch},
        semisupervised={"batch_norm": arm, "unlabeled": args.others / args.batch},
    )
    trainer = etude.Trainer(model, recipe, seed=seed)
    trainer.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    trainer.fit(
        Resident(Arrays(x, y)),
        batch_size=args.batch,
        steps_per_epoch=args.steps,
        verbose=0,
        unlabeled=None if arm == ubn.OFF else others,
    )
    return model


def accuracy(model: Any, places: Any) -> float:
    """On the grid, where it has a truth."""
    points, truth = places
    found = model.predict(points, batch_size=4096, verbose=0).argmax(axis=1)
    return float(np.mean((found == truth)[truth >= 0]))


def gaps_of(model: Any, sets: Any) -> list[gaps.Gap]:
    """Table 2.1: of each layer, how far labelled points are from the others."""
    (x, _), others = sets
    layers = batch_norm.layers_of(model)

    def run(points: Any) -> Any:
        return model(points, training=True)

    # All points in one pass: each by itself would be normalized by its own statistics.
    found = ubn.features(run, np.concatenate([x, others]), layers)
    each = [np.asarray(found[layer.name][0], np.float64) for layer in layers]
    return [gaps.gap(part[: len(x)], part[len(x) :]) for part in each]


def uncertainty(model: Any, places: Any, others: Any, args: argparse.Namespace) -> Any:
    """The standard deviation of the second arm's probability by which points the statistics are."""
    points, _ = places
    layers = batch_norm.layers_of(model)
    rng = np.random.default_rng(0)
    found = []
    for _ in range(args.draws):
        chosen = others[rng.permutation(len(others))[: args.others]]
        seen = ubn.features(lambda p: model(p, training=True), chosen, layers)
        moments = {name: np.asarray(parts[0], np.float64) for name, parts in seen.items()}
        before = [(layer.moving_mean.numpy(), layer.moving_variance.numpy()) for layer in layers]
        for layer in layers:
            layer.moving_mean.assign(moments[layer.name].mean(axis=0))
            layer.moving_variance.assign(moments[layer.name].var(axis=0))
        logits = model.predict(points, batch_size=4096, verbose=0)
        found.append(1.0 / (1.0 + np.exp(logits[:, 0] - logits[:, 1])))
        for layer, (mean, variance) in zip(layers, before, strict=True):
            layer.moving_mean.assign(mean)
            layer.moving_variance.assign(variance)
    return np.std(found, axis=0)


def drawn(models: dict[str, Any], sets: Any, places: Any, args: argparse.Namespace) -> None:
    """Both boundaries with the points, and the uncertainty (figures 2.2 and 2.4)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    (x, y), others = sets
    points, truth = places
    ends = (-RADIUS - 1, RADIUS + 1)
    extent = (*ends, *ends)
    figure, axes = pyplot.subplots(2, len(models), figsize=(4 * len(models), 8), squeeze=False)
    for (name, model), (top, bottom) in zip(models.items(), axes.T, strict=True):
        found = model.predict(points, batch_size=4096, verbose=0).argmax(axis=1)
        share = accuracy(model, places)
        top.imshow(
            found.reshape(SIDE, SIDE), origin="lower", extent=extent, cmap="coolwarm", alpha=0.4
        )
        top.scatter(*others.T, s=4, c="none", edgecolors="grey", linewidths=0.4)
        top.scatter(*x.T, s=22, c=y, cmap="coolwarm", edgecolors="black", linewidths=0.6)
        top.set_title(f"{name}: {100 * share:.1f} % of the circle")
        wrong = np.where((found != truth) & (truth >= 0), 1.0, 0.0).reshape(SIDE, SIDE)
        spread = uncertainty(model, places, others, args).reshape(SIDE, SIDE)
        shown = bottom.imshow(spread, origin="lower", extent=extent, cmap="viridis", vmin=0.0)
        bottom.contour(
            wrong, levels=[0.5], colors="white", linewidths=0.7, extent=extent, origin="lower"
        )
        bottom.set_title("sd by the statistics' points; errors outlined")
        figure.colorbar(shown, ax=bottom, fraction=0.046)
    figure.tight_layout()
    figure.savefig(args.figure, dpi=110)


def main() -> None:
    """Prints a line per seed, then the differences, and table 2.1."""
    made = parser(__doc__)
    made.add_argument("--seeds", type=int, nargs="+", default=list(range(20)))
    made.add_argument("--rates", type=float, nargs="+", default=[0.003, 0.01, 0.03])
    made.add_argument("--labelled", type=int, default=25, help="points of each arm")
    made.add_argument("--unlabelled", type=int, default=200, help="points of each arm")
    made.add_argument("--noise", type=float, default=0.3)
    made.add_argument("--width", type=int, default=16)
    made.add_argument("--batch", type=int, default=25)
    made.add_argument("--others", type=int, default=100, help="unlabelled points beside a batch")
    made.add_argument("--steps", type=int, default=1000)
    made.add_argument("--draws", type=int, default=40, help="of the uncertainty")
    made.add_argument("--figure", type=Path)
    args = made.parse_args()
    if args.quick:
        args.seeds, args.rates, args.steps, args.draws = [0, 1], [0.01], 60, 3
    places = grid()
    scores: dict[tuple[str, float], list[float]] = {}
    tables: dict[str, list[list[gaps.Gap]]] = {arm: [] for arm in ARMS}
    # The rates are tried on seeds of their own, so that the best of each arm is no luck of ours.
    chosen = {arm: args.rates[0] for arm in ARMS}
    if len(args.rates) > 1:
        for seed in (1001, 1002, 1003, 1004):
            sets = points_of(seed, args)
            for arm in ARMS:
                for rate in args.rates:
                    found = accuracy(trained(arm, rate, seed, args, sets), places)
                    scores.setdefault((arm, rate), []).append(found)
        for arm in ARMS:
            means = [float(np.mean(scores[arm, rate])) for rate in args.rates]
            chosen[arm] = args.rates[int(np.argmax(means))]
        print({f"{arm} {rate}": round(float(np.mean(v)), 4) for (arm, rate), v in scores.items()})
    rows: list[dict[str, float]] = []
    models: dict[str, Any] = {}
    for seed in args.seeds:
        sets = points_of(seed, args)
        row = {}
        for arm in ARMS:
            model = trained(arm, chosen[arm], seed, args, sets)
            row[arm] = accuracy(model, places)
            tables[arm].append(gaps_of(model, sets))
            if seed == args.seeds[0]:
                models[arm] = model
        rows.append(row)
        print(seed, {arm: round(value, 4) for arm, value in row.items()}, flush=True)
        if seed == args.seeds[0] and args.figure:
            drawn(models, sets, places, args)
    results: dict[str, Any] = {"rates": chosen, "rows": rows}
    for arm in ARMS:
        mean, half = interval([row[arm] for row in rows])
        results[arm] = {"mean": mean, "half": half}
        told = f"{arm}: {100 * mean:.1f} ± {100 * half:.1f} %"
        if arm != ubn.OFF:
            against = [row[arm] - row[ubn.OFF] for row in rows]
            mean, half = interval(against)
            p = float(stats.ttest_rel([r[arm] for r in rows], [r[ubn.OFF] for r in rows]).pvalue)
            results[arm] |= {"against": mean, "against_half": half, "p": p}
            told += f", {100 * mean:+.1f} ± {100 * half:.1f} points, p = {p:.2g}"
        print(told)
    fields = ("wasserstein", "control", "divergence", "reverse", "different")
    for arm in ARMS:
        layers = [
            {name: float(np.mean([getattr(t[i], name) for t in tables[arm]])) for name in fields}
            for i in range(len(tables[arm][0]))
        ]
        results[arm]["layers"] = layers
        for index, values in enumerate(layers, start=1):
            print(arm, "layer", index, {name: round(v, 3) for name, v in values.items()})
    finish("ubn_toy", quick=args.quick, results=results)


def points_of(seed: int, args: argparse.Namespace) -> Any:
    """Labelled points with labels, and those without."""
    rng = np.random.default_rng(seed)
    return spiral(args.labelled, args.noise, rng), spiral(args.unlabelled, args.noise, rng)[0]


if __name__ == "__main__":
    main()
