"""How long a schedule is where Keras' own arguments say it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from etude.errors import RecipeError


class Length(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
    """Lets the Trainer's schedule end with the last epoch of a `fit`."""

    def __init__(self, trainer: Any) -> None:
        super().__init__()
        self.trainer = trainer
        self._begun = False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Before the first epoch: how many steps there will be, and which comes next.

        Raises:
            RecipeError: The length of an epoch is not known.
        """
        if self._begun:
            return
        self._begun = True
        params = self.params or {}  # a CallbackList of the user's own brings what it likes
        controls, steps = self.trainer.controls, params.get("steps")
        selector = self.trainer.selector
        constant = self.trainer.recipe.optimization.schedule == "constant"
        if constant and (selector is None or not (steps or selector.goes_by_the_run)):
            return
        if not steps:
            raise RecipeError(
                "The schedule, or when samples are chosen, needs to know how long an epoch is.",
                required="data of known length, or `steps_per_epoch`",
                received="data that do not say how many batches they have",
                advice="pass `steps_per_epoch=` to `fit`",
            )
        controls.total.assign(float(params["epochs"] * steps))
        controls.step.assign(epoch * steps)


def with_length(trainer: Any, callbacks: Any) -> Sequence[Any]:
    """Callbacks as `fit` takes them, and before them the one that tells the length."""
    if isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks.callbacks.insert(0, Length(trainer))
        callbacks.callbacks[0].set_model(trainer)
        return callbacks
    own = callbacks if isinstance(callbacks, list | tuple) else [callbacks] if callbacks else []
    return [Length(trainer), *own]
