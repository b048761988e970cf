"""What importance sampling costs: a step with the gate shut, and with it open against theory.

ResNet-9 on images in `etude.Trainer`, resident data: uniform, the upper bound with its gate shut,
and open with k from 2 to 6. The arms take turns in one process; figures are ratios to the uniform
step of the same round. Theory: 1 + k φ, where φ is the time of a forward pass in training mode on a
batch over that of a step, both measured beside. No arm may trace its step again.

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
from etude.training.trainer import Trainer

NEVER, ALWAYS = 1e6, -1.0
PRESAMPLES = (2.0, 3.0, 4.0, 6.0)


def main() -> None:
    """Prints ratios."""
    made = parser(__doc__)
    made.add_argument("--width", type=int, default=8)
    made.add_argument("--size", type=int, default=32)
    made.add_argument("--batch", type=int, default=64)
    made.add_argument("--rounds", type=int, default=10)
    made.add_argument("--steps", type=int, default=15, help="of each arm in each round")
    given = made.parse_args()
    if given.quick:
        given.width, given.rounds, given.steps = 4, 2, 3
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
    for begin in arms.values():  # every pipeline and the trace
        begin()
        for one in (uniform, sampled):
            one.fit(data, batch_size=given.batch, verbose=0)
    before = len(traces)
    forward = tf.function(lambda images: uniform.model(tf.cast(images, tf.float32), training=True))
    some = tf.constant(x[: given.batch])
    forward(some)
    load = wait_until_idle()
    seconds: dict[str, list[float]] = {name: [] for name in [*arms, "forward"]}
    for turn in range(given.rounds):
        names = list(arms)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            arms[name]()
            one = uniform if name == "uniform" else sampled
            start = time.perf_counter()
            one.fit(data, batch_size=given.batch, verbose=0)
            seconds[name].append((time.perf_counter() - start) / given.steps)
        start = time.perf_counter()
        for _ in range(given.steps):
            forward(some)
        seconds["forward"].append((time.perf_counter() - start) / given.steps)
    ratios = {name: ratio(each, seconds["uniform"]) for name, each in seconds.items()}
    share = float(np.median(seconds["forward"]) / np.median(seconds["uniform"]))
    theory = {f"k = {k:g}": 1.0 + k * share for k in PRESAMPLES}
    finish(
        "sampling_step", quick=given.quick, width=given.width, batch=given.batch, load=load,
        retraces=len(traces) - before, forward_share=share, ratios=ratios, theory=theory,
        off={name: ratios[name][0] / theory[name] - 1.0 for name in theory},
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
