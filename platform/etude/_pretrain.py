"""`pretrain`: a backbone learns from images without labels."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from etude.budget import Budget, Clock, parse_bytes, parse_duration
from etude.data.feed import Feed
from etude.errors import BudgetError, RecipeError, RunError
from etude.inspection import backbone as backbones
from etude.inspection import checks
from etude.inspection import model as models
from etude.inspection.sets import Opener
from etude.recipe import Recipe
from etude.ssl.objectives import OBJECTIVES, Objective
from etude.training import pacing
from etude.training.pretrainer import (
    COLLAPSED,
    Count,
    Finite,
    HardViews,
    Neighbours,
    Pretrainer,
)
from etude.training.progressive import Progressive
from etude.training.values import host

# Passes over the images where neither they nor a time are given.
DEFAULT_EPOCHS = 100
# How much faster than timed before a training within a time may turn out to be.
SLACK = 1.5
# The batch that an objective's learning rate is for; it grows in proportion.
PER = 128


@dataclasses.dataclass(frozen=True)
class Pretraining:
    """What came of it.

    Attributes:
        objective: Its name.
        history: Keras' own: the loss and the spread of embeddings of every epoch, and of those that
            were looked at the accuracy of nearest neighbours and the features' effective rank, and
            of the last one that of a linear classifier.
        backbone: From images to features; its layers are those of the model that was passed in.
        recipe: By which it was trained.
        flops: Operations of the networks' passes; a backward one counts as two forward ones. `None`
            for images of a size that is not known before.
        notes: What is to be said.
    """

    objective: str
    history: Mapping[str, list[float]]
    backbone: Any
    recipe: Recipe
    flops: int | None
    notes: tuple[str, ...]


def pretrain(
    model: Any,
    images: Any,
    *,
    objective: str | Objective = "simsiam",
    epochs: int | None = None,
    time_budget: str | float | None = None,
    batch_size: int = 128,
    backbone: str | None = None,
    policy: Any = "contrastive",
    hard: HardViews | None = None,
    recipe: Recipe | str | Path | None = None,
    neighbours: tuple[tuple[Any, Any], tuple[Any, Any]] | None = None,
    every: int = 1,
    probe: bool = False,
    callbacks: Sequence[Any] = (),
    resize: Any = None,
    memory_budget: str | int = "4GiB",
    seed: int = 0,
    verbose: Any = "auto",
    clock: Clock | None = None,
) -> Pretraining:
    """Trains the backbone of a model by a self-supervised objective; the model has its weights.

    Projector and predictor are made for it and thrown away. The head of the model, if it has one,
    stays as it was.

    Args:
        model: A Functional or built Sequential model with or without a head, or a `.keras` file.
        images: As of `fit(unlabeled=...)`.
        objective: A name from `etude.ssl.objectives`, or one of them with its own numbers.
        epochs: Passes over the images; 100, where no time is given either.
        time_budget: Seconds of work, or `"10m"`, all included. With `epochs` too, whichever ends
            first; the schedule ends with it.
        batch_size: Images in a batch, of each of which there are two views.
        backbone: The name of the layer whose outputs are the features; left out, what leads to the
            last dense layer, or the whole model where it does not end in one.
        policy: What makes the views, as the recipe's `augmentation.policy`.
        hard: `etude.HardViews()` makes more than two of each image and keeps the hardest pair.
        recipe: Optimizer, schedule and the like, in the place of SGD with Nesterov momentum at the
            objective's `rate` for a batch of 128 and in proportion, decay 5e-4, and a cosine. Batch
            and policy are those of the arguments.
        neighbours: Labelled images `(x, y)` and others whose classes their features are to tell:
            after epochs the accuracy of weighted nearest neighbours is in the history.
        every: Epochs between two such looks.
        probe: Whether a linear classifier is trained on them after the last epoch, by LARS: its
            accuracy is in the history too.
        callbacks: Keras callbacks.
        resize: As of `fit`.
        memory_budget: As of `fit`.
        seed: Of heads, order and views.
        verbose: As of `keras.Model.fit`.
        clock: Returns seconds; for tests.

    Raises:
        EtudeError: The backbone cannot be found or the images do not meet it, before the first
            step.
        RunError: The loss is not finite any more. The backbone has the weights that it had before.

    Example:
        >>> etude.pretrain(model, images, objective="byol", epochs=50)  # doctest: +SKIP
        >>> etude.fit(model, (x, y), time_budget="10m")  # doctest: +SKIP
    """
    time = Budget(None if time_budget is None else parse_duration(time_budget), clock=clock)
    _check(probe and neighbours is None, time, epochs, callbacks)
    ready = prepared(
        model,
        images,
        objective=objective,
        batch_size=batch_size,
        backbone=backbone,
        policy=policy,
        hard=hard,
        recipe=recipe,
        resize=resize,
        memory_budget=parse_bytes(memory_budget),
        seed=seed,
    )
    looks = None
    if neighbours is not None:
        looks = Neighbours(ready.backbone, *neighbours, every=every, probe=probe)
    return ready.within(
        time,
        epochs,
        callbacks=[one for one in (looks, *callbacks) if one is not None],
        verbose=verbose,
    )


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A pre-training that can begin: a compiled Trainer, and what it trains on.

    Attributes:
        trainer: Around the backbone and its heads.
        feed: The images.
        batch: Images in a batch.
        backbone: From images to features, of the model's own layers.
        objective: Its name.
        recipe: By which it is trained.
        seed: Of order and views.
        notes: What is to be said.
    """

    trainer: Pretrainer
    feed: Feed
    batch: int
    backbone: Any
    objective: str
    recipe: Recipe
    seed: int
    notes: tuple[str, ...]

    def steps(self, count: int, order: int = 0) -> Mapping[str, list[float]]:
        """Trains by a whole schedule of so many steps; the history."""
        found = self.trainer.fit(
            self.feed.shuffled(self.batch, seed=self.seed + order),
            steps_per_epoch=count,
            shuffle=False,
            verbose=0,
        )
        history: Mapping[str, list[float]] = found.history
        return history

    def seconds_of_a_step(self, time: Budget) -> float:
        """As timed; no trace is left."""
        return pacing.seconds_of_a_step(self.trainer, time, self.steps)

    def within(
        self,
        time: Budget,
        epochs: int | None = None,
        *,
        callbacks: Sequence[Any] = (),
        verbose: Any = 0,
    ) -> Pretraining:
        """Trains for so many epochs or within the time, whichever ends first.

        Raises:
            RunError: The loss is not finite any more. The backbone is as it was before.
        """
        before = [host(variable) for variable in self.backbone.variables]
        frame = [side for side in self.feed.source.spec.image_shape if side is not None]
        count = Count(frame, self.batch) if len(frame) == 3 else None
        more = [] if count is None else [count]
        finite = Finite()
        history = self._trained(time, epochs, [finite, *callbacks, *more], verbose)
        if finite.lost is not None:
            for variable, value in zip(self.backbone.variables, before, strict=True):
                variable.assign(value)
            raise RunError(
                "Pre-training diverged; the backbone has the weights that it had before.",
                required="a loss that stays finite",
                received=f"{finite.lost} in epoch {len(history['loss'])}, by {self.objective} at a "
                f"learning rate of {self.recipe.optimization.learning_rate}",
                advice="pass a recipe with a lower learning rate, or take another objective",
            )
        notes, last = list(self.notes), history["spread"][-1]
        if not last > COLLAPSED:
            notes.append(
                f"The embeddings collapsed: their spread is {last:.3f}, where 1 is even and 0 is "
                f"all the same. A lower learning rate or another objective may help."
            )
        operations = None if count is None else count.total
        return Pretraining(
            self.objective, history, self.backbone, self.recipe, operations, tuple(notes)
        )

    def _trained(
        self, time: Budget, epochs: int | None, callbacks: list[Any], verbose: Any
    ) -> Mapping[str, list[float]]:
        """The history of a training of so many epochs, or within the time."""
        steps = max(1, (self.feed.size or 0) // self.batch)
        if time.seconds is None:
            epochs = epochs or DEFAULT_EPOCHS
        else:
            most = None if epochs is None else epochs * steps
            paced = pacing.Paced(time, self.seconds_of_a_step(time), most)
            epochs = max(1, math.ceil(SLACK * paced.total / steps))
            callbacks = [*callbacks, paced]
        found = self.trainer.fit(
            self.feed.shuffled(self.batch, seed=self.seed),
            epochs=epochs,
            steps_per_epoch=steps,
            shuffle=False,
            callbacks=callbacks,
            verbose=verbose,
        )
        history: Mapping[str, list[float]] = found.history
        return history


def prepared(
    model: Any,
    images: Any,
    *,
    objective: str | Objective = "simsiam",
    batch_size: int = 128,
    backbone: str | None = None,
    policy: Any = "contrastive",
    hard: HardViews | None = None,
    recipe: Recipe | str | Path | None = None,
    resize: Any = None,
    memory_budget: int = 4 * 2**30,
    seed: int = 0,
    streamed: bool = False,
) -> Prepared:
    """Looks at model and images, and compiles. Arguments are those of `pretrain`.

    Args:
        streamed: Whether images are read anew for every batch, so that others of the same kind
            need no other trace.
    """
    model = models.take(model)
    chosen = _objective(objective)
    body = backbones.find(model, backbone)
    wanted = models.wants(model)
    opened, notes = Opener(wanted, resize, memory_budget, None).open(
        images, "unlabeled", labelled=False, finite="passed over", beside=wanted
    )
    used = _recipe(recipe, chosen.rate, batch_size, policy)
    feed = Feed(opened.source, 0 if streamed else memory_budget)
    assert feed.size is not None  # what has no end was refused
    batch = min(batch_size, feed.size)
    if batch < 2:
        raise RecipeError(
            "One image is normalized to nothing, and there is no other to tell it from.",
            required="at least two images in a batch",
            received=f"batch_size={batch_size}, {feed.size} images",
            advice="pass more images, or a larger batch",
        )
    spec, scan = opened.source.spec, opened.scan
    trainer = Pretrainer(
        body,
        chosen,
        used,
        value_range=checks.value_range(spec.image_dtype, scan.min, scan.max),
        hard=hard,
        seed=seed,
    )
    trainer.compile()
    return Prepared(
        trainer=trainer,
        feed=feed,
        batch=batch,
        backbone=body,
        objective=chosen.name,
        recipe=used,
        seed=seed,
        notes=tuple(notes),
    )


def _check(blind: bool, time: Budget, epochs: int | None, callbacks: Sequence[Any]) -> None:
    if blind:
        raise RecipeError(
            "A linear classifier needs labelled images.",
            required="`neighbours=((x, y), (x_others, y_others))` beside `probe`",
            received="neighbours=None",
            advice="pass them, or leave `probe` out",
        )
    if epochs is not None and epochs < 1:
        raise BudgetError(
            "The number of epochs is not one.",
            required="a positive whole number",
            received=repr(epochs),
            advice="write it as `epochs=10`",
        )
    if time.seconds is not None and any(isinstance(one, Progressive) for one in callbacks):
        raise RecipeError(
            "Images do not grow in a training whose steps are not known before.",
            required="`epochs` beside `etude.Progressive`",
            received="`time_budget`",
            advice="give `epochs` alone, or leave the callback out",
        )


def _objective(given: str | Objective) -> Objective:
    if isinstance(given, Objective):
        return given
    if given not in OBJECTIVES:
        raise RecipeError(
            "There is no such objective.",
            required="one of " + ", ".join(OBJECTIVES),
            received=repr(given),
            advice="mend the name",
        )
    return OBJECTIVES[given]()


def _recipe(given: Recipe | str | Path | None, rate: float, batch: int, policy: Any) -> Recipe:
    """The recipe, with the batch and the policy."""
    own = {"compute": {"batch_size": batch}, "augmentation": {"policy": policy}}
    if isinstance(given, str | Path):
        given = Recipe.load(given)
    if given is not None:
        return given.give(**own)
    return Recipe().give(
        optimization={
            "optimizer": "nesterov",
            "learning_rate": rate * batch / PER,
            "momentum": 0.9,
            "weight_decay": 5e-4,
            "schedule": "cosine",
        },
        **own,
    )
