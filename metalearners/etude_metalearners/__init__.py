"""The meta-learners: each learns one part of a recipe by its own method."""

from __future__ import annotations

import types
from collections.abc import Mapping

from etude_metalearners._base import STUDY_SHARE, MetaLearner, Planned, isolated
from etude_metalearners.augmentation import Augmentation
from etude_metalearners.batch_size import BatchSize
from etude_metalearners.compute import Compute
from etude_metalearners.descent import Descent
from etude_metalearners.learning_rate import LearningRate
from etude_metalearners.length import Length
from etude_metalearners.optimizer import Optimizer
from etude_metalearners.order import in_order

META_LEARNERS: Mapping[str, type[MetaLearner]] = types.MappingProxyType(
    {
        cls.name: cls
        for cls in (Augmentation, BatchSize, Compute, Descent, LearningRate, Length, Optimizer)
    }
)


def learners() -> list[MetaLearner]:
    """One of each, in the order in which they study."""
    return in_order([cls() for cls in META_LEARNERS.values()])


__all__ = [
    "META_LEARNERS",
    "STUDY_SHARE",
    "Augmentation",
    "BatchSize",
    "Compute",
    "Descent",
    "LearningRate",
    "Length",
    "MetaLearner",
    "Optimizer",
    "Planned",
    "isolated",
    "learners",
]
