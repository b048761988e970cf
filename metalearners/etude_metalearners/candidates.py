"""What the search for an augmentation may try: stages, their options, and the policy they mean."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from etude.augment.names import FAMILIES
from etude.augment.policy import (
    Choice,
    Mixing,
    Policy,
    Slot,
    randaugment,
    standard_cifar,
    trivialaugment,
)
from etude_metalearners import frechet
from etude_metalearners.beam import Config
from etude_metalearners.distances import Ladders

Changes = Mapping[str, Any]
"""Values of a recipe by their paths."""

CLUSTERS: Mapping[str, tuple[str, ...]] = {
    "geometry": (
        "shear_x", "shear_y", "translation_x", "translation_y", "zoom_in", "zoom_out",
        "random_resized_crop", "perspective", "elastic",
    ),
    "rotation": ("rotation",),
    "colour": (*FAMILIES["colour"], *FAMILIES["tone"], *FAMILIES["filters"]),
    "erasing": FAMILIES["erasing"],
}  # fmt: skip
"""Transforms that are searched together, by the groups of their distances; in this order, as time
ends most searches before their end."""

ROUNDING = 1e-8
"""Squared distances below this share of a cluster's farthest are rounding's."""

SMOOTHING, DECAY, DROPOUT = 0.1, 4.0, 2.0
"""Label smoothing that is tried; factors by which weight decay and dropout are raised and cut."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """Options of which one is taken, or none.

    Attributes:
        name: What is decided.
        options: Their names, weakest first.
        parts: What each adds: slots, a mixing, or values of the recipe.
    """

    name: str
    options: tuple[str, ...]
    parts: tuple[tuple[Slot, ...] | Mixing | Changes, ...]


@dataclasses.dataclass(frozen=True)
class Group:
    """Transforms and magnitudes that take images about as far as one another.

    Attributes:
        cluster: The name of the cluster.
        index: From 0, the nearest, on.
        members: (transform, magnitude) pairs.
        farthest: The largest distance among them.
    """

    cluster: str
    index: int
    members: tuple[tuple[str, float], ...]
    farthest: float


def grouped(ladders: Ladders, count: int) -> list[Group]:
    """Cuts the rungs of every cluster into groups of like distances, nearest first.

    It is distances that are grouped, by their logarithms, whatever the magnitudes: where a ladder
    comes back, its rungs do too. A rung that changes nothing, or as little of the farthest as
    rounding does (hue, on grey images of three channels), belongs to no group. Each cluster has
    its own borders: pooled features move far with colours and hardly with geometry, and say little
    of how the one compares to the other.

    Args:
        ladders: Distances.
        count: Groups of a cluster, at most.
    """
    found = []
    for cluster, names in CLUSTERS.items():
        rungs = [
            (name, magnitude, float(ladders.distances[row, column]))
            for row, name in enumerate(ladders.names)
            for column, magnitude in enumerate(ladders.magnitudes)
            if name in names and magnitude > 0.0 and ladders.distances[row, column] > 0.0
        ]
        least = ROUNDING * max((distance for *_, distance in rungs), default=0.0)
        rungs = [rung for rung in rungs if rung[2] > least]
        if not rungs:
            continue
        labels = frechet.groups(np.log([distance for *_, distance in rungs]), count)
        for index in range(int(labels.max()) + 1):
            inside = [rung for rung, label in zip(rungs, labels, strict=True) if label == index]
            members = tuple((name, magnitude) for name, magnitude, _ in inside)
            found.append(Group(cluster, index, members, max(d for *_, d in inside)))
    return found


def slot_of(group: Group, ladders: Ladders) -> Slot | None:
    """A slot that draws any transform of a cluster as far as a group goes.

    Every transform has an even chance, and magnitudes from 0 up to its last rung before the first
    that goes too far.

    Returns:
        The slot; `None` where no transform stays within that distance.
    """
    choices = []
    for name in CLUSTERS[group.cluster]:
        if name not in ladders.names:
            continue
        distances = ladders.distances[ladders.names.index(name)]
        too_far = np.flatnonzero(distances > group.farthest)
        last = int(too_far[0]) - 1 if len(too_far) else len(distances) - 1
        if last > 0 and distances[last] > 0.0:
            choices.append(Choice(name, 0.0, ladders.magnitudes[last]))
    return Slot(tuple(choices), name=group.cluster) if choices else None


def stages(
    groups: Sequence[Group],
    ladders: Ladders,
    *,
    soft: bool,
    decay: float,
    dropout: bool,
    free: Iterable[str],
) -> list[Stage]:
    """The stages of a search, in their order.

    Args:
        groups: Of all clusters.
        ladders: Distances, from which the groups are.
        soft: Whether labels may be mixed and smoothed.
        decay: The weight decay that there is; 0 for none.
        dropout: Whether the model has dropout.
        free: Paths of the recipe's values that may be changed.
    """
    open_ = set(free)
    found: list[Stage] = []
    if "augmentation.policy" in open_:
        found += [_mirror(), _known(), _moved()]
        for cluster in CLUSTERS:
            slots = {g.index: slot_of(g, ladders) for g in groups if g.cluster == cluster}
            parts = {k: (slot,) for k, slot in slots.items() if slot and slot != slots.get(k - 1)}
            if parts:
                names = tuple(f"{cluster} {k + 1}" for k in parts)
                found.append(Stage(cluster, names, tuple(parts.values())))
        found.append(_turns())
        if soft:
            mixes = (Mixing(cutmix=0.5), Mixing(mixup=0.5))
            found.append(Stage("mixing", ("cutmix", "mixup"), mixes))
    if soft and "regularization.label_smoothing" in open_:
        smoothed = {"regularization.label_smoothing": SMOOTHING}
        found.append(Stage("label smoothing", (f"label smoothing {SMOOTHING:g}",), (smoothed,)))
    if decay and "optimization.weight_decay" in open_:
        factors = (DECAY, 1.0 / DECAY)
        values = tuple({"optimization.weight_decay": decay * factor} for factor in factors)
        found.append(Stage("weight decay", _scaled("weight decay", DECAY), values))
    if dropout and "regularization.dropout" in open_:
        factors = (DROPOUT, 1.0 / DROPOUT)
        values = tuple({"regularization.dropout": factor} for factor in factors)
        found.append(Stage("dropout", _scaled("dropout", DROPOUT), values))
    return found


USUAL = ("mirror", "moved")
"""Stages that are on in the first candidate: what an expert would begin with, if told nothing."""


def first(stages_: Sequence[Stage]) -> list[Config]:
    """What is tried first, each by itself: the usual, then a policy known to help.

    Where the usual is better than nothing, the other must be better than it beyond chance: short
    trials hardly tell them apart, and steps with the usual are faster.
    """
    found = [tuple(int(stage.name in names) for stage in stages_) for names in (USUAL, ("known",))]
    return [config for config in found if any(config)]


def changes(config: Config, stages_: Sequence[Stage]) -> dict[str, Any]:
    """What a configuration changes of a recipe, by paths.

    Args:
        config: An option for each stage, 0 for none.
        stages_: The stages.
    """
    slots: list[Slot] = []
    mixing, values = Mixing(), dict[str, Any]()
    for option, stage in zip(config, stages_, strict=True):
        if not option:
            continue
        part = stage.parts[option - 1]
        if isinstance(part, tuple):
            slots += part
        elif isinstance(part, Mixing):
            mixing = part
        else:
            values.update(part)
    return {"augmentation.policy": Policy(tuple(slots), mixing=mixing), **values}


def told(config: Config, stages_: Sequence[Stage]) -> str:
    """A configuration in words."""
    parts = [s.options[o - 1] for o, s in zip(config, stages_, strict=True) if o]
    return ", ".join(parts) or "off"


def _scaled(name: str, factor: float) -> tuple[str, str]:
    return f"{name} × {factor:g}", f"{name} / {factor:g}"


def _mirror() -> Stage:
    slot = Slot((Choice("mirror_horizontal", 50.0, 50.0),), name="mirror")
    return Stage("mirror", ("mirrored",), ((slot,),))


def _known() -> Stage:
    """Policies that do well on many sets, whatever else is drawn."""
    policies = {"TrivialAugment": trivialaugment(), "RandAugment": randaugment()}
    slots = tuple(policy.slots for policy in policies.values())
    return Stage("known", tuple(policies), slots)


def _moved() -> Stage:
    slots = tuple(slot for slot in standard_cifar().slots if slot.name == "crop")
    return Stage("moved", ("moved",), (slots,))


def _turns() -> Stage:
    # With a mirror quarter turns reach every one of the eight ways to lay an image.
    upside_down = Slot((Choice("mirror_vertical", 50.0, 50.0),), name="upside down")
    turned = Slot((Choice("quarter_turns", 75.0, 75.0),), name="quarter turns")
    return Stage("turns", ("upside down", "quarter turns"), ((upside_down,), (turned,)))
