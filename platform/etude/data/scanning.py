"""One look at the images: their range, what is broken in them, and a checksum."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator

import numpy as np

from etude.data._base import Arrays, Source
from etude.data.arrays import arrays_of, label_type, parts_of
from etude.data.convert import Array

_CHUNK_VALUES = 2**20
_STREAM_BATCH = 64


@dataclasses.dataclass(frozen=True)
class Scan:
    """What one pass over the images found. Tuples have one number for each channel.

    Attributes:
        samples: How many samples were looked at.
        complete: Whether these are all samples of the source.
        minimum: Least finite value.
        maximum: Greatest finite value.
        mean: Mean of the finite values.
        std: Standard deviation of the finite values (of the population).
        first_nan: The first sample with a NaN, or `None`.
        first_inf: The first sample with an infinite value, or `None`.
        constant: How many images have one value throughout (in each channel).
        first_constant: The first of these, or `None`.
        checksum: SHA-256 of the shapes, dtypes and bytes of all parts of these samples.
    """

    samples: int
    complete: bool
    minimum: tuple[float, ...]
    maximum: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    first_nan: int | None
    first_inf: int | None
    constant: int
    first_constant: int | None
    checksum: str

    @property
    def min(self) -> float:
        """The least value of all channels."""
        return min(self.minimum)

    @property
    def max(self) -> float:
        """The greatest value of all channels."""
        return max(self.maximum)


class _Moments:
    """Per-channel statistics, merged chunk by chunk (Chan, Golub, LeVeque 1979)."""

    def __init__(self, channels: int) -> None:
        self.count = np.zeros(channels, np.int64)
        self.mean = np.zeros(channels)
        self.squares = np.zeros(channels)
        self.low = np.full(channels, np.inf)
        self.high = np.full(channels, -np.inf)

    def _merge(self, count: Array, mean: Array, squares: Array) -> None:
        total = self.count + count
        safe = np.maximum(total, 1)
        delta = mean - self.mean
        self.squares += squares + delta**2 * self.count * count / safe
        self.mean += delta * count / safe
        self.count = total

    def add_bytes(self, values: Array) -> None:
        """Values `(n, channels)` uint8: all statistics are those of the histogram."""
        levels = np.arange(256, dtype=np.float64)
        table = np.stack([np.bincount(v, minlength=256) for v in values.T])
        count = table.sum(axis=1)
        mean = table @ levels / count
        squares = (table * (levels - mean[:, None]) ** 2).sum(axis=1)
        self.low = np.minimum(self.low, np.argmax(table > 0, axis=1))
        self.high = np.maximum(self.high, 255 - np.argmax(table[:, ::-1] > 0, axis=1))
        self._merge(count, mean, squares)

    def add(self, values: Array) -> None:
        """Values `(n, channels)` of any dtype; what is not finite is left out."""
        exact = values.astype(np.float64)
        finite = np.isfinite(exact)
        count = finite.sum(axis=0)
        filled = np.where(finite, exact, 0.0)
        mean = filled.sum(axis=0) / np.maximum(count, 1)
        squares = (np.where(finite, exact - mean, 0.0) ** 2).sum(axis=0)
        self.low = np.minimum(self.low, np.where(finite, exact, np.inf).min(axis=0))
        self.high = np.maximum(self.high, np.where(finite, exact, -np.inf).max(axis=0))
        self._merge(count, mean, squares)


def _first(flags: Array, offset: int, known: int | None) -> int | None:
    if known is not None or not flags.any():
        return known
    return offset + int(np.argmax(flags))


def _chunks(arrays: Arrays) -> Iterator[Arrays]:
    each = max(1, int(np.prod(arrays.images.shape[1:])))
    step = max(1, _CHUNK_VALUES // each)
    for start in range(0, len(arrays), step):
        part = slice(start, start + step)
        yield Arrays(
            arrays.images[part],
            None if arrays.labels is None else arrays.labels[part],
            None if arrays.weights is None else arrays.weights[part],
        )


def _stream(source: Source, limit: int) -> Iterator[Arrays]:
    left = limit
    for batch in source.in_order(_STREAM_BATCH).take(-(-limit // _STREAM_BATCH)):
        arrays = arrays_of(batch, source.spec)
        yield arrays if len(arrays) <= left else arrays.take(np.arange(left))
        left -= len(arrays)


def _bytes(part: Array) -> bytes | memoryview:
    """The content of an array; text by its characters, whatever the width it is stored in."""
    if part.dtype.kind in "OUS":
        words = (w if isinstance(w, bytes) else str(w).encode() for w in part.reshape(-1))
        return b"".join(len(word).to_bytes(8, "little") + word for word in words)
    return np.ascontiguousarray(part).reshape(-1).view(np.uint8).data


def _head(arrays: Arrays) -> bytes:
    """The shapes and types of a sample's parts."""
    kinds = [(part.shape[1:], label_type(part.dtype)) for part in parts_of(arrays)]
    return repr([(tuple(map(int, shape)), kind) for shape, kind in kinds]).encode()


def scan(source: Source, arrays: Arrays | None, *, limit_samples: int = 20_000) -> Scan:
    """One pass over the images, in chunks: memory does not grow with the set.

    It only reports; what is an error is for the caller to say.

    Args:
        source: What is scanned.
        arrays: All its samples, where they are in memory; then all are looked at.
        limit_samples: How many samples of a stream are looked at, from its beginning.

    Returns:
        What was found.
    """
    moments = _Moments(source.spec.image_shape[2] or 1)
    # One for each part: chunks of another size must not change the checksum.
    digests = [hashlib.sha256() for _ in range(3)]
    head = b""
    seen = constant = 0
    nan = inf = flat = None
    chunks = _chunks(arrays) if arrays is not None else _stream(source, limit_samples)
    for chunk in chunks:
        images = chunk.images
        rows = images.reshape(len(images), -1, images.shape[-1])
        values = rows.reshape(-1, images.shape[-1])
        if images.dtype == np.uint8:
            moments.add_bytes(values)
        else:
            moments.add(values)
        if images.dtype.kind == "f":
            nan = _first(np.isnan(rows).any(axis=(1, 2)), seen, nan)
            inf = _first(np.isinf(rows).any(axis=(1, 2)), seen, inf)
        same = (rows == rows[:, :1]).all(axis=(1, 2))
        flat = _first(same, seen, flat)
        constant += int(same.sum())
        head = head or _head(chunk)
        for digest, part in zip(digests, parts_of(chunk), strict=False):
            digest.update(_bytes(part))
        seen += len(images)
    spread = np.sqrt(moments.squares / np.maximum(moments.count, 1))
    return Scan(
        samples=seen,
        complete=arrays is not None or source.size == seen or seen < limit_samples,
        minimum=tuple(moments.low.tolist()),
        maximum=tuple(moments.high.tolist()),
        mean=tuple(moments.mean.tolist()),
        std=tuple(spread.tolist()),
        first_nan=nan,
        first_inf=inf,
        constant=constant,
        first_constant=flat,
        checksum=hashlib.sha256(head + b"".join(d.digest() for d in digests)).hexdigest(),
    )
