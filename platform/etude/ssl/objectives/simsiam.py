"""SimSiam: say what the other view's embedding is, which stands still meanwhile."""

from __future__ import annotations

from typing import Any

from etude.ssl.objectives._base import Head, Objective, State, cosine


class SimSiam(Objective):
    """The negative cosine of a prediction and an embedding without gradient.

    Chen & He 2021, equation 1.
    """

    name = "simsiam"
    target = "stopped"
    projector = Head((512, 512, 512), normalized=True)
    predictor = Head((128, 512))

    def losses(self, asked: Any, target: Any, state: State) -> Any:
        """As `Objective.losses`."""
        return -cosine(asked, target)
