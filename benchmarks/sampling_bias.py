"""Is the gradient of chosen samples that of all, on average? For nets with and without statistics.

A small ResNet-9 is trained for some epochs by each strategy that claims it; then weights stay, and
batches are drawn as the training step draws them. The mean of their weighted gradients, projected
on two random directions for each weight tensor, against the mean of uniform batches (of the whole
set where that does not depend on the batch), in standard errors; and the same with the weights
taken away, which must fail. `none` has no batch normalization, `frozen` takes its moving
statistics, and with `batch` a sample's gradient depends on who else was drawn: what that adds is
told as a share of the gradient's length, with the share that chance gives.

    python benchmarks/sampling_bias.py
"""

from __future__ import annotations

import json
from typing import Any

from _common import finish, parser

import keras  # isort: skip
import numpy as np
import tensorflow as tf
from learning_rate import cifar
from time_to_accuracy import loss

import etude
from etude.data._base import Arrays
from etude.data.resident import Resident
from etude.sampling.strategies import STRATEGIES
from etude.training.trainer import Trainer

BATCH = 32
NETS = {"none": None, "frozen": False, "batch": True}
"""Whether statistics are the batch's, of nets that have any."""


def main() -> None:
    """All unbiased strategies on all nets."""
    made = parser(__doc__)
    made.add_argument("--draws", type=int, default=20_000)
    made.add_argument("--train", type=int, default=2_000)
    made.add_argument("--epochs", type=int, default=12)
    made.add_argument("--size", type=int, choices=(8, 16, 32), default=8)
    made.add_argument("--width", type=int, default=4)
    made.add_argument("--seed", type=int, default=0)
    given = made.parse_args()
    if given.quick:
        given.draws, given.train, given.epochs = 640, 320, 1
    (x, y), _ = cifar(given.train, 0, given.size)
    data = Resident(Arrays(x, y))
    rows = []
    for net, statistics in NETS.items():
        for name in (name for name, kind in STRATEGIES.items() if kind.unbiased):
            rows.append({"net": net, "strategy": name, **measured(given, data, name, statistics)})
            print(json.dumps(rows[-1]), flush=True)
    finish("sampling_bias", quick=given.quick, draws=given.draws, rows=rows)


def network(given: Any, *, normalized: bool) -> Any:
    """A ResNet-9, or as many convolutions without normalization."""
    shape = (given.size, given.size, 3)
    if normalized:
        return etude.models.build("resnet9", shape, 10, width=given.width, seed=given.seed)
    keras.utils.set_random_seed(given.seed)
    layers = keras.layers
    stack = [layers.Input(shape), layers.Rescaling(1 / 127.5, -1.0)]
    for width in (2, 4, 8):
        stack += [layers.Conv2D(width * given.width, 3, padding="same", activation="relu")]
    return keras.Sequential([*stack, layers.GlobalAveragePooling2D(), layers.Dense(10)])


def measured(given: Any, data: Resident, name: str, statistics: bool | None) -> dict[str, Any]:
    """The largest deviation with weights and without, and the bias over the gradient's length."""
    model = network(given, normalized=statistics is not None)
    numbers: dict[str, Any] = {"strategy": name}
    if not STRATEGIES[name].gated:
        numbers |= {"warm_up": 0.0}
    else:
        numbers["threshold"] = -1.0
    recipe = etude.Recipe().give(sampling=numbers)
    trainer = Trainer(model, recipe, seed=given.seed)
    trainer.compile(keras.optimizers.SGD(0.02, momentum=0.9), loss())
    steps = max(20, len(data) // BATCH)
    trainer.fit(data, batch_size=BATCH, steps_per_epoch=steps, epochs=given.epochs, verbose=0)
    weights = [weight.value for weight in model.trainable_weights]
    rng = np.random.default_rng(given.seed)
    directions = [tf.constant(rng.normal(size=(2, *w.shape)), tf.float32) for w in weights]
    mean_loss = loss()

    def projected(x: Any, y: Any, weight: Any) -> Any:
        with tf.GradientTape() as tape:
            outputs = model(x, training=bool(statistics))
            value = mean_loss(y, outputs, sample_weight=weight)
        found = tape.gradient(value, weights)
        parts = [
            tf.reduce_sum(g[None] * d, axis=list(range(1, len(d.shape))))
            for g, d in zip(found, directions, strict=True)
        ]
        return tf.concat(parts, axis=0)

    @tf.function
    def chosen(one: Any) -> Any:
        batch = trainer._selected(one).batch
        x = tf.cast(batch.x, tf.float32)
        ones = tf.ones_like(batch.weight)
        return projected(x, batch.y, batch.weight), projected(x, batch.y, ones)

    @tf.function
    def uniform(one: Any) -> Any:
        own = one.get("batch", one)
        (ids,) = own.values()
        images, labels, _ = data.gather(ids)
        return projected(tf.cast(images, tf.float32), labels, tf.ones((BATCH,)))

    stored = [tf.identity(v) for v in model.non_trainable_variables]
    count = max(2, given.draws // BATCH)
    stream = data.shuffled(BATCH, seed=given.seed + 1, beside=trainer.beside(BATCH))
    weighted, bare, even = [], [], []
    for one in stream.take(count):
        found, without = chosen(one)
        weighted.append(found.numpy())
        bare.append(without.numpy())
        even.append(uniform(one).numpy())
        for variable, value in zip(model.non_trainable_variables, stored, strict=True):
            variable.assign(value)
    with_weights, without_weights, by_chance = (np.stack(v) for v in (weighted, bare, even))
    truth, error = by_chance.mean(axis=0), by_chance.std(axis=0, ddof=1) / count**0.5
    if not statistics:
        images, labels, _ = data.gather(np.arange(len(data)))
        whole = projected(tf.cast(images, tf.float32), labels, tf.ones((len(data),)))
        truth, error = whole.numpy(), 0.0

    def z(found: Any) -> float:
        own = found.std(axis=0, ddof=1) / count**0.5
        return float(np.abs((found.mean(axis=0) - truth) / np.hypot(own, error)).max())

    spread = np.hypot(with_weights.std(axis=0, ddof=1) / count**0.5, error)
    assert trainer.selector is not None
    return {
        "tau": float(trainer.selector.tau()),
        "z": z(with_weights),
        "z without weights": z(without_weights),
        "coordinates": len(truth),
        "bias": float(np.linalg.norm(with_weights.mean(axis=0) - truth) / np.linalg.norm(truth)),
        "by chance": float(np.linalg.norm(spread) / np.linalg.norm(truth)),
    }


if __name__ == "__main__":
    main()
