"""BYOL: say what a slower copy of the network makes of the other view."""

from __future__ import annotations

from typing import Any

from etude.ssl.objectives._base import Head, Objective, State, cosine


class BYOL(Objective):
    """The squared distance of unit vectors, 2 - 2 cos (Grill et al. 2020, equation 2)."""

    name = "byol"
    target = "momentum"
    projector = Head((512, 128))
    predictor = Head((512, 128))

    def losses(self, asked: Any, target: Any, state: State) -> Any:
        """As `Objective.losses`."""
        return 2.0 - 2.0 * cosine(asked, target)
