"""Does the predicted speed-up of importance sampling come true? M over cost, and both measured.

A ResNet-9 is trained uniformly; at three points of it, for k from 2 to 6, the study's prediction
M / (1 + k φ), M of k and τ, τ by the moving means of the step itself and φ measured once as the
study does, stands against what is: the variance of a uniform batch's gradient over that
of a batch of chosen samples with its weights, divided by the time of a step with the gate open over
that of one with it shut. Gradients with statistics of the batch, as in training.

    python benchmarks/sampling_prediction.py --width 8
"""

from __future__ import annotations

import json
import time
from typing import Any

from _common import finish, interval, parser, wait_until_idle

import keras  # isort: skip
import numpy as np
import tensorflow as tf
from learning_rate import cifar
from sampling_bias import NETS, network
from time_to_accuracy import loss

import etude
from etude.data._base import Arrays
from etude.data.resident import Resident
from etude.sampling import probabilities
from etude.training.readers import Watch
from etude.training.trainer import Trainer

NEVER, ALWAYS = 1e6, -1.0
PRESAMPLES = (2.0, 3.0, 4.0, 5.0, 6.0)


def main() -> None:
    """Three points, five sizes."""
    made = parser(__doc__)
    made.add_argument("--train", type=int, default=10_000)
    made.add_argument("--draws", choices=("systematic", "independent"), default="systematic")
    made.add_argument("--net", choices=tuple(NETS), default="batch")
    made.add_argument("--size", type=int, choices=(8, 16, 32), default=16)
    made.add_argument("--width", type=int, default=8)
    made.add_argument("--batch", type=int, default=64)
    made.add_argument("--epochs", type=int, default=4, help="between two points")
    made.add_argument("--batches", type=int, default=150, help="of which variances are taken")
    made.add_argument("--rounds", type=int, default=6, help="of timing")
    made.add_argument("--seed", type=int, default=0)
    given = made.parse_args()
    if given.quick:
        given.train, given.size, given.width = 1_000, 8, 4
        given.epochs, given.batches, given.rounds = 1, 10, 2
    (x, y), _ = cifar(given.train, 0, given.size)
    data = Resident(Arrays(x, y))
    model = network(given, normalized=NETS[given.net] is not None)
    trainer = Trainer(model, recipe(3.0, NEVER, given.draws), seed=given.seed)
    trainer.compile(keras.optimizers.SGD(0.05, momentum=0.9), loss())
    gate(trainer, 3.0, NEVER)
    step = timed(trainer, data, given)
    ratios = {}
    for k in PRESAMPLES:
        ratios[k] = timed(trainer, data, given, k) / step
    forward = max(0.0, (ratios[3.0] - 1.0) / 3.0)
    print(json.dumps({"step": step, "forward": forward, "ratios": ratios}), flush=True)
    variance = variances(trainer, data, given)
    rows: list[dict[str, Any]] = []
    for point in range(3):
        gate(trainer, 3.0, NEVER)
        trainer.fit(data, batch_size=given.batch, epochs=given.epochs, verbose=0)
        assert trainer.selector is not None
        tau = float(trainer.selector.tau())
        for k in PRESAMPLES:
            by_tau = probabilities.equivalent_batch(tau, k, given.draws)
            predicted = by_tau / probabilities.cost(k, forward)
            equivalent, spread = variance(k)
            true = equivalent / ratios[k]
            row = {
                "epochs": given.epochs * (point + 1), "tau": tau, "k": k, "predicted": predicted,
                "true": true, "off": predicted / true - 1.0, "M": equivalent, "spread of M": spread,
                "M by τ": by_tau,
            }  # fmt: skip
            rows.append(row)
            print(json.dumps(row), flush=True)
    off = [row["off"] for row in rows]
    wrongly = [row for row in rows if row["predicted"] > 1.0 and row["true"] < 1.0]
    finish(
        "sampling_prediction", quick=given.quick, net=given.net, draws=given.draws, forward=forward,
        ratios=ratios, rows=rows, off=interval(off), farthest=float(np.abs(off).max()),
        within=float(np.mean(np.abs(off) < 0.2)),
        wrongly_on=len(wrongly),
    )  # fmt: skip


def recipe(presample: float, threshold: float, draws: str) -> etude.Recipe:
    """By the upper bound."""
    numbers = {"presample": presample, "threshold": threshold, "draws": draws}
    return etude.Recipe().give(sampling={"strategy": "upper_bound", **numbers})


def gate(trainer: Trainer, presample: float, threshold: float) -> None:
    """Opens or shuts it."""
    trainer.take_over(recipe(presample, threshold, trainer.recipe.sampling.draws))


def timed(trainer: Trainer, data: Resident, given: Any, presample: float | None = None) -> float:
    """Seconds of a step, the least of some rounds; the weights are as before."""
    before = trainer.model.get_weights()
    open_ = (3.0, NEVER) if presample is None else (presample, ALWAYS)
    gate(trainer, *open_)
    steps = 4 if given.quick else 20
    trainer.fit(data, batch_size=given.batch, steps_per_epoch=steps, epochs=1, verbose=0)
    wait_until_idle(20.0)
    found = []
    for _ in range(given.rounds):
        watch = Watch(time.perf_counter)
        trainer.fit(
            data, batch_size=given.batch, steps_per_epoch=steps, epochs=1, verbose=0,
            callbacks=[watch],
        )  # fmt: skip
        found.append(watch.total / (watch.count - 1))
    trainer.model.set_weights(before)
    return min(found)


def variances(trainer: Trainer, data: Resident, given: Any) -> Any:
    """A function of k: the equivalent batch that is measured, and its standard error."""
    model, mean_loss = trainer.model, loss()
    weights = [weight.value for weight in model.trainable_weights]
    training = bool(NETS[given.net])

    def gradient(x: Any, y: Any, weight: Any) -> Any:
        with tf.GradientTape() as tape:
            value = mean_loss(y, model(x, training=training), sample_weight=weight)
        found = tape.gradient(value, weights)
        return tf.concat([tf.reshape(g, [-1]) for g in found], axis=0)

    @tf.function(reduce_retracing=True)
    def both(one: Any) -> Any:
        batch = trainer._selected(one).batch
        (ids,) = one["batch"].values()
        images, labels, _ = data.gather(ids)
        even = gradient(tf.cast(images, tf.float32), labels, tf.ones((given.batch,)))
        return gradient(tf.cast(batch.x, tf.float32), batch.y, batch.weight), even

    def of(presample: float) -> tuple[float, float]:
        gate(trainer, presample, ALWAYS)
        kept = [value.numpy() for value in model.non_trainable_variables]
        stream = data.shuffled(
            given.batch, seed=given.seed + 7, beside=trainer.beside(given.batch)
        ).take(given.batches)
        found = [[part.numpy() for part in both(one)] for one in stream]
        for variable, value in zip(model.non_trainable_variables, kept, strict=True):
            variable.assign(value)
        chosen, even = (np.stack(part) for part in zip(*found, strict=True))
        far = [np.square(part - part.mean(axis=0)).sum(axis=1) for part in (chosen, even)]
        ratio = float(far[1].mean() / far[0].mean())
        error = [part.std(ddof=1) / part.mean() / len(part) ** 0.5 for part in far]
        return ratio, ratio * float(np.hypot(*error))

    return of


if __name__ == "__main__":
    main()
