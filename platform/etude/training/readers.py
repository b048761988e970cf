"""Callbacks that read from a trial what a study wants to know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from etude.training.values import host

if TYPE_CHECKING:
    from etude.training.trainer import Trainer

# A trial is read back this often, so that one that has diverged ends early.
CHUNK = 10


class Watch(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
    """Times executions from the end of the first to the end of the last."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self.clock = clock
        self.first = self.last = clock()
        self.count = 0

    @property
    def total(self) -> float:
        """Seconds between both."""
        return self.last - self.first

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Takes the time of an execution's end."""
        if logs:
            float(logs["loss"])  # waits for the device
        self.last = self.clock()
        if self.count == 0:
            self.first = self.last
        self.count += 1


class Reader(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
    """Looks at a trial's losses now and then, and ends it when asked to."""

    def __init__(
        self,
        trainer: Trainer,
        stop: Callable[[Sequence[float]], bool] | None,
        on_step: Callable[[], None] | None,
    ) -> None:
        super().__init__()
        self.trainer = trainer
        self.stop = stop
        self.on_step = on_step
        self._looked = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Tells that an execution is over, and looks at the losses when it is time."""
        if self.on_step is not None:
            self.on_step()
        if self.stop is None or (batch + 1) // CHUNK == self._looked:
            return
        self._looked = (batch + 1) // CHUNK  # an execution may have several steps
        controls = self.trainer.controls
        assert controls is not None
        done = int(host(controls.step))
        if self.stop(controls.recorded(0, done).tolist()):
            self.trainer.stop_training = True


class Looks(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
    """Looks at a trial after some of its steps.

    Args:
        after: These steps, in order.
        look: What is done then.

    Attributes:
        done: Steps that were done at each look.
    """

    def __init__(self, after: Sequence[int], look: Callable[[], None]) -> None:
        super().__init__()
        self.after, self.look = list(after), look
        self.done: list[int] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Looks, if it is time."""
        if self.after and batch + 1 >= self.after[0]:
            # An execution may have several steps, and more than one look in them is none.
            self.after = [step for step in self.after if step > batch + 1]
            self.done.append(batch + 1)
            self.look()


class Scores(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
    """Takes the running mean that Keras shows apart again, into batches of the same size."""

    def __init__(self) -> None:
        super().__init__()
        self.means: list[float] = []
        self.batches: list[int] = []

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        """Notes the running mean."""
        self.means.append(float((logs or {})["loss"]))
        self.batches.append(batch + 1)

    def each(self) -> np.ndarray[Any, Any]:
        """The mean loss of every execution."""
        done = np.asarray(self.batches, np.float64)
        return np.diff(np.asarray(self.means) * done, prepend=0.0) / np.diff(done, prepend=0.0)
