"""Holding out a part of the training data for validation."""

from __future__ import annotations

from typing import Any

import numpy as np

from etude.data._base import Source
from etude.data.adapter import AdaptedSource, innermost
from etude.data.arrays import ArraySource
from etude.data.convert import Array
from etude.data.folder import FolderSource
from etude.data.shuffle import seed_number
from etude.data.streams import StreamSource, endless_error, first_samples
from etude.data.tfdata import DatasetSource
from etude.errors import DataError

_SALT = 0x5EED_5A17  # keeps the split's draws apart from other uses of the same seed


def held_out_indices(
    size: int, fraction: float, *, seed: int, strata: Array | None = None
) -> Array:
    """Which samples are held out: a function of the arguments alone.

    Every stratum gives its share to within one sample, and one with at least two members gives
    at least one to each side; a stratum of one member stays in training.

    Args:
        size: Number of samples.
        fraction: The share to hold out, between 0 and 1.
        seed: Seed of the draw.
        strata: `(size,)` of anything NumPy can sort, or `None` for one stratum.

    Returns:
        Sorted int64 indices, possibly none.
    """
    rng = np.random.default_rng([seed_number(seed), _SALT])
    if strata is None:
        groups, numbers = np.zeros(1), np.zeros(size, np.int64)
    else:
        groups, numbers = np.unique(strata, return_inverse=True)
    members = np.bincount(numbers.reshape(-1), minlength=len(groups))
    quota = _quotas(members, fraction)
    order = rng.permutation(size)
    ranked = order[np.argsort(numbers.reshape(-1)[order], kind="stable")]
    starts = np.cumsum(members) - members
    chosen = [ranked[s : s + q] for s, q in zip(starts, quota, strict=True)]
    return np.sort(np.concatenate(chosen).astype(np.int64))


def _quotas(members: Array, fraction: float) -> Array:
    """How many of each stratum are held out: largest remainders, within the bounds."""
    exact = members * fraction
    quota = np.floor(exact).astype(np.int64)
    missing = round(float(exact.sum())) - int(quota.sum())
    by_remainder = np.argsort(-(exact - quota), kind="stable")
    quota[by_remainder[:missing]] += 1
    low, high = np.where(members >= 2, 1, 0), np.where(members >= 2, members - 1, 0)
    return np.clip(quota, low, high)


def split(
    source: Source, fraction: float, *, seed: int, strata: Array | None = None
) -> tuple[Source, Source]:
    """A source in two: what to train on, and what is held out.

    Sources of random access (arrays, folders, and adapted ones of these) are split by chance,
    stratified by `strata`. Of a stream every k-th sample is held out, with k = 1 / fraction.

    Args:
        source: What to split.
        fraction: The share to hold out, between 0 and 1.
        seed: Seed of the draw.
        strata: `(samples,)`: what each side should have its share of, for example the classes.

    Returns:
        `(train, held out)`, without a common sample.

    Raises:
        DataError: If the source is too small, endless, or a stream without a fixed order.
    """
    if not 0 < fraction < 1:
        raise DataError(
            "The share to hold out for validation is out of range.",
            required="A number between 0 and 1, both excluded.",
            received=f"{fraction!r}.",
            advice="Use for example validation_split=0.15.",
        )
    if isinstance(source, AdaptedSource):
        inner, outer = split(source.source, fraction, seed=seed, strata=strata)
        return AdaptedSource(inner, source.adapter), AdaptedSource(outer, source.adapter)
    if by_chance(source):
        assert isinstance(source, ArraySource | FolderSource)
        return _split_by_chance(source, fraction, seed, strata)
    if isinstance(source, StreamSource):
        return _split_stream(source, fraction)
    raise TypeError(f"{type(source).__name__} cannot be split.")


def by_chance(source: Source) -> bool:
    """Whether `split` draws samples by chance; of a stream it takes one in every so many."""
    return isinstance(innermost(source), ArraySource | FolderSource)


def period_of(fraction: float) -> int:
    """One of how many samples of a stream `split` holds out."""
    return max(2, round(1 / fraction))


def _held_name(name: str) -> str:
    return f"{name} (held out)"


def _too_small(name: str, size: int) -> DataError:
    return DataError(
        f"{name} is too small to hold out validation data.",
        required="At least two samples, two of one class at least.",
        received=f"{size} samples.",
        advice="Pass validation data, or more training data.",
    )


def _split_by_chance(
    source: ArraySource | FolderSource, fraction: float, seed: int, strata: Array | None
) -> tuple[Source, Source]:
    size = source.count()
    if strata is not None and len(strata) != size:
        raise ValueError(f"strata must have {size} values; received {len(strata)}.")
    held = held_out_indices(size, fraction, seed=seed, strata=strata)
    kept = np.setdiff1d(np.arange(size), held, assume_unique=True)
    if not len(held) or not len(kept):
        raise _too_small(source.name, size)
    return source.subset(kept, name=source.name), source.subset(held, name=_held_name(source.name))


def _split_stream(source: StreamSource, fraction: float) -> tuple[Source, Source]:
    if source.endless:
        raise endless_error(source.name, "split")
    period = period_of(fraction)
    if source.size is not None and source.size < period:
        raise _too_small(source.name, source.size)
    if source.varies:
        raise DataError(
            f"The stream {source.name} gives other samples in every pass.",
            required="The same samples in every pass, of which a part can be held out.",
            received="Two passes with different contents (random augmentation?).",
            advice="Pass validation data; or hold a part out before the random step: "
            "dataset.skip(n).map(augment) to train on, dataset.take(n) for validation.",
        )
    if first_samples(source) != first_samples(source):
        raise DataError(
            f"The stream {source.name} comes in another order in every pass.",
            required="A fixed order, so that a sample held out once is held out always.",
            received="Two passes whose first samples differ.",
            advice="Pass validation data; or leave out dataset.shuffle (the order is shuffled "
            "here), or set reshuffle_each_iteration=False; to image_dataset_from_directory, "
            "pass shuffle=False.",
        )
    numbered = source.samples().enumerate()

    def part(held: bool) -> DatasetSource:
        def belongs(number: Any, *_: Any) -> Any:
            return (number % period == period - 1) == held

        dataset = numbered.filter(belongs).map(lambda _, sample: sample)
        size = None
        if source.size is not None:
            size = source.size // period if held else source.size - source.size // period
        note = f"{source.name}: sample {period} of every {period} is held out, not by chance."
        return DatasetSource(
            dataset,
            name=_held_name(source.name) if held else source.name,
            memory_budget=source.memory_budget,
            labelled=source.spec.labelled,
            size=size,
            class_names=source.class_names,
            notes=(*source.notes, note),
        )

    return part(False), part(True)
