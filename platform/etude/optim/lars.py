"""LARS: momentum, at a rate in proportion to the weights that it moves."""

from __future__ import annotations

from typing import Any

import keras

from etude.optim._layerwise import Layerwise, dense, is_adapted, norm, ratio, wide


@keras.saving.register_keras_serializable(package="etude")
class LARS(Layerwise, keras.optimizers.SGD):
    """Layer-wise adaptive rate scaling for large batches.

    With the gradient g of a variable w:

        local = η ‖w‖ / (‖g‖ + λ ‖w‖)
        v ← μ v - rate · local · (g + λ w)
        w ← w + v

    per variable; `local` is 1 where ‖w‖ or ‖g‖ is 0. Variables of rank 0 and 1 (biases,
    scales and offsets of normalization) take the step of SGD with momentum: `local` is 1,
    and nothing decays.

    Args:
        learning_rate: The rate; a float or a schedule of Keras. Rates are of another size
            than SGD's, since η stands before them: at 1 a kernel moves in one step by η of
            its norm.
        momentum: μ, in [0, 1].
        trust_coefficient: η, above 0.
        weight_decay: λ, at least 0; `None` is 0. Which variables decay is settled by their
            rank alone: `exclude_from_weight_decay` is refused.
        options: As for `keras.optimizers.SGD` (Nesterov's momentum, clipping, averaging,
            accumulation).

    Source: You, Gitman, Ginsburg (2017), *Large Batch Training of Convolutional Networks*,
    arXiv:1708.03888, algorithm 1; the paper has no rule for norms of 0.

    Example:
        >>> import numpy as np
        >>> weight = keras.Variable(np.full((2, 2), 2.0, "float32"))
        >>> LARS(10.0).apply([np.full((2, 2), 1e6, "float32")], [weight])
        >>> round(float(weight[0, 0]), 5)  # a hundredth shorter, whatever the gradient
        1.98
    """

    def __init__(
        self,
        learning_rate: Any = 1.0,
        momentum: float = 0.9,
        trust_coefficient: float = 1e-3,
        weight_decay: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            learning_rate=learning_rate, momentum=momentum, weight_decay=weight_decay, **options
        )
        self.trust_coefficient = trust_coefficient

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Moves one variable against its gradient, which has the same shape."""
        if is_adapted(variable):
            decay, w = self.weight_decay or 0.0, wide(variable)
            g = dense(gradient, w)
            norms = w_norm, g_norm = norm(w), norm(g)
            local = ratio(self.trust_coefficient * w_norm, g_norm + decay * w_norm, *norms)
            gradient = local * (g + decay * w)
        super().update_step(gradient, variable, learning_rate)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it anew."""
        return {**super().get_config(), "trust_coefficient": self.trust_coefficient}
