"""Images per second of a policy of two random operations per image, on the device.

Three arms take turns in one process: Étude's `Augment` layer in a compiled function,
`keras.layers.RandAugment` in one (two operations, the same for the whole batch), and two operations
per image on the CPU in `tf.data`, mapped in parallel. Étude draws from geometry, linear colour and
erasing (`cheap`), and from all families with equalize, blur and elastic (`all`). Also reported are
the seconds until the first batch, and the time that a change of policy takes.

    python benchmarks/augmentation.py --size 32 --batch 256
    python benchmarks/augmentation.py --size 224 --batch 64
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

from _common import finish, interval, parser, wait_until_idle

import keras  # isort: skip
import numpy as np
import tensorflow as tf

from etude.augment import Augment, Choice, Policy, Slot
from etude.augment.names import FAMILIES

CHEAP = ("geometry", "colour", "erasing")


def two_of(families: tuple[str, ...]) -> Policy:
    """Two draws from all transforms of families, magnitudes up to 60."""
    names = [name for family in families for name in FAMILIES[family]]
    return Policy((Slot(tuple(Choice(name, 0.0, 60.0) for name in names), draws=2),))


def compiled(layer: Any) -> Callable[[Any], Any]:
    """A layer as a graph that trains."""
    return tf.function(lambda x: layer(x, training=True))


def per_image(images: Any) -> tf.data.Dataset:
    """Two of nine operations for each image, each in a map that runs in parallel."""

    def turned(x: Any) -> Any:
        angle = tf.random.uniform((), -0.5, 0.5)
        c, s = tf.cos(angle), tf.sin(angle)
        middle = (tf.cast(tf.shape(x)[0], tf.float32) - 1.0) / 2.0
        shift = middle - (c - s) * middle, middle - (s + c) * middle
        return projected(x, [c, -s, shift[0], s, c, shift[1], 0.0, 0.0])

    def projected(x: Any, matrix: list[Any]) -> Any:
        return tf.raw_ops.ImageProjectiveTransformV3(
            images=x[None], transforms=[matrix], output_shape=tf.shape(x)[:2], fill_value=0.0,
            interpolation="BILINEAR", fill_mode="REFLECT",
        )[0]  # fmt: skip

    def moved(x: Any) -> Any:
        far = tf.random.uniform((), -8.0, 8.0)
        return projected(x, [1.0, 0.0, far, 0.0, 1.0, 0.0, 0.0, 0.0])

    def sheared(x: Any) -> Any:
        slope = tf.random.uniform((), -0.3, 0.3)
        return projected(x, [1.0, slope, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0])

    def covered(x: Any) -> Any:
        side = tf.shape(x)[0]
        at = tf.random.uniform((2,), 0, side, tf.int32)
        line = tf.abs(tf.range(side) - at[0]) < side // 4
        column = tf.abs(tf.range(side) - at[1]) < side // 4
        return tf.where((line[:, None] & column[None])[..., None], 127.5, x)

    operations = [
        tf.image.flip_left_right,
        turned,
        moved,
        sheared,
        covered,
        lambda x: tf.image.random_brightness(x, 60.0),
        lambda x: tf.image.random_contrast(x, 0.5, 1.5),
        lambda x: tf.image.random_saturation(x, 0.5, 1.5),
        lambda x: tf.image.random_hue(x, 0.1),
    ]

    def augmented(x: Any) -> Any:
        x = tf.cast(x, tf.float32)
        for _ in range(2):
            which = tf.random.uniform((), 0, len(operations), tf.int32)
            x = tf.switch_case(which, [lambda f=f, x=x: f(x) for f in operations])
        return x

    return (
        tf.data.Dataset.from_tensor_slices(images)
        .repeat()
        .map(augmented, num_parallel_calls=tf.data.AUTOTUNE, deterministic=False)
    )


def main() -> None:
    """Prints images per second of every arm, and Étude's over the others'."""
    made = parser(__doc__)
    made.add_argument("--size", type=int, default=32)
    made.add_argument("--batch", type=int, default=256)
    made.add_argument("--rounds", type=int, default=10)
    made.add_argument("--seconds", type=float, default=2.0, help="of each arm in each round")
    options = made.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.batch = 2, 0.3, 32
    rng = np.random.default_rng(0)
    shape = (options.batch, options.size, options.size, 3)
    x = tf.constant(rng.integers(0, 256, shape).astype("uint8"))
    layer = Augment(two_of(CHEAP), seed=0)
    other = Augment(two_of(tuple(FAMILIES)), seed=0)
    rand = keras.layers.RandAugment((0, 255), num_ops=2, factor=0.5, seed=0)
    stream: Iterator[Any] = iter(per_image(x).batch(options.batch).prefetch(2))
    arms: dict[str, Callable[[], Any]] = {
        name: functools.partial(compiled(one), x)
        for name, one in (("cheap", layer), ("all", other), ("keras", rand))
    }
    arms["tf.data"] = lambda: next(stream)
    first = {}
    for name, arm in arms.items():
        start = time.perf_counter()
        arm().numpy()
        first[name] = time.perf_counter() - start
    start = time.perf_counter()
    for _ in range(50):
        layer.set_policy("randaugment")
        layer.set_policy(two_of(CHEAP))
    change = (time.perf_counter() - start) / 100
    load = wait_until_idle()
    rates: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(options.rounds):
        names = list(arms)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            arms[name]().numpy()
            count, start = 0, time.perf_counter()
            while time.perf_counter() - start < options.seconds:
                arms[name]().numpy()
                count += 1
            rates[name].append(count * options.batch / (time.perf_counter() - start))
    ratios = {}
    for mine in ("cheap", "all"):
        for baseline in ("keras", "tf.data"):
            each = [a / b for a, b in zip(rates[mine], rates[baseline], strict=True)]
            ratios[f"{mine} / {baseline}"] = interval(each)
            mean, half = ratios[f"{mine} / {baseline}"]
            print(f"{mine} / {baseline}: {mean:.1f} ± {half:.1f}")
    for name, each in rates.items():
        print(f"{name}: {np.median(each):.0f} images a second ({min(each):.0f} to {max(each):.0f})")
    finish(
        "augmentation", quick=options.quick, size=options.size, batch=options.batch, load=load,
        rates=rates, ratios=ratios, first=first, change=change,
    )  # fmt: skip


if __name__ == "__main__":
    main()
