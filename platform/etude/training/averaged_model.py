"""A Keras model around another that may keep an average of its weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

from etude.errors import ModelError
from etude.training.averaging import Average


class AveragedModel(keras.Model):  # type: ignore[misc, unused-ignore]
    """Evaluates, saves and gives away the averaged weights, while training moves the others.

    Attributes:
        model: The user's model.
        recipe: Whose `ema_decay` says whether there is an average.
    """

    model: Any
    recipe: Any
    _average: Average | None = None
    _averaging = False

    def scope(self) -> Any:
        """The scope under which variables are made."""
        return contextlib.nullcontext()

    def save(self, filepath: Any, overwrite: bool = True, **options: Any) -> None:
        """Saves the user's model; see `keras.Model.save`."""
        with self.averaged():
            self.model.save(filepath, overwrite=overwrite, **options)

    def save_weights(self, filepath: Any, overwrite: bool = True, **options: Any) -> None:
        """Saves the user's model's weights; see `keras.Model.save_weights`."""
        with self.averaged():
            self.model.save_weights(filepath, overwrite=overwrite, **options)

    def load_weights(self, filepath: Any, **options: Any) -> None:
        """Loads the user's model's weights; see `keras.Model.load_weights`."""
        self.model.load_weights(filepath, **options)
        self._begin_average_anew()

    def get_weights(self) -> Any:
        """The model's weights, averaged ones where there are any: those that are evaluated."""
        with self.averaged():
            return super().get_weights()

    def set_weights(self, weights: Any) -> None:
        """Sets the model's weights; an average begins anew from them."""
        super().set_weights(weights)
        self._begin_average_anew()

    def export(self, filepath: Any, **options: Any) -> None:
        """Exports the user's model; see `keras.Model.export`."""
        with self.averaged():
            self.model.export(filepath, **options)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Within the context the model holds the averaged weights, if there are any."""
        average = self._average
        if average is None or not self._averaging:
            yield
            return
        average.swap()
        self._averaging = False
        try:
            yield
        finally:
            average.swap()
            self._averaging = True

    def finish_average(self) -> None:
        """Gives the averaged weights to the model for good; `fit` does it when it ends."""
        if self._average is not None and self._averaging:
            self._average.swap()
            self._averaging = False

    @property
    def average(self) -> Average | None:
        """The running average of the weights, once a fit has begun one."""
        return self._average

    def start_average(self) -> None:
        """Begins the average of the weights, where the recipe keeps one; `fit` does it."""
        decay = self.recipe.regularization.ema_decay
        if decay is not None and not self.model.built:
            raise ModelError(
                "An average of the weights needs weights to begin with.",
                required="a model that is built",
                received="a model whose weights do not exist yet",
                advice="call the model on a batch once, or `model.build(input_shape)`",
            )
        if decay is None or self._averaging:
            return
        self._averaging = True
        if self._average is not None:
            self._average.reset()
            return
        with self.scope():
            self._average = Average(self.model, decay)
        self.train_function = None  # one that was traced before knows nothing of it

    def _begin_average_anew(self) -> None:
        if self._average is not None and self._averaging:
            self._average.reset()
