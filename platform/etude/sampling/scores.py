"""How much each sample matters: its loss, and a bound of its gradient's norm, in one forward pass.

The norm of a sample's gradient is at most a constant times that of the gradient of its loss at the
last layer's pre-activation (Katharopoulos & Fleuret 2018, equation 20): of a softmax under
cross-entropy |p - y|, of sigmoids |σ(z) - y| over their number, of squared errors 2 |z - y| over
theirs. Dense outputs are one long vector of these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from keras import ops

Family = Literal["sparse", "categorical", "binary"]
"""Of a cross-entropy: labels that are class numbers, distributions, or yes and no."""


def crossentropy_residual(labels: Any, outputs: Any, family: Family, *, logits: bool) -> Any:
    """The gradient of each cross-entropy at the pre-activation.

    Args:
        labels: As the loss takes them: `(batch, ...)` or `(batch, ..., 1)` class numbers for
            `"sparse"`, else of the outputs' shape, or without their last axis where it is 1.
        outputs: `(batch, ..., classes)`; for `"binary"` also `(batch,)`.
        family: Of the loss.
        logits: Whether outputs are pre-activations; else probabilities.

    Returns:
        float32 of the outputs' shape; of a row of zeros, which counts for nothing, zeros.
    """
    outputs = ops.cast(outputs, "float32")
    if family == "binary":
        chances = ops.sigmoid(outputs) if logits else outputs
        wanted = ops.reshape(ops.cast(labels, "float32"), ops.shape(outputs))
        classes = outputs.shape[-1] if len(outputs.shape) > 1 else 1
        return (chances - wanted) / float(classes)
    chances = ops.softmax(outputs, axis=-1) if logits else outputs
    if family == "sparse":
        return chances - one_hot(labels, outputs)
    wanted = ops.cast(labels, "float32")
    return chances * ops.sum(wanted, axis=-1, keepdims=True) - wanted


def one_hot(labels: Any, outputs: Any) -> Any:
    """Class numbers, with or without a last axis of 1, as rows of the outputs' shape, float32."""
    if len(labels.shape) == len(outputs.shape):
        labels = ops.squeeze(labels, -1)
    return ops.one_hot(ops.cast(labels, "int32"), outputs.shape[-1], dtype="float32")


def squared_error_residual(labels: Any, outputs: Any) -> Any:
    """The gradient of each mean squared error at the outputs, float32 of their shape."""
    outputs = ops.cast(outputs, "float32")
    wanted = ops.reshape(ops.cast(labels, "float32"), ops.shape(outputs))
    classes = outputs.shape[-1] if len(outputs.shape) > 1 else 1
    return 2.0 * (outputs - wanted) / float(classes)


def any_residual(
    outputs: Any,
    loss: Callable[[Any], Any],
    differentiate: Callable[[Callable[[Any], Any], Any], Any],
    activation: str = "linear",
) -> Any:
    """The gradient of any loss at the pre-activation, by automatic differentiation.

    Args:
        outputs: `(batch, ...)`.
        loss: Gives, of outputs, the loss of each sample, `(batch,)`.
        differentiate: Gives the gradient of a function's sum at a tensor.
        activation: What outputs went through last, as Keras names it.
    """
    # Another tensor: Keras' losses would go back to the logits that a softmax noted on its own.
    outputs = ops.stop_gradient(ops.cast(outputs, "float32")) * 1.0
    gradient = differentiate(lambda z: ops.sum(loss(z)), outputs)
    return through(activation, outputs, gradient)


def through(activation: str, outputs: Any, gradient: Any) -> Any:
    """A gradient at outputs, taken back through their activation.

    Args:
        activation: Keras' name; one that is not known leaves the gradient as it is, a bound still,
            as slopes of activations are bounded.
        outputs: What the activation gave.
        gradient: Of their shape.
    """
    if activation == "softmax":
        inner = ops.sum(outputs * gradient, axis=-1, keepdims=True)
        return outputs * (gradient - inner)
    if activation == "sigmoid":
        return outputs * (1.0 - outputs) * gradient
    if activation == "tanh":
        return (1.0 - ops.square(outputs)) * gradient
    if activation == "relu":
        return ops.where(outputs > 0.0, gradient, 0.0)
    return gradient


def norms(residual: Any, weight: Any = None) -> Any:
    """The norm of each sample's residual, over the number of its places.

    Args:
        residual: `(batch, ..., classes)`, or `(batch,)`.
        weight: Of samples, `(batch,)`, or of places, `(batch, ...)`, or `None`.

    Returns:
        `(batch,)` float32.
    """
    squares = ops.square(residual)
    if len(squares.shape) > 1:
        squares = ops.sum(squares, axis=-1)
    if weight is not None:
        squares = squares * ops.square(_of_rank(weight, len(squares.shape)))
    if len(squares.shape) == 1:
        return ops.sqrt(squares)
    axes = tuple(range(1, len(squares.shape)))
    places = ops.cast(ops.prod(ops.shape(squares)[1:]), "float32")
    return ops.sqrt(ops.sum(squares, axis=axes)) / places


def means(losses: Any, weight: Any = None) -> Any:
    """The weighted mean loss of each sample's places, `(batch,)` float32.

    Args:
        losses: `(batch, ...)`.
        weight: As of `norms`.
    """
    losses = ops.cast(losses, "float32")
    if weight is not None:
        losses = losses * _of_rank(weight, len(losses.shape))
    if len(losses.shape) == 1:
        return losses
    return ops.mean(losses, axis=tuple(range(1, len(losses.shape))))


def _of_rank(weight: Any, rank: int) -> Any:
    """Weights of samples or places, float32, with so many axes: the last of 1 are left or added."""
    weight = ops.cast(weight, "float32")
    while len(weight.shape) > rank:
        weight = ops.squeeze(weight, -1)
    while len(weight.shape) < rank:
        weight = ops.expand_dims(weight, -1)
    return weight
