"""Self-supervised objectives, one file each."""

from __future__ import annotations

import types
from collections.abc import Mapping

from etude.ssl.objectives._base import Head, Objective, State
from etude.ssl.objectives.barlow_twins import BarlowTwins
from etude.ssl.objectives.byol import BYOL
from etude.ssl.objectives.dino import DINO
from etude.ssl.objectives.moco import MoCo
from etude.ssl.objectives.simclr import SimCLR
from etude.ssl.objectives.simsiam import SimSiam
from etude.ssl.objectives.vicreg import VICReg

OBJECTIVES: Mapping[str, type[Objective]] = types.MappingProxyType(
    {cls.name: cls for cls in (SimCLR, SimSiam, BYOL, MoCo, BarlowTwins, DINO, VICReg)}
)
"""All of them by their names."""

__all__ = [
    "BYOL",
    "DINO",
    "OBJECTIVES",
    "BarlowTwins",
    "Head",
    "MoCo",
    "Objective",
    "SimCLR",
    "SimSiam",
    "State",
    "VICReg",
]
