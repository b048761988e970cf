"""What importance sampling costs: a step with the gate shut, and with it open against theory.

ResNet-9 on images in `etude.Trainer`, resident data: uniform, the upper bound with its gate shut,
and open with k from 2 to 6. The arms take turns in one process, in an order of chance each round;
figures are ratios to the uniform step of the same round, and steps are timed from the end of the
first to the end of the last, so that no pipeline's start is in them. Theory: 1 + k φ, where φ is
the time of a forward pass in training mode on a batch over that of a step, both measured beside;
and with the pass on all k batches at once, as it is done. No arm may trace its step again.
`--arms uniform shut --rounds 40` tells the shut gate from nothing.

    python benchmarks/sampling_step.py --width 8
"""

from __future__ import annotations

import time
from typing import Any

from _common import finish, interval, parser, wait_until_idle

import keras  # isort: skip
import numpy as np
import tensorflow as tf

import etude
from etude.data._base import Arrays
from etude.data.resident import Resident
from etude.training.readers import Watch
from etude.training.trainer import Trainer

NEVER, ALWAYS = 1e6, -1.0
PRESAMPLES = (2.0, 3.0, 4.0, 5.0, 6.0)


def main() -> None:
    """Prints ratios."""
    made = parser(__doc__)
    made.add_argument("--width", type=int, default=8)
    made.add_argument("--size", type=int, default=32)
    made.add_argument("--batch", type=int, default=64)
    made.add_argument("--rounds", type=int, default=10)
    made.add_argument("--steps", type=int, default=31, help="of each arm in each round")
    made.add_argument("--arms", nargs="*", help="some of them, uniform first")
    given = made.parse_args()
    if given.quick:
        given.width, given.rounds, given.steps = 4, 2, 7
    rng = np.random.default_rng(0)
    shape = (given.size, given.size, 3)
    x = rng.integers(0, 256, (given.steps * given.batch, *shape)).astype("uint8")
    data = Resident(Arrays(x, rng.integers(0, 10, len(x))))
    traces: list[str] = []
    step = Trainer.train_step

    def noted(self: Any, batch: Any) -> Any:
        traces.append(self.name)
        return step(self, batch)

    setattr(Trainer, "train_step", noted)  # noqa: B010
    uniform, sampled = (trainer(given, strategy) for strategy in ("uniform", "upper_bound"))
    arms: dict[str, Any] = {"uniform": lambda: None, "shut": lambda: gate(sampled, NEVER, 3.0)}
    for k in PRESAMPLES:
        arms[f"k = {k:g}"] = lambda k=k: gate(sampled, ALWAYS, k)
    if given.arms:
        arms = {name: arms[name] for name in given.arms}
    for begin in arms.values():  # every pipeline and the trace
        begin()
        for one in (uniform, sampled):
            one.fit(data, batch_size=given.batch, verbose=0)
    before = len(traces)
    forward = tf.function(lambda images: uniform.model(tf.cast(images, tf.float32), training=True))
    sizes = [1, *(int(k) for k in PRESAMPLES if f"k = {k:g}" in arms)]
    some = {size: tf.constant(x[: size * given.batch]) for size in sizes}
    for images in some.values():
        forward(images)
    load = wait_until_idle()
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    passes: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(given.rounds):
        for name in rng.permutation(list(arms)):
            arms[name]()
            watch = Watch(time.perf_counter)
            one = uniform if name == "uniform" else sampled
            one.fit(data, batch_size=given.batch, verbose=0, callbacks=[watch])
            seconds[name].append(watch.total / (watch.count - 1))
        for size, images in some.items():
            start = time.perf_counter()
            for _ in range(5):
                forward(images).numpy()
            passes[size].append((time.perf_counter() - start) / 5)
    ratios = {name: ratio(each, seconds["uniform"]) for name, each in seconds.items()}
    usual = float(np.median(seconds["uniform"]))
    share = {size: float(np.median(each)) / usual for size, each in passes.items()}
    theory = {f"k = {k}": 1.0 + k * share[1] for k in sizes[1:]}
    finish(
        "sampling_step", quick=given.quick, width=given.width, batch=given.batch, load=load,
        retraces=len(traces) - before, step=usual, forward_share=share[1], ratios=ratios,
        theory=theory, off={name: ratios[name][0] / theory[name] - 1.0 for name in theory},
        theory_at_once={f"k = {k}": 1.0 + share[k] for k in sizes[1:]},
    )  # fmt: skip


def trainer(given: Any, strategy: str) -> Trainer:
    """One that is compiled."""
    shape = (given.size, given.size, 3)
    model = etude.models.build("resnet9", shape, 10, width=given.width, seed=0)
    made = etude.Trainer(model, etude.Recipe().give(sampling={"strategy": strategy}))
    made.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return made


def gate(made: Trainer, threshold: float, presample: float) -> None:
    """Opens or shuts the gate, and sets how much is read."""
    numbers = {"strategy": "upper_bound", "threshold": threshold, "presample": presample}
    made.take_over(etude.Recipe().give(sampling=numbers))


def ratio(each: list[float], other: list[float]) -> tuple[float, float]:
    """Mean and half-width of the interval of the pairs' ratios."""
    return interval([a / b for a, b in zip(each, other, strict=True)])


if __name__ == "__main__":
    main()
