"""Recipes: marks, what is fixed, and YAML to the bit."""

from __future__ import annotations

import dataclasses
import math
import random

import pytest
import yaml

from etude.augment.policy import POLICIES, Choice, Mixing, Policy, Slot
from etude.errors import RecipeError
from etude.recipe import Recipe


def test_what_is_given_is_never_changed() -> None:
    recipe = Recipe().give(optimization={"learning_rate": 0.1})
    changed = recipe.learn("x", optimization={"learning_rate": 0.2, "momentum": 0.5})
    assert changed.optimization.learning_rate == 0.1
    assert changed.optimization.momentum == 0.5
    assert str(changed.mark("optimization.learning_rate")) == "given"
    assert str(changed.mark("optimization.momentum")) == "learned by x"
    assert str(changed.mark("optimization.schedule")) == "default"
    assert recipe.optimization.momentum is None  # recipes are values


@pytest.mark.parametrize(
    "name", ["optimization", "optimization.learning_rate", "learning_rate", "optimizer"]
)
def test_keep_takes_groups_paths_and_names(name: str) -> None:
    kept = Recipe().keep({name})
    assert any(kept.is_given(path) for path in kept.values())
    for path in kept.values():
        want = name in (path, path.split(".")[0], path.split(".")[1])
        assert kept.is_given(path) == want
    assert Recipe().keep("learning_rate").is_given("optimization.learning_rate")


def test_keep_refuses_what_is_not_there() -> None:
    with pytest.raises(RecipeError, match="'lerning_rate'"):
        Recipe().keep({"lerning_rate"})


def test_yaml_gives_back_the_same_recipe_to_the_bit() -> None:
    rng = random.Random(0)
    for _ in range(200):
        recipe = Recipe().give(
            optimization={"learning_rate": 10 ** rng.uniform(-12, 2), "momentum": rng.random()},
            compute={"batch_size": rng.randrange(1, 10**6)},
        )
        recipe = recipe.learn("range test", regularization={"clip_norm": 10 ** rng.uniform(-9, 9)})
        back = Recipe.from_yaml(recipe.to_yaml())
        assert back == recipe
        assert back.marks == recipe.marks
        assert math.copysign(1, back.optimization.momentum or 1) == 1
    assert Recipe.from_yaml(Recipe().to_yaml()) == Recipe()


@pytest.mark.parametrize("name", POLICIES)
def test_a_known_policy_is_written_by_its_name(name: str) -> None:
    recipe = Recipe().give(augmentation={"policy": name})
    assert recipe.augmentation.policy == POLICIES[name]()
    assert f"policy: {name}\n" in recipe.to_yaml()
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe


def test_any_other_policy_is_written_out() -> None:
    slot = Slot((Choice("rotation", 1 / 3, 20.0, 0.1),), probability=0.7, draws=2, name="turns")
    policy = Policy((slot,), fill="edge", mixing=Mixing(cutmix=0.1))
    recipe = Recipe().give(augmentation={"policy": policy})
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe
    with pytest.raises(RecipeError, match="did you mean 'rotation'"):
        Recipe.from_yaml(recipe.to_yaml().replace("rotation", "rotate"))
    with pytest.raises(RecipeError, match="no such policy"):
        Recipe.from_yaml("augmentation: {policy: 3}")


def test_a_hand_written_part_counts_as_given() -> None:
    recipe = Recipe.from_yaml("optimization:\n  learning_rate: 1e-3\n  warmup_steps: 5\n")
    assert recipe.optimization.learning_rate == 0.001
    assert recipe.is_given("optimization.learning_rate")
    assert not recipe.is_given("compute.batch_size")
    assert Recipe.from_yaml("") == Recipe()


def test_every_value_has_a_plain_type() -> None:
    for path, value in Recipe().values().items():
        plain = value is None or isinstance(value, bool | int | float | str)
        assert plain or isinstance(value, Policy), path
    for group in Recipe.groups().values():
        assert dataclasses.is_dataclass(group)
    assert yaml.safe_load(Recipe().to_yaml())["compute"]["batch_size"] == 32


@pytest.mark.parametrize(
    "text",
    [
        "- a\n- b", "optimizer: adam", "optimization:\n  speed: 3", "etude_recipe: 99",
        "compute:\n  batch_size: 0", "compute:\n  batch_size: 1.5", "compute:\n  batch_size: many",
        "compute:\n  xla: 1", "optimization:\n  optimizer: 3", "optimization: [1",
        "optimization:\n  learning_rate: .nan", "optimization:\n  momentum: 1.5",
        "regularization:\n  early_stopping: soon", "marks:\n  compute.batch_size: guessed",
        "compute:\n  batch_size: null", "regularization:\n  label_smoothing: -0.1",
    ],
)  # fmt: skip
def test_what_is_no_recipe_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.from_yaml(text)
    for part in ("Required:", "Received:", "What to do:"):
        assert part in str(caught.value)


def test_yaml_cannot_make_objects() -> None:
    with pytest.raises(RecipeError, match="not valid YAML"):
        Recipe.from_yaml("compute: !!python/object/apply:os.system ['true']")
