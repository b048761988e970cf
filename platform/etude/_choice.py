"""What images without labels are for: which trials it takes to say, and what these say.

Numbers go in and decisions come out; what trains is `_trials`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from etude_metalearners import pairs

Floats = npt.NDArray[np.float64]

NONE, PRETRAINED, STUDENT = "none", "pretrained", "noisy_student"
BOTH = "pretrained_noisy_student"
WORDS = {
    NONE: "labelled images alone",
    PRETRAINED: "pre-training",
    STUDENT: "a noisy student",
    BOTH: "a noisy student after pre-training",
}
"""What the arms are called in sentences."""

# Which arm in which order of samples.
Key = tuple[str, int]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a trial.

    Attributes:
        arm: What was tried.
        order: In which order of samples.
        losses: Of each held-out sample, `(samples,)`.
        score: The task's monitor on all of them.
        seconds: That it took.
        steps: Of training, those of pre-training among them.
    """

    arm: str
    order: int
    losses: tuple[float, ...]
    score: float
    seconds: float
    steps: int

    @property
    def key(self) -> Key:
        """Which arm in which order."""
        return self.arm, self.order

    @property
    def loss(self) -> float:
        """The mean of the losses."""
        return float(np.mean(self.losses))


Outcomes = Mapping[Key, Outcome]


def pretrains(arm: str) -> bool:
    """Whether pre-training is a part of an arm."""
    return arm in (PRETRAINED, BOTH)


def teaches(arm: str) -> bool:
    """Whether a student is a part of an arm."""
    return arm in (STUDENT, BOTH)


def with_student(arm: str) -> str:
    """The arm whose teacher is that of another."""
    return BOTH if arm == PRETRAINED else STUDENT


def against(done: Outcomes, arm: str, other: str, order: int = 0) -> pairs.Difference | None:
    """How losses of single samples differ; below 0 where the first arm is better.

    `None` where one of them was not tried.
    """
    if (arm, order) not in done or (other, order) not in done:
        return None
    one, two = (np.asarray(done[name, order].losses) for name in (arm, other))
    return pairs.difference(one, two)


def rival(done: Outcomes, arm: str) -> str:
    """What an arm is held against: a student against the better of its teachers."""
    return _better_start(done) if teaches(arm) else NONE


def favourite(done: Outcomes) -> str:
    """The arm that is better beyond doubt in the first order of samples; ties stay off."""
    start = _better_start(done)
    student = with_student(start)
    found = against(done, student, start)
    return student if found is not None and found.better else start


def _better_start(done: Outcomes) -> str:
    found = against(done, PRETRAINED, NONE)
    return PRETRAINED if found is not None and found.better else NONE


def confirmed(done: Outcomes) -> bool:
    """Whether the favourite is better than nothing in another order of samples, too."""
    found = against(done, favourite(done), NONE, 1)
    return found is not None and found.mean < -found.error


def pick(done: Outcomes) -> str:
    """The arm that is adopted."""
    return favourite(done) if confirmed(done) else NONE


def following(done: Outcomes, possible: Collection[str]) -> Key | None:
    """The trial that the decision waits for; `None` where it waits for none.

    Args:
        done: All so far.
        possible: What may be tried of pre-training and a student.
    """
    if not possible:
        return None
    wanted: list[Key] = [(NONE, 0)]
    if PRETRAINED in possible:
        wanted.append((PRETRAINED, 0))
    # Which one a student is tried on is not known before those were.
    if STUDENT in possible and all(key in done for key in wanted):
        wanted.append((with_student(_better_start(done)), 0))
    best = favourite(done)
    if best != NONE and all(key in done for key in wanted):
        wanted += [(NONE, 1), (best, 1)]
    return next((key for key in wanted if key not in done), None)


def most(possible: Collection[str]) -> float:
    """How many whole trials the decision may take: one of each, and two of the favourite's."""
    return 1.0 + len(possible) + 2.0


def evidence(done: Outcomes, left_out: Mapping[str, str]) -> dict[str, Any]:
    """All trials, for a finding.

    Args:
        done: What came of them.
        left_out: Why an arm was not tried, or not to its end.
    """
    rows = []
    for outcome in done.values():
        row: dict[str, Any] = {
            "arm": outcome.arm, "order": outcome.order, "loss": outcome.loss,
            "score": outcome.score, "seconds": outcome.seconds, "steps": outcome.steps,
        }  # fmt: skip
        if outcome.arm != NONE:
            other = NONE if outcome.order else rival(done, outcome.arm)
            found = against(done, outcome.arm, other, outcome.order)
            if found is not None:
                row |= {"against": other, "difference": found.mean, "error": found.error,
                        "bound": found.bound}  # fmt: skip
        rows.append(row)
    return {"arms": rows, "left_out": dict(left_out), "pick": pick(done)}


def why(done: Outcomes, left_out: Mapping[str, str]) -> str:
    """What was found, in words."""
    best = favourite(done)
    if best == NONE:
        tried = [
            f"{WORDS[arm]} differs by {_errors(found):+.1f} standard errors"
            for arm in (PRETRAINED, STUDENT, BOTH)
            if (found := against(done, arm, rival(done, arm))) is not None
        ]
        told = "At equal time nothing makes the loss of held-out samples lower beyond doubt"
        told = f"{told}: {', '.join(tried)}." if tried else "There is nothing to compare."
        return " ".join([told, *_told(left_out)])
    first = against(done, best, rival(done, best))
    assert first is not None
    beside = WORDS[rival(done, best)]
    told = (
        f"At equal time the loss of held-out samples is lower by {-_errors(first):.1f} standard "
        f"errors with {WORDS[best]} than with {beside}"
    )
    if confirmed(done):
        told += ", and lower again than with labelled images alone in another order of samples."
    else:
        told += ", but this is not confirmed in another order of samples."
    return " ".join([told, *_told(left_out)])


def _errors(found: pairs.Difference) -> float:
    return found.mean / max(found.error, 1e-12)


def _told(left_out: Mapping[str, str]) -> list[str]:
    return [f"Not tried: {WORDS[arm]}, since {reason}." for arm, reason in left_out.items()]
