"""What choosing samples did in a run: τ and the gate, scores at its end, and whom it drew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from etude.data.thumbnails import jpeg
from etude.findings import Cost, Finding
from etude.sampling import probabilities
from etude.sampling.strategies import Presampled
from etude.training.values import host

if TYPE_CHECKING:
    from etude.training.studio import Studio

NAME = "sampled"
"""What the finding is called; no meta-learner has this name."""

SCORED = 512
"""Training samples that are scored at the end of a run, at most."""

SHOWN, BINS = 12, 30
"""Images in a row of those that were drawn most and least, and bins of scores."""


def finding(
    studio: Studio, history: Mapping[str, Sequence[float]], promised: float | None
) -> Finding | None:
    """What came of it, as a finding that changes nothing; `None` where samples were not chosen.

    Args:
        studio: After the run.
        history: Of the run.
        promised: The speed-up that the study predicted, if there was one.
    """
    selector = studio.trainer.selector
    taus = [float(tau) for tau in history.get("tau", ())]
    if selector is None or not taus:
        return None
    start = studio.budget.clock()
    opened = [float(share) for share in history["sampling"]]
    presample, forward = selector.presample, float(host(selector.forward))
    told: dict[str, Any] = {
        "strategy": selector.settings.strategy,
        "epochs": list(history["epoch"]),
        "taus": taus,
        "open": opened,
        "scores": _histogram(studio),
    }
    speed_up = None
    if isinstance(selector.strategy, Presampled) and selector.strategy.gated:
        threshold = float(host(selector.threshold))
        fixed, noise = selector.settings.fixed, selector.noise
        worth = [selector.strategy.worth(tau, presample, forward, fixed, noise) for tau in taus]
        speed_up = probabilities.over_a_run(
            [
                steps / cost if tau > threshold else 1.0
                for tau, (steps, cost) in zip(taus, worth, strict=True)
            ]
        )
        told |= {
            "presample": presample,
            "forward": forward,
            "threshold": threshold,
            "promised": promised,
            "speed_up": speed_up,
        }
    drawn = None if selector.drawn is None else host(selector.drawn)
    if drawn is not None and drawn.sum() > 0:
        told |= _most_and_least(studio, drawn)
    return Finding(
        learner=NAME,
        reads=(),
        writes="sampling",
        changes={},
        why=_why(float(np.mean(opened)), taus[-1], promised, speed_up),
        evidence=told,
        predicted=Cost(),
        true=Cost(studio.budget.clock() - start),
        key="",
    )


def _why(share: float, last: float, promised: float | None, speed_up: float | None) -> str:
    told = f"Samples were chosen in {100 * share:.0f} % of the steps, and τ ended at {last:.2f}"
    if speed_up is None:
        return f"{told}."
    worth = f"by what τ was on the way a step was worth {speed_up:.2f} uniform ones of its cost"
    if promised is None:
        return f"{told}; {worth}."
    return f"{told}; {worth}, where the study had predicted {promised:.2f}."


def _histogram(studio: Studio) -> dict[str, Any]:
    """How many training samples have which score at the end, over bins of equal ratio."""
    size = studio.problem.train.size
    count = min(SCORED, size or SCORED)
    batch = next(iter(studio.problem.train.shuffled(count, seed=studio.seed)))
    scores = studio.trainer.scores(batch, studio.evaluation_batch).astype(np.float64)
    scores = scores[np.isfinite(scores)]
    if not len(scores) or scores.max() <= 0.0:
        return {}
    # Of scores that are almost 0 nothing is to be told but that.
    least = max(scores.min(), 1e-4 * scores.max())
    edges = np.geomspace(least, max(scores.max(), least * (1 + 1e-6)), BINS + 1)
    found, _ = np.histogram(np.clip(scores, least, None), edges)
    return {"edges": edges.tolist(), "counts": found.tolist()}


def _most_and_least(studio: Studio, drawn: npt.NDArray[Any]) -> dict[str, Any]:
    """How often samples were drawn, and those drawn most and least."""
    # Of as many draws, some at random: in their order they would all be of one part of the set.
    chance = np.random.default_rng(studio.seed).random(len(drawn))
    order = np.lexsort((chance, drawn))
    count = min(SHOWN, len(drawn) // 2)
    rows = [order[::-1][:count], order[:count]]
    values, times = np.unique(drawn.astype(np.int64), return_counts=True)
    found: dict[str, Any] = {
        "draws": {"times": values.tolist(), "samples": times.tolist()},
        "most": [int(n) for n in drawn[rows[0]]],
        "least": [int(n) for n in drawn[rows[1]]],
    }
    resident = studio.train.resident
    if resident is not None and count:
        images = np.stack([np.asarray(resident.gather(row)[0]) for row in rows])
        found["pictures"] = jpeg(images, studio.problem.value_range)
    return found
