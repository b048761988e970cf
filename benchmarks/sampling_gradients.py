"""How much variance a choice of samples takes from the gradient, and how near scores are to it.

Figures 1 and 2 of Katharopoulos & Fleuret (2018) in small. A network is trained on CIFAR-10 with
AdamW on a one-cycle schedule; at some points of it, 1,024 training images are scored, 128 of them
drawn by each score, and the distance of their weighted mean gradient from that of all 1,024 is
taken, relative to uniform draws. Gradients with frozen statistics. And the squared distance of
probabilities by score from those by the true norm, summed over 16 × 1,024 points.

    python benchmarks/sampling_gradients.py --size 16 --width 8
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from _common import finish, interval, parser

import keras  # isort: skip
import numpy as np
from learning_rate import cifar
from time_to_accuracy import loss, network

from etude.sampling import scores
from etude.training.sample_gradients import SampleGradients

LARGE, SMALL, TIMES = 1024, 128, 30


def main() -> None:
    """Trains, stops at points, and measures."""
    made = parser(__doc__)
    made.add_argument("--size", type=int, choices=(8, 16, 32), default=16)
    made.add_argument("--width", type=int, default=8)
    made.add_argument("--train", type=int, default=20_000)
    made.add_argument("--epochs", type=int, default=10)
    made.add_argument("--points", type=int, default=5)
    made.add_argument("--sets", type=int, default=16, help="of points of probabilities")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--figure", type=Path, help="where to draw figures 1 and 2")
    args = made.parse_args()
    if args.quick:
        args.size, args.width, args.train, args.epochs, args.points, args.sets = (
            8,
            4,
            4_096,
            1,
            1,
            2,
        )
    (x, y), _ = cifar(args.train, 0, args.size)
    model = network(args, args.seed)
    each = SampleGradients(model, loss())
    steps = args.epochs * (len(x) // SMALL)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps - steps // 4, warmup_target=5e-3, warmup_steps=steps // 4
    )
    model.compile(keras.optimizers.AdamW(rate, weight_decay=0.05), loss(), jit_compile=False)
    rng = np.random.default_rng(args.seed)
    rows: list[dict[str, Any]] = []
    clouds: list[dict[str, Any]] = []
    for point in range(args.points):
        model.fit(x, y, batch_size=SMALL, epochs=max(1, args.epochs // args.points), verbose=0)
        clouds = [chances(each, model, x, y, rng.permutation(len(x))[:LARGE])
                  for _ in range(args.sets if point == args.points - 1 else 1)]  # fmt: skip
        rows.append(distances(each, x, y, clouds[0], rng))
        print(json.dumps(rows[-1]), flush=True)
    errors = {
        name: float(sum(np.sum((cloud[name] - cloud["norm"]) ** 2) for cloud in clouds))
        for name in ("loss", "bound", "uniform")
    }
    if args.figure:
        draw(rows, clouds, args.figure)
    finish(
        "sampling_gradients",
        quick=args.quick,
        relative_distance=rows,
        bound_over_norm=interval([row["bound"] / row["norm"] for row in rows]),
        squared_errors=errors,
        bound_over_loss=errors["bound"] / errors["loss"],
    )


def chances(each: SampleGradients, model: Any, x: Any, y: Any, ids: Any) -> dict[str, Any]:
    """Probabilities of a large batch by each score."""
    outputs = model.predict(x[ids].astype("float32"), batch_size=256, verbose=0)
    residual = scores.crossentropy_residual(
        keras.ops.convert_to_tensor(y[ids]), outputs, "sparse", logits=True
    )
    values = {
        "uniform": np.ones(len(ids)),
        "loss": keras.losses.sparse_categorical_crossentropy(y[ids], outputs, from_logits=True),
        "bound": scores.norms(residual),
        "norm": each.norms(x[ids], y[ids]),
    }
    found = {name: np.asarray(value, np.float64) for name, value in values.items()}
    return {"ids": ids} | {name: value / value.sum() for name, value in found.items()}


def distances(
    each: SampleGradients, x: Any, y: Any, cloud: dict[str, Any], rng: Any
) -> dict[str, Any]:
    """The mean distance of small batches' gradients, over that of uniform ones; and τ."""
    ids = cloud["ids"]
    whole = each.mean(x[ids], y[ids], np.ones(LARGE))
    far: dict[str, float] = {}
    for name in ("uniform", "loss", "bound", "norm"):
        p, found = cloud[name], []
        for _ in range(TIMES):
            drawn = rng.choice(LARGE, SMALL, p=p)
            small = each.mean(x[ids[drawn]], y[ids[drawn]], 1.0 / (LARGE * p[drawn]))
            found.append(np.linalg.norm(small - whole))
        far[name] = float(np.mean(found))
    taus = {f"tau_{k}": float(np.sqrt(LARGE * np.sum(cloud[k] ** 2))) for k in ("bound", "norm")}
    return {name: value / far["uniform"] for name, value in far.items()} | taus


def draw(rows: list[dict[str, Any]], clouds: list[dict[str, Any]], path: Path) -> None:
    """Both figures side by side."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4))
    for name in ("uniform", "loss", "bound", "norm"):
        left.plot(range(1, len(rows) + 1), [row[name] for row in rows], "o-", label=name)
    left.set_xlabel("fifth of the training")
    left.set_ylabel("distance to the large batch's gradient, uniform = 1")
    left.legend()
    for name in ("loss", "bound"):
        ideal = np.concatenate([cloud["norm"] for cloud in clouds])
        found = np.concatenate([cloud[name] for cloud in clouds])
        right.loglog(ideal, found, ".", markersize=2, label=name)
    right.plot([1e-6, 1e-1], [1e-6, 1e-1], "k-", linewidth=0.8)
    right.set_xlabel("probability by the gradient's norm")
    right.set_ylabel("by the score")
    right.legend()
    figure.savefig(path, dpi=120, bbox_inches="tight")


if __name__ == "__main__":
    main()
