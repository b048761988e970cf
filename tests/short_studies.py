"""Studies of a few steps, so that a test can run all of them."""

from __future__ import annotations

import pytest

from etude import _preparation
from etude_metalearners import META_LEARNERS, batch_size, descent, optimizer


def shorten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets studies be short, and take as long as the run that they are for."""
    monkeypatch.setattr(_preparation, "STUDY_SHARE", 1.0)
    for kind in META_LEARNERS.values():
        monkeypatch.setattr(kind, "gain", 1.0)
    monkeypatch.setattr(optimizer.Optimizer, "share", 0.6)
    monkeypatch.setattr(batch_size, "ROUNDS", 3)
    monkeypatch.setattr(batch_size, "WARM", 4)
    # The range test of the race reads nothing from less than 20 steps.
    monkeypatch.setattr(optimizer, "TEST_STEPS", 24)
    for study in (optimizer, descent):
        monkeypatch.setattr(study, "LEAST_STEPS", 12)
        monkeypatch.setattr(study, "MOST_STEPS", 12)
