"""Groups of distances, and the policies that configurations stand for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from etude.augment.policy import Mixing, Policy
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
        "shear_x": (0.0, 0.0, 0.1, 0.1),
        "mirror_horizontal": (0.0, 1.0, 1.0, 1.0),
    }
    values = np.array(list(distances.values()))
    return Ladders(tuple(distances), MAGNITUDES, values, np.zeros((6, 4, 2, 2, 3), np.float32))


def grouped() -> list[candidates.Group]:
    return candidates.grouped(ladders(), 3)


def test_rungs_of_like_distances_are_one_group_whatever_their_magnitudes() -> None:
    inside = {(g.cluster, g.index): dict(g.members) for g in grouped() if g.members}
    assert inside == {
        ("rotation", 1): {"rotation": 10.0},
        ("rotation", 2): {"rotation": 100.0},  # and 50, of which a dictionary keeps the last
        ("colour", 0): {"brightness_up": 10.0},
        ("colour", 1): {"brightness_up": 50.0, "hue": 100.0},
        ("colour", 2): {"brightness_up": 100.0, "hue": 50.0, "invert": 100.0},
        ("geometry", 1): {"shear_x": 100.0},
    }
    assert {g.index: g.farthest for g in grouped()} == {0: 1e-4, 1: 0.1, 2: 100.0}


def test_a_slot_goes_as_far_as_its_group_and_no_further() -> None:
    groups = {(g.cluster, g.index): g for g in grouped()}
    slot = candidates.slot_of(groups["colour", 1], ladders())
    assert slot is not None
    # The rung at which hue has come back lies beyond one that goes too far.
    assert {c.transform: (c.low, c.high) for c in slot.choices} == {
        "brightness_up": (0.0, 50.0),
        "hue": (0.0, 10.0),
    }
    assert candidates.slot_of(groups["rotation", 0], ladders()) is None


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
        "quarter turns",
        "rotation",
        "colour",
        "geometry",
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


def test_strengths_of_the_ladder_are_tied() -> None:
    made = stages()
    told = [candidates.told(config, made) for config in candidates.ladder(made)]
    assert told == [
        "mirrored, colour 1",
        "mirrored, rotation 2, colour 2, geometry 2",
        "mirrored, rotation 3, colour 3, geometry 2",
    ]


def test_a_configuration_is_a_policy_and_values() -> None:
    made = stages()
    changes = candidates.changes((1, 0, 0, 1, 0, 2, 1, 2, 1), made)
    policy = changes.pop("augmentation.policy")
    assert [slot.name for slot in policy.slots] == ["mirror", "colour"]
    assert policy.mixing == Mixing(mixup=0.5)
    assert changes == {
        "regularization.label_smoothing": candidates.SMOOTHING,
        "optimization.weight_decay": pytest.approx(0.01 / candidates.DECAY),
        "regularization.dropout": candidates.DROPOUT,
    }
    assert candidates.changes((0,) * 9, made) == {"augmentation.policy": Policy()}
    assert Policy.from_yaml(policy.to_yaml()) == policy
