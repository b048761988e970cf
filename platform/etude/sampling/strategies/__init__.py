"""Strategies of importance sampling, by their names."""

from __future__ import annotations

import types
from collections.abc import Mapping

from etude.sampling.strategies._base import (
    LEAST,
    Numbers,
    Presampled,
    Remembering,
    Score,
    Selecting,
    Tables,
)
from etude.sampling.strategies.bandit import Bandit
from etude.sampling.strategies.best_count import BestCount
from etude.sampling.strategies.biased import Biased
from etude.sampling.strategies.class_bandit import ClassBandit
from etude.sampling.strategies.constant_time import ConstantTime
from etude.sampling.strategies.constant_variance import ConstantVariance
from etude.sampling.strategies.fast_selection import FastBound, FastSelection
from etude.sampling.strategies.forgetting import Forgetting
from etude.sampling.strategies.greedy import Greedy
from etude.sampling.strategies.loss import Loss
from etude.sampling.strategies.loss_momentum import LossMomentum
from etude.sampling.strategies.online_batch import OnlineBatch
from etude.sampling.strategies.prioritized import Prioritized
from etude.sampling.strategies.selective_backprop import SelectiveBackprop
from etude.sampling.strategies.upper_bound import UpperBound

UNIFORM = "uniform"
"""The name of no strategy at all."""

PRESAMPLED: Mapping[str, type[Presampled]] = types.MappingProxyType(
    {
        strategy.name: strategy
        for strategy in (
            UpperBound,
            Loss,
            Biased,
            ConstantVariance,
            ConstantTime,
            BestCount,
            FastSelection,
            FastBound,
            SelectiveBackprop,
            Greedy,
        )
    }
)
"""Those that draw from a larger batch, all of which was just scored."""

REMEMBERING: Mapping[str, type[Remembering]] = types.MappingProxyType(
    {
        strategy.name: strategy
        for strategy in (
            OnlineBatch,
            Prioritized,
            LossMomentum,
            Bandit,
            ClassBandit,
            Forgetting,
        )
    }
)
"""Those that draw from the whole set by what they remember of each sample."""

STRATEGIES: Mapping[str, type[Presampled] | type[Remembering]] = types.MappingProxyType(
    {**PRESAMPLED, **REMEMBERING}
)
"""All strategies but the uniform one."""


__all__ = [
    "LEAST",
    "PRESAMPLED",
    "REMEMBERING",
    "STRATEGIES",
    "UNIFORM",
    "Numbers",
    "Presampled",
    "Remembering",
    "Score",
    "Selecting",
    "Tables",
]
