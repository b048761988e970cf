"""How much variance a choice of samples takes from the gradient, and how near scores are to it.

Figures 1 and 2 of Katharopoulos & Fleuret (2018) in small. A network is trained on CIFAR-10 with
AdamW on a one-cycle schedule; at some points of it 1,024 training images are scored, several times,
and the root mean squared distance of the weighted mean gradient of 128 of them, drawn by each
score, from that of all 1,024 is taken, relative to uniform draws. It follows from the samples'
gradients: E|g - G|² = (Σ n² / (B² p) - |G|²) / b; some draws check that. Gradients with the moving
statistics of batch normalization, where a sample's gradient is its own; `bound_in_training` scores
with those of the batch, as the training step does. Uniform batches without replacement, as an
epoch's are, have (B - b) / (B - 1) of the variance: `epoch`. Draws at even distances along the
chances, `systematic`, are simulated, and have independent ones by the same score beside them. And
the squared distance of probabilities from those by the true norm, over all points.

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

from etude.sampling import drawing, scores
from etude.training.sample_gradients import SampleGradients

LARGE, SMALL, TIMES = 1024, 128, 20
SCORES = ("uniform", "loss", "bound", "bound_in_training", "norm")


def main() -> None:
    """Trains, stops at points, and measures."""
    made = parser(__doc__)
    made.add_argument("--size", type=int, choices=(8, 16, 32), default=16)
    made.add_argument("--width", type=int, default=8)
    made.add_argument("--train", type=int, default=20_000)
    made.add_argument("--epochs", type=int, default=10)
    made.add_argument("--points", type=int, default=5, help="beside one after 150 steps")
    made.add_argument("--sets", type=int, default=4, help="large batches at each point")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--figure", type=Path, help="where to draw figures 1 and 2")
    args = made.parse_args()
    if args.quick:
        args.size, args.width, args.train = 8, 4, 4_096
        args.epochs, args.points, args.sets = 1, 1, 1
    keras.utils.set_random_seed(args.seed)
    (x, y), _ = cifar(args.train, 0, args.size)
    model = network(args, args.seed)
    each = SampleGradients(model, loss())
    first = min(150, args.epochs * (len(x) // SMALL) // 2)
    steps = first + args.epochs * (len(x) // SMALL)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps - steps // 4, warmup_target=5e-3, warmup_steps=steps // 4
    )
    model.compile(keras.optimizers.AdamW(rate, weight_decay=0.05), loss(), jit_compile=False)
    rng = np.random.default_rng(args.seed)
    rows: list[dict[str, Any]] = []
    clouds: list[dict[str, Any]] = []
    for point in range(args.points + 1):
        share = first if point == 0 else (steps - first) // args.points
        seen = rng.choice(len(x), share * SMALL, replace=share * SMALL > len(x))
        model.fit(x[seen], y[seen], batch_size=SMALL, epochs=1, verbose=0)
        found = [
            chances(each, model, x, y, rng.permutation(len(x))[:LARGE]) for _ in range(args.sets)
        ]
        clouds += found
        exact = [distances(each, x, y, cloud) for cloud in found]
        row: dict[str, Any] = {
            name: float(np.mean([one[name] for one in exact])) for name in exact[0]
        }
        row["steps"] = first + point * ((steps - first) // args.points)
        row["bound_over_norm"] = interval([one["bound"] / one["norm"] for one in exact])
        row["drawn"] = drawn(each, x, y, found[0], rng)
        row["squared_errors"] = errors(found)
        rows.append(row)
        print(json.dumps(row), flush=True)
    whole = errors(clouds)
    finish(
        "sampling_gradients",
        quick=args.quick,
        relative_distance=rows,
        bound_over_norm=[row["bound"] / row["norm"] for row in rows],
        squared_errors=whole,
        bound_over_loss=whole["bound"] / whole["loss"],
    )
    if args.figure:
        draw(rows, clouds, args.figure)


def errors(clouds: list[dict[str, Any]]) -> dict[str, float]:
    """Σ (p - p of the norm)² over all samples, as a mean over large batches."""
    return {
        name: float(np.mean([np.sum((c[name] - c["norm"]) ** 2) for c in clouds]))
        for name in SCORES[:-1]
    }


def chances(each: SampleGradients, model: Any, x: Any, y: Any, ids: Any) -> dict[str, Any]:
    """Probabilities of a large batch by each score, and its gradients' norms."""
    images = x[ids].astype("float32")
    outputs = model.predict(images, batch_size=256, verbose=0)
    kept = [value.numpy() for value in model.non_trainable_variables]
    in_training = model(images, training=True)
    for variable, value in zip(model.non_trainable_variables, kept, strict=True):
        variable.assign(value)
    labels = keras.ops.convert_to_tensor(y[ids])

    def bound(logits: Any) -> Any:
        return scores.norms(scores.crossentropy_residual(labels, logits, "sparse", logits=True))

    values = {
        "uniform": np.ones(len(ids)),
        "loss": keras.losses.sparse_categorical_crossentropy(y[ids], outputs, from_logits=True),
        "bound": bound(keras.ops.convert_to_tensor(outputs)),
        "bound_in_training": bound(in_training),
        "norm": each.norms(x[ids], y[ids]),
    }
    found = {name: np.asarray(value, np.float64) for name, value in values.items()}
    return {"ids": ids, "norms": found["norm"]} | {
        name: value / value.sum() for name, value in found.items()
    }


def distances(each: SampleGradients, x: Any, y: Any, cloud: dict[str, Any]) -> dict[str, float]:
    """Root mean squared distances of small batches' gradients, over that of uniform ones; and τ."""
    ids = cloud["ids"]
    square = float(np.sum(np.square(each.mean(x[ids], y[ids], np.ones(LARGE)))))
    far = {
        name: float(np.sum(cloud["norms"] ** 2 / cloud[name]) / LARGE**2 - square) / SMALL
        for name in SCORES
    }
    far["epoch"] = far["uniform"] * (LARGE - SMALL) / (LARGE - 1)
    taus = {f"tau_{k}": float(np.sqrt(LARGE * np.sum(cloud[k] ** 2))) for k in ("bound", "norm")}
    return {name: float(np.sqrt(value / far["uniform"])) for name, value in far.items()} | taus


def drawn(
    each: SampleGradients, x: Any, y: Any, cloud: dict[str, Any], rng: Any
) -> dict[str, float]:
    """As `distances`, by draws of one large batch."""
    ids = cloud["ids"]
    whole = each.mean(x[ids], y[ids], np.ones(LARGE))
    far = {}
    for name in (*SCORES, *(f"{name}_systematic" for name in SCORES)):
        p, found = cloud[name.removesuffix("_systematic")], []
        for _ in range(TIMES):
            if name.endswith("_systematic"):
                some = np.asarray(drawing.systematic(p, SMALL, rng.random()))
            else:
                some = rng.choice(LARGE, SMALL, p=p)
            small = each.mean(x[ids[some]], y[ids[some]], 1.0 / (LARGE * p[some]))
            found.append(np.sum(np.square(small - whole)))
        far[name] = float(np.mean(found))
    return {name: float(np.sqrt(value / far["uniform"])) for name, value in far.items()}


def draw(rows: list[dict[str, Any]], clouds: list[dict[str, Any]], path: Path) -> None:
    """Both figures side by side."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4))
    for name in (*SCORES, "epoch"):
        left.plot([row["steps"] for row in rows], [row[name] for row in rows], "o-", label=name)
    left.set_xlabel("steps")
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
