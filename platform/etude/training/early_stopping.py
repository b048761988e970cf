"""Prechelt's criteria for stopping early (1998, *Early Stopping — But When?*).

All take the validation errors so far, positive numbers where lower is better, one per
evaluation, the latest last.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

STRIP = 5


def generalization_loss(errors: Sequence[float]) -> float:
    """GL: how far the latest error is above the best one, in percent."""
    best = min(errors)
    if best <= 0.0:
        return 0.0 if errors[-1] <= 0.0 else float("inf")
    return 100.0 * (errors[-1] / best - 1.0)


def training_progress(losses: Sequence[float], strip: int = STRIP) -> float:
    """P_k: how far the mean training loss of a strip is above its least, per mille."""
    latest = list(losses[-strip:])
    least = min(latest)
    if least <= 0.0:
        return float("inf")
    return 1000.0 * (sum(latest) / (len(latest) * least) - 1.0)


def stops_gl(errors: Sequence[float], losses: Sequence[float], threshold: float) -> bool:
    """GL_α: stop once the generalization loss exceeds α percent."""
    del losses
    return generalization_loss(errors) > threshold


def stops_pq(errors: Sequence[float], losses: Sequence[float], threshold: float) -> bool:
    """PQ_α: stop once generalization loss over training progress exceeds α.

    Asked at the end of a strip only.
    """
    if len(errors) % STRIP:
        return False
    loss = generalization_loss(errors)
    progress = training_progress(losses)
    return loss > threshold * progress


def stops_up(errors: Sequence[float], losses: Sequence[float], threshold: float) -> bool:
    """UP_s: stop once the error rose over s successive strips."""
    del losses
    ends = list(errors[STRIP - 1 :: STRIP])
    wanted = int(threshold)
    if len(errors) % STRIP or len(ends) <= wanted:
        return False
    latest = ends[-wanted - 1 :]
    return all(later > earlier for earlier, later in itertools.pairwise(latest))


CRITERIA = {"gl": stops_gl, "pq": stops_pq, "up": stops_up}
