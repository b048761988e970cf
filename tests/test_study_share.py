"""All studies together keep to their share of a run, and cost about what they said."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

import etude
from etude_metalearners import META_LEARNERS, STUDY_SHARE

from .machine import Machine

CLASSES = 3
# By how much a study may miss what it predicted, either way. A trial that diverges ends early; the
# start of a fit and small batches of an evaluation take longer than steps and whole evaluations
# say.
FACTOR = 2.5
# A descent or a search that finds nothing ends earlier still, and needs no second heat.
EARLY = {"descent": 4.0, "augmentation": 4.0}


def points(count: int, seed: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Images of 2 × 2 pixels, whose class is told by one of them, noisily."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, CLASSES, count)
    x = rng.normal(size=(count, 2, 2, 1)).astype("float32")
    x[:, 0, 0, 0] += y
    return x, y


def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input((2, 2, 1)),
            layers.Flatten(),
            layers.Dense(8),
            layers.BatchNormalization(),
            layers.Dense(CLASSES),
        ]
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("budget", "begun"),
    [
        (20.0, {"learning_rate", "length"}),
        (60.0, {"batch_size", "learning_rate", "augmentation", "length"}),
        (600.0, set(META_LEARNERS) - {"unlabeled"}),  # there are none
    ],
)
def test_studies_keep_to_their_share_and_to_their_word(
    budget: float, begun: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine()
    machine.install(monkeypatch)
    tuning = etude.tune(
        network(), points(2000, 0), points(400, 1), time_budget=budget, clock=machine, verbose=0
    )
    assert {finding.learner for finding in tuning.findings if finding.evidence} == begun
    taken = {row["part"]: row["true"] for row in tuning.costs if row["part"].startswith("study: ")}
    again = sum(row["true"] for row in tuning.costs if row["part"] == "measuring again")
    before = sum(row["true"] for row in tuning.costs if row["part"] in ("inspection", "measuring"))
    # The ledger leaves nothing out.
    assert before + sum(taken.values()) + again == pytest.approx(machine.now, abs=1e-6)
    # A run that augments needs the compiled step in any case; that comes beyond the share.
    searched = next(f for f in tuning.findings if f.learner == "augmentation")
    compiling = searched.evidence["plan"]["compiling"] if searched.evidence else 0.0
    assert compiling < 8.0
    assert 0.0 < sum(taken.values()) + again - compiling <= STUDY_SHARE * budget
    for finding in tuning.findings:
        predicted, true = finding.predicted.seconds, finding.true.seconds
        if finding.learner in begun - {"length"}:
            early = EARLY.get(finding.learner, FACTOR)
            assert predicted / early <= true <= predicted * FACTOR, finding.learner
        else:
            assert predicted == true == 0.0, finding.learner
