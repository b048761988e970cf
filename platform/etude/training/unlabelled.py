"""Images without labels, as `fit` takes them, in endless batches."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from etude.data._base import Arrays, Source
from etude.data.feed import Feed
from etude.data.resident import Resident, batch_size, in_rows, own_part, sample_spec, with_unlabeled
from etude.data.shuffle import seed_number, untuned
from etude.errors import DataError, RecipeError
from etude.recipe import Recipe
from etude.training.unsupervised_batch_norm import OFF

BEYOND = 2_000_003
"""What the seed of their order is further on than that of labelled samples."""


class Unlabelled:
    """Images that a Trainer was given; the same again need no other trace.

    Args:
        images: An array `(images, ...)`, `Resident`, a `Feed`, or a `tf.data.Dataset` of batches,
            of images alone or of tuples that begin with them.

    Raises:
        DataError: They are none of these, or there are none.
    """

    def __init__(self, images: Any) -> None:
        self.of = images
        self.resident: Resident | None = None
        self.stream: tf.data.Dataset | None = None
        self.source: Source | None = None
        if isinstance(images, Resident):
            self.resident = images
        elif isinstance(images, Feed):
            self.resident, self.source = images.resident, images.source
        elif isinstance(images, tf.data.Dataset):
            self.stream = images.map(_first)
        elif hasattr(images, "__array__") or isinstance(images, np.ndarray):
            self.resident = Resident(Arrays(np.asarray(images), None, None))
        else:
            raise DataError(
                "Images without labels are not understood.",
                required="an array of images, `Resident`, or a batched `tf.data.Dataset`",
                received=type(images).__name__,
                advice="stack them to an array, or write a `tf.data` pipeline",
            )
        if self.resident is not None and not len(self.resident):
            raise DataError(
                "There are no images without labels.",
                required="at least one",
                received="an empty set",
                advice="leave `unlabeled` out",
            )

    def batches(self, size: int, *, seed: int, start: int = 0) -> tf.data.Dataset:
        """Endless batches: of ids where the images are held, and of images where they stream.

        Args:
            size: Images in a batch, which may be more than there are.
            seed: Of their order; a user's own stream has one of its own.
            start: The first step, but of such a stream.
        """
        seed = seed_number(seed + BEYOND)
        if self.resident is not None:
            return self.resident.shuffled(size, seed=seed, start=start)
        if self.source is not None:
            return self.source.shuffled(size, seed=seed, start=start).map(_first)
        assert self.stream is not None
        return untuned(self.stream.repeat().rebatch(size, drop_remainder=True))

    def check(self, images: Any) -> None:
        """Raises a `DataError` if they are not of the kind of labelled images.

        Args:
            images: A spec of these.
        """
        own = self._spec()
        # Of another height or width they are resized.
        fixed = (0, 1, 2) if len(images.shape) == 4 else (0,)
        pairs = list(zip(own.shape, images.shape, strict=False))
        same = len(own.shape) == len(images.shape) and all(
            a == b or None in (a, b) for i, (a, b) in enumerate(pairs) if i not in fixed
        )
        if not same:
            raise DataError(
                "Images without labels are not of the kind of those with labels.",
                required=f"shape (batch, {', '.join(map(str, images.shape[1:]))})"
                + (", or of another height and width" if len(images.shape) == 4 else ""),
                received=f"shape (batch, {', '.join(map(str, own.shape[1:]))})",
                advice="bring them to the same channels",
            )

    def _spec(self) -> Any:
        if self.resident is not None:
            return self.resident.images
        if self.source is not None:
            return tf.TensorSpec((None, *self.source.spec.image_shape))
        assert self.stream is not None
        return self.stream.element_spec


def check(recipe: Recipe, images: Any) -> None:
    """Raises a `RecipeError` where there are images without labels and no use for them, or a use
    and none of them."""
    uses = recipe.semisupervised.batch_norm
    if uses == OFF and images is not None:
        raise RecipeError(
            "Nothing in the recipe makes use of images without labels.",
            required="semisupervised.batch_norm: joint, two_step or straight_through",
            received="unlabeled images, and semisupervised.batch_norm: labelled",
            advice="give it: `recipe.give(semisupervised={'batch_norm': 'joint'})`",
        )
    if uses != OFF and images is None:
        raise missing(recipe)


def missing(recipe: Recipe) -> RecipeError:
    """What to say where images without labels are wanted, and there are none."""
    return RecipeError(
        "The recipe counts on images without labels.",
        required="`fit(..., unlabeled=images)`",
        received=f"none, and semisupervised.batch_norm: {recipe.semisupervised.batch_norm}, "
        f"semisupervised.method: {recipe.semisupervised.method}",
        advice="pass them, or set semisupervised.batch_norm to labelled and its method to none",
    )


def beside(
    data: tf.data.Dataset,
    unlabelled: Unlabelled,
    share: float,
    *,
    seed: int,
    start: int = 0,
    distributed: bool = False,
) -> tf.data.Dataset:
    """Batches, each with images without labels beside it.

    Args:
        data: Of labelled batches.
        unlabelled: The images.
        share: How many of them come with a batch, over its size.
        seed: Of their order.
        start: The first step.
        distributed: Whether several devices share a batch, each of which needs as many.

    Raises:
        DataError: They are of another kind than those with labels.
        RecipeError: Several devices cannot share so many.
    """
    if not isinstance(data, tf.data.Dataset):
        raise RecipeError(
            "Images without labels are read beside batches.",
            required="arrays, `Resident` or a batched `tf.data.Dataset`",
            received=type(data).__name__,
            advice="wrap a generator by `tf.data.Dataset.from_generator`",
        )
    spec = sample_spec(own_part(data.element_spec))
    unlabelled.check(keras.utils.unpack_x_y_sample_weight(spec)[0])
    size = batch_size(data)
    count = max(1, round(share * size))
    if distributed and count % size:
        raise RecipeError(
            "Several devices share a batch and the images beside it alike.",
            required="a whole `semisupervised.unlabeled` under a distribution strategy",
            received=f"unlabeled: {share:g}",
            advice="take the next whole number",
        )
    joined = with_unlabeled(data, unlabelled.batches(count, seed=seed, start=start))
    if not distributed:
        return joined
    return in_rows(joined, count // size, "unlabeled", "unlabeled_rows")


def _first(*parts: Any) -> Any:
    """The images of an element, which may bring labels."""
    return parts[0]
