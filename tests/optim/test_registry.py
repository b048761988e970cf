"""Optimizers by name."""

from __future__ import annotations

import keras
import pytest

from etude.errors import ModelError, RecipeError
from etude.optim import _registry
from etude.optim.lamb import LAMB
from etude.optim.lars import LARS
from etude.recipe import Optimization


@pytest.mark.parametrize("name", sorted(_registry.OPTIMIZERS))
def test_every_name_builds_with_its_numbers(name: str) -> None:
    made = _registry.build(Optimization(name, learning_rate=0.25, momentum=0.75, weight_decay=0.01))
    row = _registry.OPTIMIZERS[name]
    assert type(made) is row.factory
    assert float(made.learning_rate) == 0.25
    assert made.weight_decay == 0.01
    assert row.momentum is not None
    assert getattr(made, row.momentum) == 0.75


def test_numbers_left_out_are_the_optimizers_own() -> None:
    made = _registry.build(Optimization("adam"))
    assert made.get_config() == keras.optimizers.Adam().get_config() | {"name": made.name}


def test_compiled_is_the_users_own_instance() -> None:
    own = keras.optimizers.SGD(0.5, momentum=0.9)
    assert _registry.build(Optimization("compiled"), own) is own
    assert float(
        _registry.build(Optimization("compiled", learning_rate=0.1), own).learning_rate
    ) == (pytest.approx(0.1))
    with pytest.raises(ModelError, match="not compiled"):
        _registry.build(Optimization("compiled"))


def test_unknown_names_are_refused() -> None:
    with pytest.raises(RecipeError, match="'adamm' is not known"):
        _registry.build(Optimization("adamm"))


def test_a_schedule_of_its_own_is_seen() -> None:
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 100)
    assert not _registry.has_free_rate(keras.optimizers.SGD(schedule))
    assert _registry.has_free_rate(keras.optimizers.SGD(0.1))


class OwnSGD(keras.optimizers.SGD):  # type: ignore[misc, unused-ignore]
    """A user's kind of SGD."""


class OwnLARS(LARS):
    """A user's kind of LARS, which is a kind of SGD to Keras."""


@pytest.mark.parametrize(
    ("make", "adaptive", "momentum"),
    [
        (LAMB, True, "beta_1"),
        (LARS, True, "momentum"),
        (OwnLARS, True, "momentum"),
        (keras.optimizers.SGD, False, "momentum"),
        (OwnSGD, False, "momentum"),
        (keras.optimizers.AdamW, True, "beta_1"),
        (keras.optimizers.RMSprop, True, "momentum"),
        (keras.optimizers.Adagrad, True, None),
    ],
)
def test_what_is_known_of_an_optimizer(make: type, adaptive: bool, momentum: str | None) -> None:
    for optimizer in (make(), keras.optimizers.LossScaleOptimizer(make())):
        assert _registry.is_adaptive(optimizer) is adaptive
        assert _registry.momentum_attribute(optimizer) == momentum


@pytest.mark.parametrize(("make", "name"), [(LAMB, "beta_1"), (LARS, "momentum")])
def test_a_compiled_one_takes_the_recipes_numbers(make: type, name: str) -> None:
    settings = Optimization("compiled", learning_rate=0.25, momentum=0.75, weight_decay=0.01)
    own = _registry.build(settings, keras.optimizers.LossScaleOptimizer(make())).inner_optimizer
    assert float(own.learning_rate) == 0.25
    assert (getattr(own, name), own.weight_decay) == (0.75, 0.01)


def test_the_recipe_names_them_all() -> None:
    assert [
        name for name in _registry.OPTIMIZERS if f'"{name}"' not in str(Optimization.__doc__)
    ] == []
