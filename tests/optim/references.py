"""LAMB and LARS as plain NumPy loops over one variable, in double precision."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def lamb(
    start: Any,
    gradients: Iterable[Any],
    *,
    rate: float | Sequence[float],
    beta_1: float | Sequence[float] = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-6,
    decay: float = 0.0,
) -> list[Array]:
    """The variable after each step; rate and β₁ may differ from step to step."""
    w = np.array(start, np.float64)
    m, v, path = np.zeros_like(w), np.zeros_like(w), []
    for t, gradient in enumerate(gradients, start=1):
        g, beta, lr = np.array(gradient, np.float64), _at(beta_1, t), _at(rate, t)
        m = beta * m + (1 - beta) * g
        v = beta_2 * v + (1 - beta_2) * g**2
        u = (m / (1 - beta**t)) / (np.sqrt(v / (1 - beta_2**t)) + epsilon)
        if w.ndim >= 2:
            u = u + decay * w
            lengths = np.linalg.norm(w.ravel()), np.linalg.norm(u.ravel())
            if min(lengths) > 0:
                u = u * lengths[0] / lengths[1]
        w = w - lr * u
        path.append(w)
    return path


def lars(
    start: Any,
    gradients: Iterable[Any],
    *,
    rate: float | Sequence[float],
    momentum: float | Sequence[float] = 0.9,
    trust: float = 1e-3,
    decay: float = 0.0,
    nesterov: bool = False,
) -> list[Array]:
    """The variable after each step; rate and momentum may differ from step to step."""
    w = np.array(start, np.float64)
    v, path = np.zeros_like(w), []
    for t, gradient in enumerate(gradients, start=1):
        d, mu, lr = np.array(gradient, np.float64), _at(momentum, t), _at(rate, t)
        if w.ndim >= 2:
            size, slope = np.linalg.norm(w.ravel()), np.linalg.norm(d.ravel())
            d = d + decay * w
            if size > 0 and slope > 0:
                d = d * trust * size / (slope + decay * size)
        v = mu * v - lr * d
        w = w + (mu * v - lr * d if nesterov else v)
        path.append(w)
    return path


def _at(value: float | Sequence[float], step: int) -> float:
    return value if isinstance(value, float) else value[step - 1]
