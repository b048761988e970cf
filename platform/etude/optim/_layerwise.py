"""What LAMB and LARS share: which weights they adapt, norms, and a decay of their own."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from etude.errors import ModelError


class Layerwise(keras.optimizers.Optimizer):
    """An optimizer whose `update_step` does the weight decay, where Keras would do it before.

    `weight_decay` is read when the step is traced, as in Keras.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # Keras' decay would come on top, outside of the ratio. "" is part of every name.
        super().exclude_from_weight_decay(var_names=[""])

    def exclude_from_weight_decay(self, var_list: Any = None, var_names: Any = None) -> None:
        """Refuses: the rank of a variable says whether it decays.

        Raises:
            ModelError: Always.
        """
        raise ModelError(
            f"{type(self).__name__} does not take a list of variables that do not decay.",
            required="variables of rank 2 and more decay, biases and scales do not",
            received=f"var_list={var_list!r}, var_names={var_names!r}"[:80],
            advice="leave the call out, or use AdamW or SGD",
        )


def is_adapted(variable: Any) -> bool:
    """Whether a variable decays and has a rate of its own: kernels do.

    Biases and the scales and offsets of normalization have rank 1. They are small, and may
    begin at 0: a rate in proportion to their norm would hold them there.
    """
    return len(variable.shape) >= 2


def wide(variable: Any) -> Any:
    """A variable's value, float32 or wider: norms of halves overflow."""
    value = ops.convert_to_tensor(variable)
    return ops.cast(value, keras.backend.result_type(value.dtype, "float32"))


def dense(gradient: Any, like: Any) -> Any:
    """A gradient as a tensor of shape and dtype of `like`.

    That of an embedding comes as slices, of which one row may have several: their squares
    mean nothing before they are added up, which a sum with zeros does in every backend.
    """
    return ops.add(ops.zeros_like(like), ops.cast(gradient, like.dtype))


def norm(tensor: Any) -> Any:
    """The Euclidean norm of all elements, a scalar."""
    return ops.sqrt(ops.sum(ops.square(tensor)))


def ratio(top: Any, bottom: Any, *norms: Any) -> Any:
    """`top / bottom`, and 1 where one of the norms is 0: then they say nothing of the scale."""
    known = ops.all(ops.stack(norms) > 0.0)
    return ops.where(known, ops.divide_no_nan(top, bottom), ops.ones_like(top))
