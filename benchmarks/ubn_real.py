"""Unsupervised Batch Normalization on real images: what unlabelled ones give as labels get few.

Figure 2.6 of Koçyiğit (2023) in small. A part of the training images keeps its labels; all of them
are the images without. A network trains by labelled samples alone, on both jointly, or by
statistics of both whose gradient is that of the labelled ones', or none; in as many steps each, and
is scored on the test part: the accuracy of CIFAR-10, the mean intersection over union of nuclei and
of streets. Seeds draw the part, weights and order; arms share them. The rate of each arm is the
best on seeds of its own, scored on labelled images set apart.

    python benchmarks/ubn_real.py --set photos
    python benchmarks/ubn_real.py --set nuclei
    python benchmarks/ubn_real.py --set streets
"""

from __future__ import annotations

import dataclasses
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _common import finish, interval, parser

import keras  # isort: skip
import numpy as np
from _sets import PACK, Split, picture, reduced

import etude
from etude.augment.policy import Choice, Policy, Slot
from etude.data._base import Arrays
from etude.data.resident import Resident
from etude.training import unsupervised_batch_norm as ubn

ARMS = ("labelled", "joint", "straight_through", "two_step")
VOID = 11
"""The label of street pixels that nobody labelled."""
MIRROR = Policy((Slot((Choice("mirror_horizontal", 50.0, 50.0),)),))
# The first seed of the choice of rates; those of the figures are far below.
CHOOSING = 1001


@dataclasses.dataclass(frozen=True)
class Case:
    """A problem.

    Attributes:
        train: Images, uint8, and labels.
        test: The same.
        build: Makes the network at the initial weights of a seed.
        loss: Makes the loss.
        score: From outputs and labels to a figure in 0..1, of which more is better.
        labels: How many samples are labelled, in the columns of the table.
        batch: Labelled samples in a batch.
        others: Unlabelled images beside it.
        steps: Of a run.
    """

    train: Split
    test: Split
    build: Callable[[int], keras.Model]
    loss: Callable[[], Any]
    score: Callable[[Any, Any], float]
    labels: tuple[int, ...]
    batch: int
    others: int
    steps: int


def photos() -> Case:
    """CIFAR-10 averaged down to 16 × 16, a ResNet-9 of width 8."""
    from learning_rate import cifar
    from time_to_accuracy import test_part

    def build(seed: int) -> keras.Model:
        return etude.models.build("resnet9", (16, 16, 3), 10, width=8, seed=seed)

    return Case(
        cifar(20_000, 0, 16)[0],
        test_part(16),
        build,
        lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        lambda outputs, labels: float(np.mean(outputs.argmax(axis=-1) == labels)),
        (250, 1000, 4000),
        batch=32,
        others=64,
        steps=1500,
    )


def nuclei(side: int = 64, width: int = 6) -> Case:
    """Nuclei in microscope images: which pixels are of one? A U-Net."""
    parts: dict[str, tuple[list[Any], list[Any]]] = {"train": ([], []), "val": ([], [])}
    with tarfile.open(PACK / "nuclei256" / "nuclei256.tar") as pack:
        for name in pack.getnames():
            part, *rest = name.split("/")
            if rest and rest[0] == "images":
                instances = picture(pack, name.replace("images", "instances"))
                share = reduced(255 * (instances > 0).astype("uint8"), side)
                parts[part][0].append(reduced(picture(pack, name), side)[..., None])
                parts[part][1].append((share > 127).astype("uint8")[..., None])
    train, test = ((np.stack(x), np.stack(y)) for x, y in parts.values())

    def build(seed: int) -> keras.Model:
        return etude.models.build("unet", (side, side, 1), 1, width=width, depth=3, seed=seed)

    return Case(
        train,
        test,
        build,
        lambda: keras.losses.BinaryCrossentropy(from_logits=True),
        lambda outputs, labels: mean_iou((outputs > 0).astype(int)[..., 0], labels[..., 0], 2),
        (13, 67, 133, 267),
        batch=4,
        others=4,
        steps=300,
    )


def streets(width: int = 6) -> Case:
    """CamVid: of which of 11 kinds is a pixel? 60 × 44 pixels, a U-Net.

    A row is cut off, so that the height can be halved twice.
    """
    parts: dict[str, tuple[list[Any], list[Any]]] = {"train": ([], []), "test": ([], [])}
    with tarfile.open(PACK / "camvid240" / "camvid240.tar") as pack:
        for name in sorted(pack.getnames()):
            part, *rest = name.split("/")
            if part in parts and rest and rest[0] == "images":
                labels = picture(pack, name.replace("images", "labels")[:-3] + "png")
                image = picture(pack, name)
                boxes = image.reshape(45, 4, 60, 4, 3).mean(axis=(1, 3))
                parts[part][0].append(boxes.round().astype("uint8")[:44])
                parts[part][1].append(labels[2::4, 2::4][:44].astype("int64"))
    train, test = ((np.stack(x), np.stack(y)) for x, y in parts.values())

    def build(seed: int) -> keras.Model:
        return etude.models.build("unet", (44, 60, 3), 11, width=width, depth=2, seed=seed)

    return Case(
        train,
        test,
        build,
        lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=VOID),
        lambda outputs, labels: mean_iou(outputs.argmax(axis=-1), labels, 11),
        (18, 92, 184, 367),
        batch=4,
        others=4,
        steps=500,
    )


SETS: dict[str, Callable[[], Case]] = {"photos": photos, "nuclei": nuclei, "streets": streets}


def mean_iou(found: Any, labels: Any, classes: int) -> float:
    """The mean over classes of intersection over union, of all pixels that are labelled."""
    known = labels < classes
    index = classes * labels[known].astype("int64") + found[known]
    table = np.bincount(index, minlength=classes**2).reshape(classes, classes)
    union = table.sum(axis=0) + table.sum(axis=1) - np.diag(table)
    return float(np.mean(np.diag(table)[union > 0] / union[union > 0]))


def trained(case: Case, arm: str, rate: float, labelled: Any, seed: int) -> keras.Model:
    """The network of an arm, trained by these labelled samples."""
    keras.backend.clear_session()  # what was traced before would slow down what is traced next
    model = case.build(seed)
    recipe = etude.Recipe().give(
        optimization={"learning_rate": rate, "optimizer": "adamw", "schedule": "one_cycle"},
        compute={"batch_size": case.batch},
        augmentation={"policy": MIRROR},
        semisupervised={"batch_norm": arm, "unlabeled": case.others / case.batch},
    )
    trainer = etude.Trainer(model, recipe, seed=seed, value_range=(0, 255))
    trainer.compile(loss=case.loss())
    x, y = labelled
    trainer.fit(
        Resident(Arrays(x, y)),
        batch_size=case.batch,
        steps_per_epoch=case.steps,
        verbose=0,
        unlabeled=None if arm == ubn.OFF else case.train[0],
    )
    return model


def scored(case: Case, model: Any, samples: Any) -> float:
    """The figure of these samples."""
    x, y = samples
    return case.score(model.predict(x, batch_size=32, verbose=0), y)


def drawn(case: Case, count: int, seed: int) -> Any:
    """The order of the training samples: the first `count` are labelled; of photos evenly many of
    each class."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(case.train[0]))
    labels = case.train[1]
    if labels.ndim > 1:
        return order
    # In turns a sample of each class.
    place = np.empty(len(order), np.int64)
    for kind in np.unique(labels):
        own = np.flatnonzero(labels[order] == kind)
        place[own] = np.arange(len(own))
    return order[np.argsort(place, kind="stable")]


def chosen_rates(
    case: Case, arms: list[str], rates: list[float], seeds: list[int]
) -> dict[str, float]:
    """Of each arm the rate that scores best on training samples which none of them learned from."""
    if len(rates) == 1:
        return dict.fromkeys(arms, rates[0])
    x, y = case.train
    count = case.labels[0]
    found: dict[str, float] = {}
    for arm in arms:
        means = []
        for rate in rates:
            scores = []
            for seed in seeds:
                order = drawn(case, count, seed)
                own, others = order[:count], order[count:][:500]
                model = trained(case, arm, rate, (x[own], y[own]), seed)
                scores.append(scored(case, model, (x[others], y[others])))
            means.append(float(np.mean(scores)))
        print("rates", arm, dict(zip(rates, np.round(means, 4), strict=True)), flush=True)
        found[arm] = rates[int(np.argmax(means))]
    return found


def main() -> None:
    """Rates, then a line per run, and the differences of each column."""
    made = parser(__doc__)
    made.add_argument("--set", choices=tuple(SETS), default="photos")
    made.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    made.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    made.add_argument("--labels", type=int, nargs="+", help="labelled samples, the table's columns")
    made.add_argument("--rates", type=float, nargs="+", default=[0.002, 0.006, 0.02])
    made.add_argument("--choosing", type=int, default=2, help="seeds that choose the rates")
    made.add_argument("--steps", type=int)
    made.add_argument("--batch", type=int)
    made.add_argument("--others", type=int, help="unlabelled images beside a batch")
    made.add_argument("--keep", type=Path, help="a file of rows: read first, then added to")
    args = made.parse_args()
    case = SETS[args.set]()
    given = {name: getattr(args, name) for name in ("steps", "batch", "others", "labels")}
    case = dataclasses.replace(case, **{k: v for k, v in given.items() if v is not None})
    if args.quick:
        args.seeds, args.rates = [0, 1], [0.006]
        case = dataclasses.replace(case, steps=10, labels=case.labels[:2])
    rows = _kept(args.keep)
    rates = chosen_rates(case, args.arms, args.rates, [CHOOSING + i for i in range(args.choosing)])
    x, y = case.train
    for seed in args.seeds:
        for count in case.labels:
            for arm in args.arms:
                if any((r["seed"], r["labels"], r["arm"]) == (seed, count, arm) for r in rows):
                    continue
                own = drawn(case, count, seed)[:count]
                model = trained(case, arm, rates[arm], (x[own], y[own]), seed)
                row = {"seed": seed, "labels": count, "arm": arm, "rate": rates[arm],
                       "score": scored(case, model, case.test)}  # fmt: skip
                rows.append(row)
                print(json.dumps(row), flush=True)
                if args.keep:
                    with args.keep.open("a") as file:
                        file.write(json.dumps(row) + "\n")
    finish("ubn_real", set=args.set, quick=args.quick, rates=rates, **said(rows))


def said(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means of all cells, and the differences from labelled samples alone, by pairs."""
    cells: dict[str, Any] = {}
    for count in sorted({row["labels"] for row in rows}):
        of = {arm: {r["seed"]: r["score"] for r in rows if (r["labels"], r["arm"]) == (count, arm)}
              for arm in ARMS}  # fmt: skip
        for arm in [arm for arm in ARMS if of[arm]]:
            mean, half = interval(list(of[arm].values()))
            cells[f"{count} {arm}"] = {"n": len(of[arm]), "mean": mean, "half": half}
            told = f"{count} {arm}: {100 * mean:.1f} ± {100 * half:.1f} %"
            if arm != ubn.OFF:
                pairs = [of[arm][s] - of[ubn.OFF][s] for s in of[arm].keys() & of[ubn.OFF].keys()]
                mean, half = interval(pairs)
                cells[f"{count} {arm}"] |= {"against": mean, "against_half": half}
                told += f", {100 * mean:+.1f} ± {100 * half:.1f} points"
            print(told)
    return cells


def _kept(path: Path | None) -> list[dict[str, Any]]:
    if path is None or not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    main()
