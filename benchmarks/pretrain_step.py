"""Images per second of `etude.pretrain`'s step, against a loop of the same that is written by hand.

Both train the same network from the same initial weights by the same objective, on views by
Étude's own policy, in batches of the same size, by Keras' SGD with Nesterov momentum on a cosine,
in float32. The one is `Pretrainer.fit` on data as `etude.pretrain` feeds it, with the callback that
counts operations; the other a `tf.function` of some thirty lines on `tf.data`. Segments of them
take turns in one process, and a ratio is that of two neighbours. A segment's first step, which also
starts the input, is left out on both sides.

To be reached: at least .95 of the speed of the loop.

    python benchmarks/pretrain_step.py --busy
    python benchmarks/pretrain_step.py --objectives byol --keep rows.json
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from _common import finish, wait_until_idle
from _rows import backbone, clock, feed, kept, note, options, photos, same, table

import keras  # isort: skip
import numpy as np
import tensorflow as tf
from scipy import stats  # type: ignore[import-untyped, unused-ignore]

from etude._pretrain import PER, _recipe
from etude.augment import Augment
from etude.ssl.objectives import OBJECTIVES
from etude.training.pretrainer import Count, Pretrainer, built

REACHED = 0.95
SAME = ("size", "width", "batch", "busy", "steps")
Segment = Callable[[], float]


class Watch(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
    """Seconds of a `fit` without its first step."""

    def __init__(self, now: Callable[[], float]) -> None:
        super().__init__()
        self.now, self.start, self.end = now, 0.0, 0.0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Notes the time; reading the loss waits for the device."""
        float((logs or {})["loss"])
        self.end = self.now()
        if batch == 0:
            self.start = self.end


def ours(args: argparse.Namespace, objective: str, now: Callable[[], float]) -> Segment:
    """Segments of `Pretrainer.fit`."""
    made = OBJECTIVES[objective]()
    recipe = _recipe(None, made.rate, args.batch, "contrastive")
    trainer = Pretrainer(backbone(args), made, recipe, value_range=(0, 255))
    trainer.compile()
    images = feed(args)
    count = Count([args.size, args.size, 3], args.batch)  # it looks at the network once in a run

    def segment() -> float:
        watch = Watch(now)
        trainer.fit(
            images.shuffled(args.batch, seed=0), steps_per_epoch=args.steps, shuffle=False,
            callbacks=[watch, count], verbose=0,
        )  # fmt: skip
        return watch.end - watch.start

    return segment


def by_hand(args: argparse.Namespace, objective: str, now: Callable[[], float]) -> Segment:
    """Segments of a loop that does nothing else."""
    heads = OBJECTIVES[objective]()
    body = backbone(args)
    projector = built(heads.projector, int(body.output_shape[-1]), 0)
    assert heads.predictor is not None
    predictor = built(heads.predictor, heads.projector.widths[-1], 1)
    online = [*body.trainable_variables, *projector.trainable_variables]
    weights = [*online, *predictor.trainable_variables]
    rate = keras.optimizers.schedules.CosineDecay(heads.rate * args.batch / PER, args.steps)
    optimizer = keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, weight_decay=5e-4)
    optimizer.build(weights)
    augment = Augment("contrastive", value_range=(0, 255), seed=0)
    slow: list[Any] = []
    if objective == "byol":
        slow = [keras.models.clone_model(part) for part in (body, projector)]
        for own, other in zip(slow, (body, projector), strict=True):
            own.set_weights(other.get_weights())
    slower = [variable for part in slow for variable in part.trainable_variables]

    def unit(rows: Any) -> Any:
        return tf.math.l2_normalize(rows, axis=-1)

    @tf.function(jit_compile=False)  # type: ignore[misc, unused-ignore]
    def step(images: Any) -> Any:
        first, second = augment(images, training=True), augment(images, training=True)
        targets = [
            slow[1](slow[0](v, training=True), training=True) for v in (first, second) if slow
        ]
        with tf.GradientTape() as tape:
            z = [projector(body(v, training=True), training=True) for v in (first, second)]
            p = [predictor(one, training=True) for one in z]
            t = targets or [tf.stop_gradient(one) for one in z]
            cosines = [tf.reduce_sum(unit(p[i]) * unit(t[1 - i]), axis=-1) for i in (0, 1)]
            cosine = tf.reduce_mean(cosines)
            loss = 2.0 - 2.0 * cosine if slow else -cosine
        values = [variable.value for variable in weights]
        optimizer.apply_gradients(zip(tape.gradient(loss, values), weights, strict=True))
        for own, other in zip(slower, online if slow else [], strict=True):
            own.assign_add(0.01 * (other - own))
        return loss

    x = photos(args)[0][0]
    stream = tf.data.Dataset.from_tensor_slices(x).shuffle(len(x), seed=0).repeat()
    stream = stream.batch(args.batch, drop_remainder=True).prefetch(2)

    def segment() -> float:
        start = 0.0
        optimizer.iterations.assign(0)
        for index, images in enumerate(stream.take(args.steps)):
            float(step(images))
            if index == 0:
                start = now()
        return now() - start

    return segment


def measured(args: argparse.Namespace, objective: str, now: Callable[[], float]) -> dict[str, Any]:
    """Seconds of segments in turn."""
    keras.backend.clear_session()
    arms = {"etude": ours(args, objective, now), "by hand": by_hand(args, objective, now)}
    for _ in range(2):
        for segment in arms.values():
            segment()
    load = None if args.busy else wait_until_idle(60.0)
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(args.pairs):
        for name in list(arms)[:: -1 if turn % 2 else 1]:
            seconds[name].append(arms[name]() / (args.steps - 1))
    return {"load": load, "seconds": seconds}


def said(rows: list[dict[str, Any]], batch: int) -> dict[str, Any]:
    """The table, and its numbers by objective."""
    found: dict[str, Any] = {}
    lines = []
    for objective in dict.fromkeys(row["objective"] for row in rows):
        mine = [row["seconds"] for row in rows if row["objective"] == objective]
        own, hand = (
            np.concatenate([seconds[name] for seconds in mine]) for name in ("etude", "by hand")
        )
        ratios = hand / own
        low, high = stats.quantile_test(ratios, p=0.5).confidence_interval()
        median = float(np.median(ratios))
        speeds = [batch / float(np.median(each)) for each in (own, hand)]
        found[objective] = {
            "n": len(ratios), "images_per_second": speeds, "median": median, "low": low,
            "high": high, "least": min(ratios), "most": max(ratios), "reached": median >= REACHED,
        }  # fmt: skip
        lines.append([
            objective, *(f"{speed:.0f}" for speed in speeds),
            f"{median:.3f} ({low:.3f} to {high:.3f})",
            f"{min(ratios):.3f} to {max(ratios):.3f}", str(len(ratios)),
        ])  # fmt: skip
    table(["objective", "images / s", "by hand", "median ratio (95 %)", "range", "pairs"], lines)
    return found


def main() -> None:
    """Measures what is not kept yet, and prints the table."""
    made = options(__doc__)
    made.add_argument(
        "--objectives", nargs="+", choices=("simsiam", "byol"), default=["simsiam", "byol"]
    )
    made.add_argument("--pairs", type=int, default=9)
    made.add_argument("--steps", type=int, default=21, help="of a segment; the first is not timed")
    made.add_argument("--epochs", type=float, help="the length of a segment in the place of steps")
    args = made.parse_args()
    if args.quick:
        args.size, args.width, args.images, args.pairs, args.steps = 16, 4, 1000, 3, 4
    if args.epochs is not None:
        args.steps = max(2, int(args.epochs * args.images) // args.batch)
    now = clock(args)
    rows = kept(args.keep)
    done = {row["objective"] for row in rows if same(row, args, *SAME)}
    for objective in [] if args.summarize else args.objectives:
        if objective not in done:
            own = {name: getattr(args, name) for name in SAME}
            note(rows, {"objective": objective, **own, **measured(args, objective, now)}, args.keep)
    results = said([row for row in rows if same(row, args, *SAME)], args.batch)
    finish("pretrain_step", quick=args.quick, results=results)


if __name__ == "__main__":
    main()
