"""Weight decay of each tensor that takes away what its own updates add to its norm.

The gradient of weights before a normalization is at right angles to them: the loss does not depend
on their norm. Every update Δ then lengthens them, |w + Δ|² = |w|² + |Δ|², and the longer they are
the less an update turns them; decay by ηλ a step shortens them by 2 ηλ |w|². Constant decay comes
to rest where both are equal, ηλ = |Δ|² / 2 |w|², after about 1 / ηλ steps (van Laarhoven 2017, "L2
Regularization versus Batch and Weight Normalization"), which is often longer than the run. Here it
is at that rest from the first step, tensor by tensor: nothing is left to be chosen.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from keras import ops

from etude.optim._layerwise import is_adapted, wide

MOST = 0.5
"""Share of a tensor that decays in a step, at most: its first updates may be longer than it is."""


def share(before: Any, after: Any) -> Any:
    """Which share of a tensor decays in a step, a scalar: |Δ|² / 2 |w|², at most `MOST`.

    Args:
        before: The weights w, of any shape.
        after: The same after the update, w + Δ.

    Returns:
        A float32 scalar; 0 for weights that are all 0, of which nothing can decay.
    """
    added = ops.sum(ops.square(wide(after) - wide(before)))
    return ops.minimum(0.5 * ops.divide_no_nan(added, ops.sum(ops.square(wide(before)))), MOST)


def decayed(before: Any, after: Any) -> Any:
    """The weights after the update and its decay, of the dtype of `after`."""
    new = wide(after) - share(before, after) * wide(before)
    return ops.cast(new, ops.convert_to_tensor(after).dtype)


@contextlib.contextmanager
def balancing(variables: Sequence[Any]) -> Iterator[None]:
    """Lets kernels among variables decay by what they are changed within the context.

    Biases, and the scales and offsets of normalization, stay as they are: they have rank 1.
    """
    weights = [(variable, ops.copy(variable)) for variable in variables if is_adapted(variable)]
    yield
    for variable, before in weights:
        new = decayed(before, variable)
        constraint = getattr(variable, "constraint", None)
        # The optimizer has seen to it already, before the decay.
        variable.assign(new if constraint is None else constraint(new))
