"""The part of a model that makes features, without the head that says what they mean."""

from __future__ import annotations

import contextlib
from typing import Any

from etude.errors import ModelError
from etude.inspection._graph import has_graph


def before_head(model: Any) -> Any:
    """What leads to the input of the model's last layer with weights, of the same layers.

    `None` for a model whose layers are not known to Keras as a graph, or whose last layer is itself
    a model, takes several tensors or is called in another graph first.
    """
    import keras

    if not has_graph(model):
        return None
    heads = [layer for layer in model.layers if layer.weights]
    if not heads or isinstance(heads[-1], keras.Model):
        return None
    # A layer that belongs to another graph too may tell that one's input.
    with contextlib.suppress(ValueError, AttributeError):
        seen = heads[-1].input
        if not isinstance(seen, list | tuple | dict):
            return keras.Model(_image(model), seen)
    return None


def find(model: Any, layer: str | None = None) -> Any:
    """The backbone of a model, as a model from images to features `(batch, features)`.

    It has the model's own layers: what trains it trains them. What has places is averaged over
    them.

    Args:
        model: A built Functional or Sequential one.
        layer: The name of the layer whose outputs are the features; left out, the input of the last
            dense layer, or the model's output where it does not end in one.

    Raises:
        ModelError: There is no such layer, or no graph to find it in.
    """
    import keras

    if not has_graph(model):
        raise ModelError(
            "The backbone of this model cannot be found.",
            required="a Functional or built Sequential model",
            received=f"{type(model).__name__}, whose layers Keras does not know as a graph",
            advice="pass the backbone itself, as a Functional model from images to features",
        )
    if layer is not None:
        names = [one.name for one in model.layers]
        if layer not in names:
            raise ModelError(
                "The model has no layer of this name.",
                required="one of " + ", ".join(names),
                received=repr(layer),
                advice="see `model.summary()`",
            )
        body = keras.Model(_image(model), model.get_layer(layer).output)
    else:
        weighted = [one for one in model.layers if one.weights]
        ends = bool(weighted) and isinstance(weighted[-1], keras.layers.Dense)
        # A dense layer over places (of a mixer, say) is none that says what they mean.
        body = (before_head(model) if ends and len(model.output_shape) == 2 else None) or model
    shape = body.output_shape
    if not isinstance(shape, tuple) or len(shape) < 2:
        raise ModelError(
            "A backbone gives one tensor of features.",
            required="features (batch, features) or (batch, height, width, channels)",
            received=f"outputs of shape {shape}",
            advice="name the layer that gives them: `backbone='...'`",
        )
    if len(shape) == 2:
        return body
    places = tuple(range(1, len(shape) - 1))
    return keras.Model(_image(body), keras.ops.mean(body.outputs[0], axis=places))


def _image(model: Any) -> Any:
    """The model's input: one by itself, as a model is called with it."""
    return model.inputs[0] if len(model.inputs) == 1 else model.inputs
