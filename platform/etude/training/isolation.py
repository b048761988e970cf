"""Leaving no trace: everything that a trial may change, put back afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from etude.training import _keras_compat, snapshot


@contextlib.contextmanager
def isolated(trainer: Any) -> Iterator[None]:
    """Restores, on leaving, all that training within the context changed.

    That is: weights, batch normalization's and all other statistics, dropout's seeds, the
    optimizer's slots and count, its learning rate, metrics, the step's controls, and the
    global generators of Python, NumPy, Keras and TensorFlow. The position in the data is a
    number that trials do not touch.

    Args:
        trainer: A compiled Trainer around a built model.
    """
    if not trainer.optimizer.built:
        with trainer.scope():
            trainer.optimizer.build(trainer.trainable_variables)
    state = snapshot.capture(trainer)
    randomness = _keras_compat.random_state()
    stop = trainer.stop_training
    known = set(snapshot.variables(trainer))
    try:
        yield
    finally:
        late = {n: v for n, v in snapshot.variables(trainer).items() if n not in known}
        for variable in late.values():  # metrics come into being with their first batch
            variable.assign(_zeros(variable))
        snapshot.restore(trainer, state)
        _keras_compat.set_random_state(randomness)
        trainer.stop_training = stop


def _zeros(variable: Any) -> Any:
    from keras import ops

    return ops.zeros(variable.shape, variable.dtype)
