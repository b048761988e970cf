"""The only place that touches private names of Keras and TensorFlow.

Each function says what it needs and why the public interface does not do; each has a test
that fails when Keras changes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from etude.training.values import host


def compute_loss(
    model: Any, x: Any, y: Any, y_pred: Any, sample_weight: Any, training: bool = True
) -> Any:
    """Keras' own total loss, with the compatibility that `train_step` itself uses."""
    return model._compute_loss(
        x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training
    )


def track_loss(trainer: Any, loss: Any, samples: Any) -> None:
    """Adds a batch's loss to the mean that Keras shows, as `train_step` itself does."""
    from keras.src.losses.loss import unscale_loss_for_distribution

    trainer._loss_tracker.update_state(unscale_loss_for_distribution(loss), sample_weight=samples)


def has_training_argument(model: Any) -> bool:
    """Whether the model's `call` takes `training`."""
    return bool(model._call_has_training_arg)


def additional_losses(trainer: Any) -> list[Any]:
    """Regularization and activity losses, scaled as Keras scales them."""
    return [trainer._aggregate_additional_loss(loss) for loss in trainer.losses]


def data_loss(trainer: Any, y: Any, y_pred: Any, sample_weight: Any) -> Any:
    """The compiled loss alone, without penalties on weights and activations.

    `compute_loss` adds these, and cannot be asked to leave them out; within a stateless scope it
    fails on them.
    """
    return trainer._compile_loss(y, y_pred, sample_weight)


def compile_arguments(model: Any) -> dict[str, Any]:
    """What a compiled model was compiled with, the objects themselves.

    `get_compile_config` serializes them, which loses custom losses.
    """
    return dict(model._compile_config.config)


def copy_metric(metric: keras.metrics.Metric) -> keras.metrics.Metric:
    """A metric of the same kind, with a state of its own.

    `from_config` does not find a function that a `MeanMetricWrapper` holds, unless it was
    registered for saving; the wrapper keeps it under private names.
    """
    if type(metric) is keras.metrics.MeanMetricWrapper:
        return keras.metrics.MeanMetricWrapper(
            metric._fn, name=metric.name, dtype=metric.dtype, **metric._fn_kwargs
        )
    return type(metric).from_config(metric.get_config())


def producing_node(tensor: Any) -> tuple[Any, Any]:
    """The operation that gives a symbolic tensor, and the node (its call) that does.

    No public name leads from a tensor to where it comes from.
    """
    history = tensor._keras_history
    return history.operation, history.operation._inbound_nodes[history.node_index]


def first_node(operation: Any) -> Any:
    """The node of an operation's first call, with its arguments."""
    return operation._inbound_nodes[0]


def distribute_strategy(model: Any) -> Any | None:
    """The strategy under which a model was made, if any."""
    return getattr(model, "_distribute_strategy", None)


def slot_index(optimizer: Any, variable: Any) -> int:
    """Where `add_optimizer_variables` put what belongs to a variable, in the order of `build`.

    Within `update_step` a variable may be one replica's part of it, or its TensorFlow
    variable; no public name leads from there to the one that the optimizer was built with.
    """
    return int(optimizer._get_variable_index(variable))


def all_layers(model: Any) -> Iterator[Any]:
    """The model and all layers within it, however deep."""
    yield from model._flatten_layers()


def is_fully_built(trainer: Any) -> bool:
    """Whether nothing is left for Keras' symbolic build to do."""
    metrics = trainer._compile_metrics
    loss = trainer._compile_loss
    return (
        all(layer.built for layer in trainer._flatten_layers())
        and (metrics is None or metrics.built)
        and (loss is None or loss.built)
    )


def symbolic_build(trainer: Any, element_spec: Any) -> None:
    """Builds model, loss and metrics from a data set's element spec alone.

    Keras' own way reduces a first batch over replicas eagerly, which fails with several
    workers and wastes a batch.
    """
    import tensorflow as tf

    def symbol(spec: Any) -> Any:
        spec = getattr(spec, "_component_specs", None) or spec
        if isinstance(spec, tuple | list):
            spec = spec[0]
        return keras.KerasTensor((None, *spec.shape[1:]), spec.dtype.name)

    batch = tf.nest.map_structure(symbol, element_spec)
    with trainer.distribute_strategy.scope():
        trainer._symbolic_build(data_batch=batch)


def element_spec(iterator: Any) -> Any:
    """The element spec of the data behind Keras' epoch iterator."""
    return iterator._distributed_dataset.element_spec


def set_epoch_length(iterator: Any, steps: int) -> None:
    """Sets how many steps the next epoch of Keras' epoch iterator has."""
    iterator.steps_per_epoch = steps


@dataclasses.dataclass(frozen=True)
class RandomState:
    """Every random generator outside of a model's own seed variables."""

    python: Any
    numpy: Any
    keras_seed: Any
    tf_generator: Any
    eager_seed: Any
    eager_rng: Any


def random_state() -> RandomState:
    """The state of Python's, NumPy's, Keras' and TensorFlow's global generators."""
    import tensorflow as tf
    from keras.src.random.seed_generator import global_seed_generator
    from tensorflow.python.eager import context

    eager = context.context()
    generator = getattr(eager, "_rng", None)
    return RandomState(
        random.getstate(),
        np.random.get_state(),
        host(global_seed_generator().state),
        tf.random.get_global_generator().state.numpy(),
        eager._seed,
        None if generator is None else generator.getstate(),
    )


def set_random_state(state: RandomState) -> None:
    """Puts every global generator back to `state`."""
    import tensorflow as tf
    from keras.src.random.seed_generator import global_seed_generator
    from tensorflow.python.eager import context

    random.setstate(state.python)
    np.random.set_state(state.numpy)
    global_seed_generator().state.assign(state.keras_seed)
    tf.random.get_global_generator().state.assign(state.tf_generator)
    eager = context.context()
    eager._seed = state.eager_seed
    if state.eager_rng is None:
        eager._rng = None
    else:
        if eager._rng is None:
            eager._rng = random.Random()
        if eager._rng.getstate() != state.eager_rng:
            eager._rng.setstate(state.eager_rng)
            # Kernels that were made since with the seeds to come would go on counting.
            eager.clear_kernel_cache()


def global_seed() -> np.ndarray[Any, Any]:
    """The state of Keras' global seed generator, which unseeded random layers draw from."""
    from keras.src.random.seed_generator import global_seed_generator

    return host(global_seed_generator().state)


def set_global_seed(state: np.ndarray[Any, Any]) -> None:
    """Sets the state of Keras' global seed generator."""
    from keras.src.random.seed_generator import global_seed_generator

    global_seed_generator().state.assign(state)


Moments = tuple[Any, Any]
"""A mean and a variance, one of each for a channel."""

_thread = threading.local()
_lock = threading.Lock()


class _Moments:
    """Stands in for a layer's `_moments`, and asks whoever takes care of it in this thread.

    The replicas of a distribution strategy trace one step in threads that take turns, on the same
    layers: what one of them hooks must not be asked by another.
    """

    def __init__(self, own: Callable[..., Moments]) -> None:
        self.own = own
        self.users = 0

    def __call__(self, inputs: Any, mask: Any) -> Moments:
        hook = getattr(_thread, "hooks", {}).get(id(self))
        if hook is None:
            return self.own(inputs, mask)
        return hook(inputs, lambda: self.own(inputs, mask))

    @classmethod
    def of(cls, layer: Any) -> _Moments:
        """The layer's stand-in, put there where there is none, with one user more."""
        with _lock:
            found = layer.__dict__.get("_moments")
            if not isinstance(found, cls):
                found = cls(layer._moments)
                # Past Keras' `__setattr__`, which would track it.
                object.__setattr__(layer, "_moments", found)
            found.users += 1
            return found

    def leave(self, layer: Any) -> None:
        """Goes away with its last user."""
        with _lock:
            self.users -= 1
            if not self.users:
                object.__delattr__(layer, "_moments")

    def put_back(self, hook: Any) -> None:
        """Has this thread's hook be what it was."""
        if hook is None:
            del _thread.hooks[id(self)]
        else:
            _thread.hooks[id(self)] = hook


@contextlib.contextmanager
def moments_by(
    layers: Sequence[Any], hook: Callable[[Any, Any, Callable[[], Moments]], Moments]
) -> Iterator[None]:
    """Within the context batch normalizations have the moments that a function gives.

    What they normalize by comes from their method `_moments`, and from no argument.

    Args:
        layers: Batch normalizations.
        hook: Called with the layer, its inputs, and a function that gives what its own would be.
    """
    if not hasattr(_thread, "hooks"):
        _thread.hooks = {}
    with contextlib.ExitStack() as stack:
        for layer in layers:
            stand_in = _Moments.of(layer)
            stack.callback(stand_in.leave, layer)
            stack.callback(stand_in.put_back, _thread.hooks.get(id(stand_in)))
            _thread.hooks[id(stand_in)] = functools.partial(hook, layer)
        yield
