"""Policies as data."""

import dataclasses

import numpy as np
import pytest

from etude.augment import policy
from etude.augment.policy import Choice, Mixing, Policy, Slot
from etude.errors import RecipeError

WHOLE = Policy(
    slots=(
        Slot((Choice("rotation", 0.1, 1 / 3), Choice("identity", 0.0, 0.0, 0.7)), 0.3, 2, "turns"),
        Slot((Choice("hue", 5.0, 5.0),)),
    ),
    fill="grey",
    alternating_flip=True,
    mixing=Mixing(mixup=0.1, cutmix=1 / 7, alpha=0.2),
)


@pytest.mark.parametrize("given", [WHOLE, *(make() for make in policy.POLICIES.values())])
def test_yaml_out_and_in_to_the_bit(given):
    assert Policy.from_yaml(given.to_yaml()) == given


@pytest.mark.parametrize(
    "text, named",
    [
        ("slots: 3", "no list"),
        ("slots: [{choices: [{transform: rotate, low: 0, high: 1}]}]", "did you mean 'rotation'"),
        ("slots: [{choices: [{transform: hue, low: 0}]}]", "high"),
        ("slots: [{choices: [{transform: hue, low: 0, high: 101}]}]", "100"),
        ("slots: [{choices: [{transform: hue, low: 0, high: .nan}]}]", "100"),
        ("slots: [{choices: []}]", "1 to 64 choices"),
        ("slots: [{choices: [{transform: hue, low: 0, high: a}]}]", "wrong type"),
        ("fill: wrap", "reflect or edge"),
        ("alternating_flip: 1", "wrong type"),
        ("mixing: {mixup: .6, cutmix: .6}", "at most 1"),
        ("mixing: {blend: .6}", "mixup, cutmix, alpha"),
        ("[1, 2]", "slots, fill"),
        ("slots: [", "not valid YAML"),
    ],
)
def test_bad_policies_say_what_is_wrong(text, named):
    with pytest.raises(RecipeError) as error:
        Policy.from_yaml(text)
    assert named in str(error.value)


def test_too_many_draws_are_refused():
    with pytest.raises(RecipeError, match="at most 12"):
        Policy((Slot((Choice("hue", 0.0, 1.0),), draws=7),) * 2)


def test_grey_images_have_no_hue():
    left = WHOLE.for_channels(1)
    assert left.slots == WHOLE.slots[:1] and left.fill == "grey"
    assert WHOLE.for_channels(3) == WHOLE
    kept = policy.randaugment().for_channels(1).slots[0].choices
    assert not {"saturation_up", "saturation_down"} & {c.transform for c in kept}


def test_randaugment_has_14_operations_of_equal_chance_and_its_ranges():
    slot = policy.randaugment(2, 15.0).slots[0]
    assert slot.draws == 2
    assert sum(choice.weight for choice in slot.choices) == pytest.approx(14.0)
    high = {choice.transform: choice.high for choice in slot.choices}
    assert high["rotation"] / 100.0 * 135.0 == pytest.approx(15.0)  # half of 30 degrees
    assert high["shear_x"] / 100.0 * 0.99 == pytest.approx(0.15)
    assert high["translation_y"] / 100.0 * 331.0 == pytest.approx(75.0)
    assert high["contrast_up"] / 100.0 * 0.99 == pytest.approx(0.45)
    assert high["posterize"] / 100.0 * 6.0 == pytest.approx(2.0)
    assert high["solarize"] == 50.0
    assert all(c.low == c.high for c in slot.choices)


def test_trivialaugment_draws_one_of_any_magnitude():
    slot = policy.trivialaugment().slots[0]
    assert slot.draws == 1 and slot.probability == 1.0
    ranges = {choice.transform: (choice.low, choice.high) for choice in slot.choices}
    assert ranges["rotation"] == ranges["shear_x"] == ranges["brightness_down"] == (0.0, 100.0)


def test_standard_cifar_moves_by_four_of_32_pixels():
    made = policy.standard_cifar()
    crop = made.slots[1].choices[0]
    assert np.round(32.0 * crop.high / 100.0) == 4.0 and made.fill == "black"
    names = [choice.transform for slot in made.slots for choice in slot.choices]
    assert names == ["mirror_horizontal", "translation_x", "translation_y"]


def test_a_policy_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        WHOLE.fill = "edge"  # type: ignore[misc]
