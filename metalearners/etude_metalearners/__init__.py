"""The meta-learners: each learns one part of a recipe by its own method."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping

from etude.errors import EtudeError
from etude_metalearners._base import STUDY_SHARE, MetaLearner, Planned, isolated
from etude_metalearners.augmentation import Augmentation
from etude_metalearners.batch_size import BatchSize
from etude_metalearners.compute import Compute
from etude_metalearners.descent import Descent
from etude_metalearners.learning_rate import LearningRate
from etude_metalearners.length import Length
from etude_metalearners.optimizer import Optimizer
from etude_metalearners.order import in_order
from etude_metalearners.sampling import Sampling
from etude_metalearners.unlabeled import Unlabeled

META_LEARNERS: Mapping[str, type[MetaLearner]] = types.MappingProxyType(
    {
        cls.name: cls
        for cls in (
            Augmentation,
            BatchSize,
            Compute,
            Descent,
            LearningRate,
            Length,
            Optimizer,
            Sampling,
            Unlabeled,
        )
    }
)
"""Those of every run, by their names."""


def learners(own: Iterable[MetaLearner] = ()) -> list[MetaLearner]:
    """One of each, in the order in which they study.

    Args:
        own: Some that take the place of those of their name.

    Raises:
        EtudeError: One of them is no meta-learner, or two have one name.
    """
    found: dict[str, MetaLearner] = {name: cls() for name, cls in META_LEARNERS.items()}
    names = set[str]()
    for learner in own:
        if not isinstance(learner, MetaLearner) or learner.name in names:
            raise EtudeError(
                "The meta-learners are not usable.",
                required="instances of `etude.metalearners`, one of a kind",
                received=repr(learner),
                advice='write for example `learners=[etude.metalearners.Augmentation("pixels")]`',
            )
        names.add(learner.name)
        found[learner.name] = learner
    return in_order(list(found.values()))


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
    "Sampling",
    "Unlabeled",
    "isolated",
    "learners",
]
