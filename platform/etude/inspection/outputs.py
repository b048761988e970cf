"""Logits or probabilities: what the outputs went through last."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from etude.errors import ModelError
from etude.inspection import _graph
from etude.inspection.model import run
from etude.training import _keras_compat

# What leaves a softmax a softmax and a logit a logit.
_TRANSPARENT = frozenset(
    (
        "Reshape", "Permute", "Flatten", "Dropout", "SpatialDropout2D", "GaussianDropout",
        "AlphaDropout", "Identity", "ActivityRegularization", "Cropping2D", "UpSampling2D",
        "Cast", "Squeeze", "ExpandDims",
    )
)  # fmt: skip
# These turn a distribution into something else, but leave logits logits.
_LINEAR = frozenset(("Rescaling", "GlobalAveragePooling2D", "AveragePooling2D", "Resizing"))
_ACTIVATIONS = {
    "Softmax": "softmax",
    "Sigmoid": "sigmoid",
    "ReLU": "relu",
    "Relu": "relu",
    "Relu6": "relu6",
    "LeakyReLU": "leaky_relu",
    "Tanh": "tanh",
    "LogSoftmax": "log_softmax",
    "HardSigmoid": "hard_sigmoid",
    "Softplus": "softplus",
    "DepthFromDisparity": "depth",
}
# The least and the greatest output under an activation, where it has both.
_LIMITS = {
    "softmax": (0.0, 1.0),
    "sigmoid": (0.0, 1.0),
    "hard_sigmoid": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "hard_tanh": (-1.0, 1.0),
    "softsign": (-1.0, 1.0),
    "relu6": (0.0, 6.0),
}
PROBABILITIES = ("softmax", "sigmoid", "hard_sigmoid")
# A law of probabilities holds for all weights: with these (times, plus) others, too.
_OTHER_WEIGHTS = (-30.0, -1.0)
# Outputs that can be neither probabilities nor free logits.
CLOSED = ("relu", "relu6", "tanh", "softplus", "softsign", "exponential", "hard_tanh")


@dataclasses.dataclass(frozen=True)
class Ending:
    """How a model ends.

    Attributes:
        activation: Keras' name of the last activation; `"linear"` for none.
        seen: Whether it was read off the model (`True`) or measured on images.
        limits: The least and the greatest output, where it has both and was read off.
    """

    activation: str
    seen: bool
    limits: tuple[float, float] | None = None

    @property
    def logits(self) -> bool:
        """Whether outputs are logits and not probabilities."""
        return self.activation not in PROBABILITIES


def read(model: Any) -> str | None:
    """The last activation, as the model's graph shows it; `None` where it does not."""
    import keras

    if isinstance(model, keras.Sequential):
        return _through(list(model.layers))
    if not _graph.has_graph(model):
        return None
    chain, tensor = [], model.outputs[0]
    while True:
        operation, inputs = _graph.producer(tensor)
        chain.append(operation)
        if len(inputs) != 1 or not _passes(operation):
            return _through(chain[::-1])
        tensor = inputs[0]


def _passes(operation: Any) -> bool:
    name = type(operation).__name__
    return name in _TRANSPARENT or name in _LINEAR or _own(operation) == "linear_activation"


def _own(operation: Any) -> str | None:
    """The operation's own activation; `"linear_activation"` for an Activation that does
    nothing."""
    import keras

    name = type(operation).__name__
    if isinstance(operation, keras.Model):
        return read(operation)
    if name in _ACTIVATIONS:
        return _ACTIVATIONS[name]
    if not isinstance(operation, keras.layers.Layer) or not hasattr(operation, "activation"):
        return None
    activation = _name(operation.activation)
    if isinstance(operation, keras.layers.Activation) and activation == "linear":
        return "linear_activation"
    return activation


def _name(activation: Any) -> str | None:
    """Keras' name of a function that is Keras' own activation; `None` for any other, whose
    name (`softmax_v2`, `<lambda>`) says nothing."""
    import keras

    name = getattr(activation, "__name__", None)
    if not isinstance(name, str) or not hasattr(keras.activations, name):
        return None
    own = (getattr(keras.activations, name), getattr(keras.ops, name, None))
    return name if activation in own else None


def _through(operations: list[Any]) -> str | None:
    """The last activation of operations in order."""
    averaged = False
    for operation in reversed(operations):
        if _passes(operation):
            averaged = averaged or type(operation).__name__ in _LINEAR
            continue
        found = _own(operation)
        return found if found == "linear" or not averaged else None
    return None


def measure(model: Any, images: np.ndarray[Any, Any]) -> str:
    """The kind of outputs on a few images and on extreme ones: `"softmax"`, `"sigmoid"` or
    `"linear"`.

    Args:
        model: A built model. It is run in inference mode, and left as it was.
        images: `(samples, height, width, channels)`; up to 4 are used.
    """
    some = images[:4].astype(np.float32)
    probes = np.concatenate([some, np.zeros_like(some[:1]), -some[:1], some[:1] * 30.0])
    values = _values(run(model, probes))
    if not np.isfinite(values).all():
        raise ModelError(
            "The untrained model gives NaN or infinite outputs on the first images.",
            required="finite outputs",
            received=f"{int((~np.isfinite(values)).sum())} of {values.size} outputs",
            advice="look for divisions or logarithms in `call`, or scale the images",
        )
    # All zeros is what a zero-initialized last layer gives, and no sigmoid.
    if not _inside(values) or not values.any() or _leaves_with_other_weights(model, probes):
        return "linear"
    # bfloat16 sums to 1 within 8 bits.
    if values.shape[-1] > 1 and np.allclose(values.sum(axis=-1), 1.0, atol=1e-2):
        return "softmax"
    return "sigmoid"


def _values(outputs: Any) -> np.ndarray[Any, Any]:
    import keras

    return np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(outputs, "float32")))


def _inside(values: np.ndarray[Any, Any]) -> bool:
    return bool(((values >= 0.0) & (values <= 1.0)).all())


def _leaves_with_other_weights(model: Any, probes: np.ndarray[Any, Any]) -> bool:
    """Whether other weights bring outputs out of 0..1, as those of no sigmoid or softmax.

    Logits can lie within 0..1 by their weights: a kernel of zeros with a bias of 0.2. Tried
    on the last variables, and on all biases and scales, since the order of a subclassed
    model's variables is that of their making, not of their use.
    """
    import keras

    times, plus = _OTHER_WEIGHTS
    floats = [v for v in model.trainable_variables if keras.backend.is_float_dtype(v.dtype)]
    for chosen in (floats[-2:], [v for v in floats if len(v.shape) <= 1]):
        values = _values(run(model, probes, [(v, v.value * times + plus) for v in chosen]))
        if not _inside(values[np.isfinite(values)]):
            return True
    return False


def ending(model: Any, images: np.ndarray[Any, Any]) -> Ending:
    """How the model ends: as its graph shows it, else as measured."""
    found = read(model)
    if found is not None:
        return Ending(found, seen=True, limits=_limits(model, found))
    return Ending(measure(model, images), seen=False)


def _limits(model: Any, activation: str) -> tuple[float, float] | None:
    if activation != "depth":
        return _LIMITS.get(activation)
    for layer in reversed(list(_keras_compat.all_layers(model))):
        if type(layer).__name__ == "DepthFromDisparity":
            return float(layer.nearest), float(layer.farthest)
    return None


def check_ending(
    end: Ending, output_shape: tuple[int | None, ...], *, measures: bool = False
) -> None:
    """Raises a `ModelError` for a last activation under which no loss of ours can learn.

    Not called when the user compiled a loss: theirs may want it so.

    Args:
        end: How the model ends.
        output_shape: Of one output.
        measures: Whether outputs are what is measured, which an activation may keep within a
            range.
    """
    wide = bool(output_shape) and output_shape[-1] != 1
    if end.activation == "softmax" and not wide:
        raise ModelError(
            "The model ends in a softmax over one output, which is always 1.",
            required="a sigmoid, or no activation, on a single output",
            received=f"softmax on outputs of shape {output_shape}",
            advice="end the model with `activation='sigmoid'` or without activation",
        )
    if measures:
        return
    if end.activation in CLOSED or end.activation in ("log_softmax", "depth"):
        raise ModelError(
            f"The model ends in {end.activation}.",
            required="no activation (logits), softmax or sigmoid at the end",
            received=f"last activation {end.activation!r}",
            advice="drop the last activation (`activation=None`), or compile the loss it is for",
        )
