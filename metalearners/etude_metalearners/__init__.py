"""The meta-learners: each learns one part of a recipe by its own method."""

from __future__ import annotations

import types
from collections.abc import Mapping

from etude_metalearners._base import MetaLearner, isolated
from etude_metalearners.learning_rate import LearningRate

META_LEARNERS: Mapping[str, type[MetaLearner]] = types.MappingProxyType(
    {cls.name: cls for cls in (LearningRate,)}
)

__all__ = ["META_LEARNERS", "LearningRate", "MetaLearner", "isolated"]
