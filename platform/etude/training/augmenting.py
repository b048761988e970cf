"""Augmentation within the step: one draw for an image and its labels, by a policy in variables."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import keras
from keras import ops

from etude.augment import apply, mixing, targets
from etude.augment.drawing import Tables, draw
from etude.augment.policy import Policy
from etude.errors import RecipeError
from etude.tasks._base import Task
from etude.tasks._masked import align
from etude.training.step import Batch

OpenTo = Literal["", "images", "any"]
"""Which policies may take the place of a Trainer's without another trace: such as do as much as
its own; all that leave labels as they are; or all."""


class Augmenter:
    """Augments batches by a policy, which may change without a new trace.

    Whether images are mixed at all is part of the trace; all else is not. `samples` is how many the
    training set has, by which an alternating flip tells epochs.

    Args:
        policy: What is drawn.
        value_range: Lowest and highest value that a pixel can have.
        pixelwise: Whether labels are maps (masks, depth), which move with the images.
        ignore: The label of pixels that count for nothing, if there is one.
        channels: Of the images, where they are known: draws are not spent on what these cannot do.
        seed: Of all draws.
        mixes: Whether images can be mixed by whatever policy there is later; left out, whether
            this one mixes.
    """

    def __init__(
        self,
        policy: Policy,
        value_range: tuple[float, float],
        *,
        pixelwise: bool = False,
        ignore: float | None = None,
        channels: int | None = None,
        seed: int = 0,
        mixes: bool | None = None,
    ) -> None:
        self.policy = policy
        self.value_range = value_range
        self.pixelwise = pixelwise
        self.ignore = ignore
        self.channels = channels
        self.mixes = policy.mixes if mixes is None else mixes
        self.seeds = keras.random.SeedGenerator(seed % 2**32)  # its state is of 32 bits
        self.samples = _variable(0, "int64", "samples")
        values = vars(Tables.of(self._possible(policy)))
        self.tables = Tables(**{n: _variable(v, str(v.dtype), n) for n, v in values.items()})

    @property
    def variables(self) -> list[Any]:
        """The draws' state and the policy, in a fixed order."""
        return [self.seeds.state, self.samples, *vars(self.tables).values()]

    def take_over(self, policy: Policy) -> None:
        """Draws by another policy from now on; one that mixes only where this one does."""
        self.policy = policy
        for name, value in vars(Tables.of(self._possible(policy))).items():
            getattr(self.tables, name).assign(value)

    def augment(self, batch: Batch, done: Any, *, weigh: bool = True) -> Batch:
        """The batch with its images, and masks with them, changed.

        Args:
            batch: As it was gathered.
            done: Samples that came before this batch, an integer tensor.
            weigh: Whether the loss takes a weight for every pixel of a mask, so that those from
                beyond the image can be left out of it where no label says so.
        """
        epoch = None if batch.ids is None else self._epoch(done, ops.shape(batch.x)[0])
        x, moved = self._changed(batch.x, batch.ids, epoch)
        batch = dataclasses.replace(batch, x=x)
        if not self.pixelwise:
            return batch
        y = targets.masks(moved, batch.y, self.ignore)
        weight = batch.weight
        if weight is not None and len(weight.shape) >= 3:
            weight = targets.masks(moved, align(weight, 3, "float32"), None)
        if self.ignore is not None or not weigh:
            return dataclasses.replace(batch, y=y, weight=weight)
        # What comes from beyond the image shows a label, which has no weight.
        inside = ops.cast(moved.inside, "float32")
        weight = inside if weight is None else inside * align(weight, 3, "float32")
        return dataclasses.replace(batch, y=y, weight=weight)

    def images(self, x: Any) -> Any:
        """Images that belong to no labels, changed each by a draw of its own.

        Args:
            x: `(batch, height, width, channels)`.
        """
        return self._changed(x, None, None)[0]

    def mix(self, batch: Batch) -> Batch:
        """The batch with images, soft targets and weights mixed.

        Those of pixels are mixed as the pixels are, those of whole images by their shares; labels
        count by the weights of the images that they are of. A policy that mixes nothing, in a trace
        that is open to others, pays for the draw alone.
        """
        tables = self._values()
        frame = (int(batch.x.shape[1]), int(batch.x.shape[2]))
        x, target, weight = batch.x, batch.target, batch.weight
        if weight is not None:
            weight = ops.cast(weight, "float32")
            if self.pixelwise:
                of_pixels = align(weight, 3)[..., None]
                weight = ops.broadcast_to(of_pixels, (*ops.shape(x)[:3], 1))
        drawn = mixing.draw(tables, ops.shape(x)[0], frame, self.seeds)

        def same() -> tuple[Any, ...]:
            return tuple(part for part in (x, target, weight) if part is not None)

        def blend(part: Any) -> Any:
            if self.pixelwise:
                return mixing.mixed_images(part, drawn)
            return mixing.mixed_targets(part, drawn, frame)

        def mixed() -> tuple[Any, ...]:
            images = mixing.mixed_images(x, drawn)
            if weight is None:
                return images, blend(target)
            # The loss of a blend is to be the blend of weighted losses.
            rows = (-1,) + (1,) * (len(target.shape) - 1)
            own = weight if self.pixelwise else ops.reshape(weight, rows)
            of_all = blend(weight)
            total = of_all if self.pixelwise else ops.reshape(of_all, rows)
            return images, ops.divide_no_nan(blend(own * target), total), of_all

        x, target, *rest = ops.cond(ops.any(tables.mixing > 0.0), mixed, same)
        if rest:
            weight = rest[0][..., 0] if self.pixelwise else rest[0]
        if self.pixelwise and self.ignore is not None and target.shape[-1] > 1:
            # Rows of ignored pixels are zeros: a blend is known by the other's part alone, and
            # counts by that.
            known = ops.sum(target, axis=-1)
            target = ops.divide_no_nan(target, known[..., None])
            weight = known if weight is None else known * weight
        return dataclasses.replace(batch, x=x, target=target, weight=weight)

    def _changed(self, images: Any, ids: Any, epoch: Any) -> tuple[Any, Any]:
        """Changed images, and how they were moved."""
        if len(images.shape) != 4 or None in images.shape[1:]:
            raise RecipeError(
                "Images are augmented in batches of one size.",
                required="images (batch, height, width, channels), all of the same size",
                received=f"images of shape {tuple(images.shape)}",
                advice="resize them before, or leave augmentation out of the recipe",
            )
        tables, frame = self._values(), tuple(images.shape[1:])
        x = ops.cast(images, "float32")
        size = (ops.shape(images)[0], *frame)
        drawn = draw(tables, size, self.seeds, ids=ids, epoch=epoch)
        changed, moved = apply.traced(frame, self.value_range)(tables, drawn, x)
        return ops.cast(changed, images.dtype), moved

    def _possible(self, policy: Policy) -> Policy:
        return policy if self.channels is None else policy.for_channels(self.channels)

    def _values(self) -> Tables:
        return Tables(**{name: variable.value for name, variable in vars(self.tables).items()})

    def _epoch(self, done: Any, batch: Any) -> Any:
        """The pass over the data that each sample of a batch belongs to, `(batch,)`."""
        place = ops.cast(done, "int64") + ops.arange(batch, dtype="int64")
        return place // ops.maximum(self.samples.value, 1)


def made(
    model: Any,
    policy: Policy,
    task: Task | None,
    value_range: tuple[float, float] | None,
    seed: int,
    open_to: OpenTo,
) -> Augmenter | None:
    """The augmenter of a Trainer, or `None` for a policy that does nothing and stays.

    Raises:
        RecipeError: The policy cannot be carried out.
    """
    if not policy.draws_anything and not open_to:
        return None
    if value_range is None or not value_range[0] < value_range[1]:
        raise RecipeError(
            "Augmentation needs to know what values pixels can have.",
            required="`value_range=(low, high)`, low below high",
            received=f"value_range={value_range!r}",
            advice="pass it to the Trainer, for example `value_range=(0, 255)`",
        )
    maps = task if task is not None and task.dense else None
    own_loss = type(model).compute_loss is not keras.Model.compute_loss
    # A blend of a label with one that is ignored is no label.
    blends = maps is None or maps.blends
    if policy.mixes and (own_loss or (not blends and policy.mixing.mixup)):
        raise RecipeError(
            "The policy mixes images, and these labels cannot be mixed.",
            required="a loss that takes soft labels, and labels that can be blended",
            received="a model with its own `compute_loss`"
            if own_loss
            else "depth, which between two surfaces is that of neither"
            if maps is not None and maps.measures
            else "masks of one output channel, of which one value is ignored",
            advice="leave mixing out of the policy" if own_loss else "mix by cutmix alone",
        )
    shape = getattr(model, "input_shape", None)
    augmenter = Augmenter(
        policy,
        value_range,
        pixelwise=maps is not None,
        channels=shape[-1] if isinstance(shape, tuple) and len(shape) == 4 else None,
        seed=seed,
        mixes=True if open_to == "any" else None,
    )
    if maps is not None:
        augmenter.ignore = maps.beyond()
    return augmenter


def _variable(value: Any, dtype: str, name: str) -> Any:
    return keras.Variable(
        value,
        dtype=dtype,
        trainable=False,
        name=name,
        aggregation="only_first_replica",
    )
