"""The graph of a Functional or Sequential model, by Keras' own records."""

from __future__ import annotations

from typing import Any

from etude.training import _keras_compat


def has_graph(model: Any) -> bool:
    """Whether the model keeps a graph: Functional, or Sequential and built."""
    import keras

    return isinstance(model, keras.Model) and bool(getattr(model, "inputs", None))


def producer(tensor: Any) -> tuple[Any, list[Any]]:
    """The operation that gives a symbolic tensor, and the tensors that it takes."""
    operation, node = _keras_compat.producing_node(tensor)
    return operation, list(node.input_tensors)


def constants(operation: Any) -> list[Any]:
    """What an operation was called with besides symbolic tensors, in order."""
    import keras

    node = _keras_compat.first_node(operation)
    values = [*node.arguments.args, *node.arguments.kwargs.values()]
    return [value for value in values if not isinstance(value, keras.KerasTensor)]


def operations(model: Any) -> list[Any]:
    """All operations in the order of computation, of the model alone (not of models in it)."""
    import keras

    if isinstance(model, keras.Sequential):
        return list(model.layers)
    return list(model.operations)
