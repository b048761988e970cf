"""LAMB: Adam's direction, with decay, at the length of the weights that it moves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from etude.optim._layerwise import Layerwise, dense, is_adapted, norm, ratio, wide
from etude.training import _keras_compat


@keras.saving.register_keras_serializable(package="etude")
class LAMB(Layerwise):
    """Layer-wise adaptive moments for large batches, as published.

    With m̂ and v̂ Adam's bias-corrected means of the gradient and of its square:

        u = m̂ / (√v̂ + ε) + λ w
        w ← w - rate · ‖w‖ / ‖u‖ · u

    per variable; the ratio is 1 where either norm is 0. Variables of rank 0 and 1 (biases,
    scales and offsets of normalization) take Adam's step: ratio 1, no decay.

    `keras.optimizers.Lamb`, which `"lamb"` means to Keras itself, is another rule: there the
    decay stands outside of the ratio.

    Args:
        learning_rate: The length of a step as a share of the weights' norm; a float or a
            schedule of Keras.
        beta_1: Decay per step of the mean of gradients, in [0, 1).
        beta_2: Decay per step of the mean of their squares, in [0, 1).
        epsilon: ε, above 0, in units of the gradient.
        weight_decay: λ, at least 0; `None` is 0. Which variables decay is settled by their
            rank alone: `exclude_from_weight_decay` is refused.
        options: As for `keras.optimizers.Optimizer` (clipping, averaging, accumulation).

    Source: You et al. (2020), *Large Batch Optimization for Deep Learning: Training BERT in
    76 minutes*, arXiv:1904.00962, algorithm 2, with φ(z) = z and the defaults of its authors.

    Example:
        >>> import numpy as np
        >>> weight = keras.Variable(np.full((2, 2), 2.0, "float32"))
        >>> LAMB(0.1, weight_decay=0.5).apply([np.ones((2, 2), "float32")], [weight])
        >>> round(float(weight[0, 0]), 5)
        1.8
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-6,
        weight_decay: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay, **options)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    def build(self, variables: Sequence[Any]) -> None:
        """Makes the two means for each of the variables to train."""
        if self.built:
            return
        super().build(variables)
        self.momentums, self.velocities = self.add_optimizer_variables(
            variables, ["momentum", "velocity"]
        )

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Moves one variable against its gradient, which has the same shape."""
        slot = _keras_compat.slot_index(self, variable)
        w = wide(variable)
        g = dense(gradient, w)
        beta_1, beta_2 = ops.cast(self.beta_1, w.dtype), ops.cast(self.beta_2, w.dtype)
        m = beta_1 * wide(self.momentums[slot]) + (1.0 - beta_1) * g
        v = beta_2 * wide(self.velocities[slot]) + (1.0 - beta_2) * ops.square(g)
        self.assign(self.momentums[slot], m)
        self.assign(self.velocities[slot], v)
        step = ops.cast(self.iterations + 1, w.dtype)
        m = m / (1.0 - ops.power(beta_1, step))
        v = v / (1.0 - ops.power(beta_2, step))
        update = m / (ops.sqrt(v) + self.epsilon)
        if is_adapted(variable):
            update = update + (self.weight_decay or 0.0) * w
            lengths = norm(w), norm(update)
            update = ratio(*lengths, *lengths) * update
        self.assign_sub(variable, ops.cast(learning_rate, w.dtype) * update)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it anew."""
        own = {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}
        return {**super().get_config(), **own}
