"""Super Progressive Learning: images, and changes of them, that grow with the run."""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Sequence
from typing import Any

import keras

from etude.augment.names import FAMILIES
from etude.augment.policy import Policy
from etude.errors import RecipeError

Sides = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of a run.

    Attributes:
        first: Its first step.
        sides: Height and width that images are brought to.
        strength: Times the magnitudes of the policy's changes of colour.
    """

    first: int
    sides: Sides
    strength: float


def stages(
    total: int,
    full: Sides,
    *,
    least: int,
    step: int = 32,
    warmup: int = 0,
    strengths: tuple[float, float] = (0.8, 1.2),
) -> tuple[Stage, ...]:
    """The parts of a run (Koçyiğit 2023, section 3.3.2).

    Full images in the warm-up, where the rate is low and rises; then from the smallest in stages of
    equal length, each by `step` pixels larger than the one before, up to full ones. The strength
    rises evenly with them; in the warm-up it is the lowest.

    Args:
        total: Steps of the run.
        full: Height and width of the images.
        least: The shorter side in the first stage after the warm-up.
        step: What it grows by.
        warmup: Steps.
        strengths: The first and the last.

    Raises:
        RecipeError: There is nothing to grow.
    """
    short = min(full)
    if not (0 < least < short and step > 0 and 0 <= warmup < total):
        raise RecipeError(
            "Images cannot grow in this way.",
            required=f"least and step above 0, least below {short}, a warm-up below {total} steps",
            received=f"least={least}, step={step}, warmup={warmup}",
            advice="mend the numbers, or leave the callback out",
        )
    shorter = [*range(least, short, step), short]
    low, high = strengths
    found = [Stage(0, full, low)] if warmup else []
    for index, side in enumerate(shorter):
        first = warmup + round(index * (total - warmup) / len(shorter))
        sides = tuple(round(side * one / short) for one in full)
        strength = low + (high - low) * index / (len(shorter) - 1)
        found.append(Stage(first, (sides[0], sides[1]), strength))
    return tuple(found)


def cost(parts: Sequence[Stage], total: int, full: Sides) -> float:
    """What a run takes of one with full images all along, where a step goes by the pixels.

    The inverse of L / Σ (r_t / r_max)², the true speed-up.

    Args:
        parts: From `stages`.
        total: Steps of the run.
        full: Height and width of the images.
    """
    ends = [*(part.first for part in parts[1:]), total]
    pixels = sum(
        (end - part.first) * part.sides[0] * part.sides[1]
        for part, end in zip(parts, ends, strict=True)
    )
    return pixels / (total * full[0] * full[1])


def strengthened(policy: Policy, by: float) -> Policy:
    """The policy with magnitudes of colour times a number, at most 100."""

    def changed(choice: Any) -> Any:
        if choice.transform not in FAMILIES["colour"]:
            return choice
        low, high = (min(100.0, by * value) for value in (choice.low, choice.high))
        return dataclasses.replace(choice, low=low, high=high)

    slots = tuple(
        dataclasses.replace(slot, choices=tuple(changed(one) for one in slot.choices))
        for slot in policy.slots
    )
    return dataclasses.replace(policy, slots=slots)


class Progressive(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
    """Trains on growing images, for `etude.Trainer.fit` and `etude.pretrain`.

    Each size is traced once; where a step is small, that takes longer than it saves. Afterwards
    training goes on with full images, and evaluation has them all along. It needs a model that
    takes images of any size: convolutions and pooling over all places, or attention.

    Args:
        least: Pixels of the shorter side in the first stage.
        step: What it grows by.
        warmup: The share of the run with full images before.
        strengths: Times the magnitudes of changes of colour, in the first stage and in the last.
        full: Height and width of images, where the model does not say.

    Example:
        >>> grow = etude.Progressive(least=16, step=4)  # doctest: +SKIP
        >>> etude.pretrain(model, images, callbacks=[grow])  # doctest: +SKIP
    """

    def __init__(
        self,
        least: int,
        *,
        step: int = 32,
        warmup: float = 0.1,
        strengths: tuple[float, float] = (0.8, 1.2),
        full: Sides | None = None,
    ) -> None:
        super().__init__()
        self.least, self.step, self.warmup = least, step, warmup
        self.strengths, self.full = strengths, full
        self.stages: tuple[Stage, ...] = ()
        self.done = 0
        self._policy: Policy | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        """Plans the run."""
        trainer: Any = self.model
        if not hasattr(trainer, "show_at"):
            raise RecipeError(
                "Only a Trainer of Étude's trains on growing images.",
                required="`etude.Trainer(model).fit(..., callbacks=[...])`, or `etude.pretrain`",
                received=type(trainer).__name__,
                advice="wrap the model by `etude.Trainer`",
            )
        if trainer.monitored:
            raise RecipeError(
                "A run within a budget does not train on growing images.",
                required="`etude.Trainer(model).fit`, or `etude.pretrain`",
                received="a callback of `etude.fit`, which plans by what one step costs",
                advice="leave the callback out, or train what `etude.tune` found by a Trainer",
            )
        params = self.params or {}
        if not params.get("steps"):
            raise RecipeError(
                "How long the run will be is not known, and so not when images should grow.",
                required="data with an end, or `steps_per_epoch`",
                received="a stream of unknown length",
                advice="pass `steps_per_epoch`",
            )
        total = int(params["epochs"]) * int(params["steps"])
        full = self.full or trainer.sides()
        self.stages = stages(
            total,
            full,
            least=self.least,
            step=self.step,
            warmup=round(self.warmup * total),
            strengths=self.strengths,
        )
        self.full_sides = full
        for part in self.stages:  # what cannot be is said now, and not when it is its turn
            trainer.show_at(None if part.sides == full else part.sides)
        trainer.show_at(None)
        self.done = 0
        augmenter = getattr(trainer, "augmenter", None)
        self._policy = None if augmenter is None else augmenter.policy

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Counts from the epoch, so that a run that goes on does so where it was."""
        self.done = epoch * int((self.params or {})["steps"])

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Shows the size of this step."""
        self._enter(self.done + batch)

    def on_train_end(self, logs: Any = None) -> None:
        """Shows full images again."""
        trainer: Any = self.model
        trainer.show_at(None)
        if self._policy is not None:
            trainer.augmenter.take_over(self._policy)

    def _enter(self, step: int) -> None:
        trainer: Any = self.model
        stage = self.stages[bisect.bisect_right([one.first for one in self.stages], step) - 1]
        changed = trainer.show_at(None if stage.sides == self.full_sides else stage.sides)
        begins = step == stage.first
        if self._policy is not None and (changed or begins):
            trainer.augmenter.take_over(strengthened(self._policy, stage.strength))
