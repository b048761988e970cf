"""Groups of distances, and the policies that configurations stand for."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from etude.augment.policy import Mixing, Policy, randaugment, standard_cifar, trivialaugment
from etude_metalearners import candidates
from etude_metalearners.distances import Ladders

MAGNITUDES = (0.0, 10.0, 50.0, 100.0)


def ladders() -> Ladders:
    """Distances of three orders of magnitude; that of `hue` comes back."""
    distances = {
        "rotation": (0.0, 0.1, 80.0, 100.0),
        "brightness_up": (0.0, 1e-4, 0.1, 80.0),
        "hue": (0.0, 0.1, 80.0, 0.1),
        "invert": (0.0, 100.0, 100.0, 100.0),
        "shear_x": (0.0, 0.0, 0.1, 0.2),
        "mirror_horizontal": (0.0, 1.0, 1.0, 1.0),
    }
    values = np.array(list(distances.values()))
    return Ladders(tuple(distances), MAGNITUDES, values, np.zeros((6, 4, 2, 2, 3), np.float32))


def grouped() -> list[candidates.Group]:
    return candidates.grouped(ladders(), 3)


def test_rungs_of_like_distances_are_one_group_whatever_their_magnitudes() -> None:
    inside = {(g.cluster, g.index): sorted(g.members) for g in grouped()}
    assert inside == {
        ("rotation", 0): [("rotation", 10.0)],
        ("rotation", 1): [("rotation", 50.0)],
        ("rotation", 2): [("rotation", 100.0)],
        ("colour", 0): [("brightness_up", 10.0)],
        ("colour", 1): [("brightness_up", 50.0), ("hue", 10.0), ("hue", 100.0)],
        ("colour", 2): [
            ("brightness_up", 100.0),
            ("hue", 50.0),
            ("invert", 10.0),
            ("invert", 50.0),
            ("invert", 100.0),
        ],
        ("geometry", 0): [("shear_x", 50.0)],  # 10 changes nothing
        ("geometry", 1): [("shear_x", 100.0)],
    }
    colours = [g.farthest for g in grouped() if g.cluster == "colour"]
    assert colours == [1e-4, 0.1, 100.0]


def test_what_rounding_moves_belongs_to_no_group() -> None:
    """Hue and saturation of grey images of three channels."""
    known = ladders()
    names = (*known.names, "saturation_up")
    values = np.vstack([known.distances, [0.0, 3e-13, 1e-12, 2e-12]])
    shown = np.zeros((len(names), 4, 2, 2, 3), np.float32)
    found = candidates.grouped(Ladders(names, MAGNITUDES, values, shown), 3)
    assert found == grouped()


def test_a_slot_goes_as_far_as_its_group_and_no_further() -> None:
    groups = {(g.cluster, g.index): g for g in grouped()}
    slot = candidates.slot_of(groups["colour", 1], ladders())
    assert slot is not None
    # The rung at which hue has come back lies beyond one that goes too far.
    assert {c.transform: (c.low, c.high) for c in slot.choices} == {
        "brightness_up": (0.0, 50.0),
        "hue": (0.0, 10.0),
    }
    near = dataclasses.replace(groups["rotation", 0], farthest=0.01)
    assert candidates.slot_of(near, ladders()) is None


FREE = (
    "augmentation.policy",
    "regularization.label_smoothing",
    "regularization.dropout",
    "optimization.weight_decay",
)


def stages(**given: Any) -> list[candidates.Stage]:
    options = {"soft": True, "decay": 0.01, "dropout": True, "free": FREE, **given}
    return candidates.stages(grouped(), ladders(), **options)


def test_stages_are_in_the_order_in_which_they_are_searched() -> None:
    assert [stage.name for stage in stages()] == [
        "mirror",
        "known",
        "moved",
        "geometry",
        "rotation",
        "colour",
        "turns",
        "mixing",
        "label smoothing",
        "weight decay",
        "dropout",
    ]


def test_what_cannot_be_or_is_given_is_no_stage() -> None:
    hard = {stage.name for stage in stages(soft=False, decay=0.0, dropout=False)}
    assert not hard & {"mixing", "label smoothing", "weight decay", "dropout"}
    kept = [stage.name for stage in stages(free=("regularization.dropout",))]
    assert kept == ["dropout"]


def test_what_an_expert_would_begin_with_is_first() -> None:
    made = stages()
    config, other = candidates.first(made)
    assert candidates.told(config, made) == "mirrored, moved"
    assert candidates.told(other, made) == "TrivialAugment"
    policy = candidates.changes(config, made)["augmentation.policy"]
    assert policy.slots == standard_cifar().slots
    assert candidates.first(stages(free=("regularization.dropout",))) == []


def test_a_configuration_is_a_policy_and_values() -> None:
    made = stages()
    changes = candidates.changes((1, 0, 0, 0, 0, 1, 0, 2, 1, 2, 1), made)
    policy = changes.pop("augmentation.policy")
    assert [slot.name for slot in policy.slots] == ["mirror", "colour"]
    assert policy.mixing == Mixing(mixup=0.5)
    assert changes == {
        "regularization.label_smoothing": candidates.SMOOTHING,
        "optimization.weight_decay": pytest.approx(0.01 / candidates.DECAY),
        "regularization.dropout": candidates.DROPOUT,
    }
    assert candidates.changes((0,) * 11, made) == {"augmentation.policy": Policy()}
    assert Policy.from_yaml(policy.to_yaml()) == policy


def test_a_known_policy_is_all_of_its_slots_beside_the_others() -> None:
    made = stages()
    at = [stage.name for stage in made].index("known")
    for option, known in enumerate((trivialaugment(), randaugment()), start=1):
        config = tuple(option if k == at else int(k == 0) for k in range(len(made)))
        policy = candidates.changes(config, made)["augmentation.policy"]
        assert policy.slots[0].name == "mirror"
        assert policy.slots[1:] == known.slots
