"""How far each transform at each magnitude takes images from where they were."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from etude.augment import apply, geometry
from etude.augment._base import DRAWS
from etude.augment.drawing import COUNT, Draw, Tables
from etude.augment.names import INDEX
from etude.augment.policy import Policy
from etude.data.thumbnails import thumbnails
from etude_metalearners import frechet
from etude_metalearners.features import Extract

Floats32 = npt.NDArray[np.float32]

LADDER: tuple[float, ...] = tuple(float(step) for step in range(0, 101, 10))
"""The magnitudes of a whole ladder, 0 to 100."""

FEWER: tuple[float, ...] = (0.0, 10.0, 25.0, 50.0, 75.0, 100.0)
"""Those that suffice to group transforms."""


HELD = 2**26
"""Bytes of features that are held until they are compared, about; at least those of two rungs."""


@dataclasses.dataclass(frozen=True)
class Ladders:
    """Distances of every transform at every magnitude.

    Attributes:
        names: Of the transforms.
        magnitudes: Rungs, in 0 to 100.
        distances: `(transforms, rungs)` float64, squared Fréchet distances.
        shown: `(transforms, rungs, height, width, channels)` float32: a thumbnail of one image so
            transformed.
    """

    names: tuple[str, ...]
    magnitudes: tuple[float, ...]
    distances: npt.NDArray[np.float64]
    shown: npt.NDArray[np.float32]


class Transformer:
    """Transforms images as told, and takes their features; traced once for any batch.

    Args:
        extract: Gives the features of a batch.
        shape: (height, width, channels).
        value_range: Lowest and highest value that a pixel can have.
        batch: Images that are transformed at a time.
        seed: Of the draws.
    """

    def __init__(
        self,
        extract: Extract,
        shape: tuple[int, int, int],
        value_range: tuple[float, float],
        *,
        batch: int = 128,
        seed: int = 0,
    ) -> None:
        self.shape, self.value_range = shape, value_range
        self.batch = batch
        self.rng = np.random.default_rng(seed)
        self._noise = tf.constant(self.rng.standard_normal(shape, np.float32))
        tables = vars(Tables.of(Policy()))
        self._tables = Tables(**{name: tf.constant(value) for name, value in tables.items()})
        self._transformed = apply.traced(shape, value_range)
        self._extracted = tf.function(extract, autograph=False)

    def prepare(self) -> threading.Thread:
        """Begins to compile the kernels of all transforms, beside what else is going on.

        Compilation takes seconds of one core and holds no lock of Python's; tracing a training
        step, which is what comes first, takes seconds of another.
        """
        blank = np.zeros((self.batch, *self.shape), np.float32)
        everything = np.full((self.batch, COUNT), 0.5, np.float32)
        uniform = np.full((self.batch, COUNT, DRAWS), 0.5, np.float32)
        controls = np.zeros((self.batch, geometry.CONTROLS, geometry.CONTROLS, 2), np.float32)
        drawn = self._draw(everything, uniform, controls)

        def compiled() -> None:
            self._transformed(self._tables, drawn, tf.constant(blank))

        thread = threading.Thread(target=compiled, name="etude kernels", daemon=True)
        thread.start()
        return thread

    def draws(self, samples: int) -> tuple[Floats32, Floats32]:
        """What is random of so many images: uniform numbers, and elastic displacements."""
        points = (geometry.CONTROLS, geometry.CONTROLS, 2)
        return (
            self.rng.random((samples, COUNT, DRAWS), np.float32),
            self.rng.standard_normal((samples, *points), np.float32),
        )

    def __call__(
        self, images: npt.NDArray[Any], strength: Floats32, uniform: Floats32, controls: Floats32
    ) -> tuple[Floats32, Floats32]:
        """Features and images after transforms of a strength, `(samples, transforms)`."""
        count = len(images)
        # Filled up to one shape for all batches.
        at = np.minimum(np.arange(max(count, self.batch)), count - 1)
        drawn = self._draw(strength[at], uniform[at], controls[at])
        x = tf.constant(images[at], tf.float32)
        changed, _ = self._transformed(self._tables, drawn, x)
        return self._extracted(changed).numpy()[:count], changed.numpy()[:count]

    def seconds(self, image: npt.NDArray[Any]) -> float:
        """What transforming an image and taking its features takes, after the first time."""
        images = np.repeat(image[None], self.batch, axis=0)
        draws = self.draws(self.batch)
        still = np.zeros((self.batch, COUNT), np.float32)
        self(images, still, *draws)
        start = time.perf_counter()
        self(images, still, *draws)
        return (time.perf_counter() - start) / self.batch

    def _draw(self, strength: Floats32, uniform: Floats32, controls: Floats32) -> Draw:
        return Draw(tf.constant(strength), tf.constant(uniform), tf.constant(controls), self._noise)


def measure(
    transformer: Transformer,
    images: npt.NDArray[Any],
    *,
    names: Sequence[str] = tuple(INDEX),
    magnitudes: Sequence[float] = FEWER,
    full: bool = False,
) -> Ladders:
    """Measures Fréchet distances between images and the same images transformed.

    Every transform and every magnitude has the same draws, so that a ladder's rungs differ in
    magnitude alone.

    Args:
        transformer: Transforms, and takes features.
        images: `(samples, height, width, channels)`, at least 2.
        names: The transforms.
        magnitudes: The rungs.
        full: Whether with full covariances; else with diagonal ones.
    """
    samples = len(images)
    uniform, controls = transformer.draws(samples)
    rungs = [(INDEX[name], magnitude) for name in names for magnitude in magnitudes if magnitude]
    whole = np.zeros((1 + len(rungs), COUNT), np.float32)  # the first row is the original
    for row, (index, magnitude) in enumerate(rungs, start=1):
        whole[row, index] = magnitude / 100.0
    distance = frechet.full if full else frechet.diagonal
    original: Floats32 | None = None
    measured: list[npt.NDArray[np.float64]] = []
    held: list[Floats32] = []
    shown = []
    last = len(whole) * samples
    for start in range(0, last, transformer.batch):
        at = np.arange(start, min(start + transformer.batch, last))
        rung, sample = at // samples, at % samples
        found, changed = transformer(images[sample], whole[rung], uniform[sample], controls[sample])
        held.append(found)
        shown.append(thumbnails(changed[sample == 0]))
        rows = sum(map(len, held))
        if at[-1] + 1 < last and (rows < samples or rows * found[0].nbytes < HELD):
            continue
        values = np.concatenate(held)
        complete = len(values) // samples * samples
        compared = values[:complete].reshape(-1, samples, values.shape[-1])
        held = [values[complete:]]
        if original is None:
            original, compared = compared[0], compared[1:]
        if len(compared):
            measured.append(distance(original, compared))
    seen = np.concatenate(shown)
    distances = np.zeros((len(names), len(magnitudes)))
    pictures = np.broadcast_to(seen[0], (*distances.shape, *seen.shape[1:])).copy()
    above = np.asarray(magnitudes) > 0.0
    distances[:, above] = np.concatenate(measured).reshape(len(names), -1)
    pictures[:, above] = seen[1:].reshape(len(names), -1, *seen.shape[1:])
    return Ladders(tuple(names), tuple(magnitudes), distances, pictures)
