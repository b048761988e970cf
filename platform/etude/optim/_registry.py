"""Optimizers by name: which Keras class a name stands for and what it calls momentum."""

from __future__ import annotations

import dataclasses
import inspect
import types
from collections.abc import Mapping
from typing import Any

import keras

from etude.errors import ModelError, RecipeError
from etude.optim.lamb import LAMB
from etude.optim.lars import LARS
from etude.recipe import Optimization


@dataclasses.dataclass(frozen=True)
class Row:
    """An optimizer's row in the registry.

    Attributes:
        factory: The class, a Keras optimizer.
        momentum: The attribute that holds its momentum, or `None`.
        adaptive: Whether the length of its step does not grow with the gradient.
        options: Arguments that the name implies.
        scale: How many times as large as those of its kind its rates are.
    """

    factory: type
    momentum: str | None
    adaptive: bool
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    scale: float = 1.0


OPTIMIZERS: Mapping[str, Row] = types.MappingProxyType(
    {
        "sgd": Row(keras.optimizers.SGD, "momentum", False),
        "nesterov": Row(
            keras.optimizers.SGD, "momentum", False, {"momentum": 0.9, "nesterov": True}
        ),
        "adam": Row(keras.optimizers.Adam, "beta_1", True),
        "adamw": Row(keras.optimizers.AdamW, "beta_1", True),
        "nadam": Row(keras.optimizers.Nadam, "beta_1", True),
        "lion": Row(keras.optimizers.Lion, "beta_1", True),
        "rmsprop": Row(keras.optimizers.RMSprop, "momentum", True),
        "lamb": Row(LAMB, "beta_1", True),
        # A kernel moves by rate · η / (1 - μ) of its norm, with η 1e-3 and μ 0.9.
        "lars": Row(LARS, "momentum", True, scale=100.0),
    }
)

COMPILED = "compiled"


def check_name(name: str) -> None:
    """Raises a `RecipeError` when no optimizer has this name."""
    if name != COMPILED and name not in OPTIMIZERS:
        raise RecipeError(
            f"The recipe's optimizer {name!r} is not known.",
            required=f"one of {[*OPTIMIZERS, COMPILED]}",
            received=repr(name),
            advice="mend the name, or compile the model with your optimizer and use 'compiled'",
        )


def build(settings: Optimization, compiled: Any | None = None) -> Any:
    """The optimizer of a recipe.

    Args:
        settings: The recipe's `optimization` group.
        compiled: The optimizer that the user's model was compiled with.

    Returns:
        A fresh Keras optimizer, or `compiled` itself where the recipe says `"compiled"`.

    Raises:
        RecipeError: No optimizer has this name, or it has no such setting.
        ModelError: The recipe says `"compiled"` and the model is not compiled.
    """
    check_name(settings.optimizer)
    if settings.optimizer == COMPILED:
        if compiled is None:
            raise ModelError(
                "The recipe asks for the optimizer that the model was compiled with.",
                required="a compiled model, or another optimizer in the recipe",
                received="a model that is not compiled",
                advice="call `model.compile(optimizer=...)` first, or set "
                "`optimization.optimizer` to a name such as 'adam'",
            )
        return _adjust(compiled, settings)
    row = OPTIMIZERS[settings.optimizer]
    options = dict(row.options)
    if settings.learning_rate is not None:
        options["learning_rate"] = settings.learning_rate
    if settings.weight_decay is not None:
        options["weight_decay"] = settings.weight_decay
    if settings.momentum is not None:
        if row.momentum is None:
            raise RecipeError(
                f"{settings.optimizer} has no momentum.",
                required="an optimizer with momentum, or momentum: null",
                received=f"momentum: {settings.momentum}",
                advice="drop the value",
            )
        options[row.momentum] = settings.momentum
    return row.factory(**options)


def _adjust(optimizer: Any, settings: Optimization) -> Any:
    """Sets on the user's own optimizer what the recipe states."""
    if settings.learning_rate is not None and has_free_rate(optimizer):
        optimizer.learning_rate = settings.learning_rate
    return with_numbers(optimizer, settings)


def with_numbers(optimizer: Any, settings: Optimization) -> Any:
    """The same optimizer, with the momentum and the weight decay that the recipe states.

    Args:
        optimizer: A Keras optimizer that was made by someone else.
        settings: The recipe's `optimization` group; what it leaves out stays the optimizer's own.

    Raises:
        RecipeError: The optimizer has no such number, or was built without one.
    """
    inner = unwrapped(optimizer)
    if settings.momentum is not None:
        attribute = momentum_attribute(optimizer)
        if attribute is None:
            raise _without(inner, "no momentum that Étude knows", "momentum", settings.momentum)
        # Adam and its kin always keep a mean of gradients, the others only where they need one.
        slots = attribute == "beta_1" or getattr(inner, attribute)
        if settings.momentum and inner.built and not slots:
            raise _without(inner, "been built without momentum", "momentum", settings.momentum)
        setattr(inner, attribute, settings.momentum)
    if settings.weight_decay is not None:
        # Keras gives the attribute to all, also to those that hand their variables to others.
        if "weight_decay" not in inner.get_config():
            raise _without(inner, "no weight decay", "weight_decay", settings.weight_decay)
        inner.weight_decay = settings.weight_decay
    return optimizer


def _without(optimizer: Any, what: str, name: str, value: float) -> RecipeError:
    return RecipeError(
        f"{type(optimizer).__name__} has {what}, and the recipe states one.",
        required=f"{name}: null, or another optimizer",
        received=f"{name}: {value}",
        advice="drop the value from the recipe, pass an optimizer made with it, or name one in "
        "`optimization.optimizer` and pass none",
    )


def decays(settings: Optimization, compiled: Any | None = None) -> bool:
    """Whether the optimizer of a recipe has weight decay: then its strength may be moved.

    Args:
        settings: The recipe's `optimization` group.
        compiled: The optimizer that the user's model was compiled with.
    """
    if settings.weight_decay is not None:
        return True
    if settings.optimizer == COMPILED:
        return getattr(unwrapped(compiled), "weight_decay", None) is not None
    parameters = inspect.signature(OPTIMIZERS[settings.optimizer].factory).parameters
    return parameters["weight_decay"].default is not None


def unwrapped(optimizer: Any) -> Any:
    """The optimizer within a loss-scaling one."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def has_free_rate(optimizer: Any) -> bool:
    """Whether the optimizer's rate is a number and not a schedule of its own."""
    config = unwrapped(optimizer).get_config()
    return not isinstance(config.get("learning_rate"), dict)


def momentum_attribute(optimizer: Any) -> str | None:
    """The attribute that holds an optimizer's momentum, `None` when it has none."""
    row = _row(optimizer)
    return None if row is None else row.momentum


def rate_scale(optimizer: Any) -> float:
    """How many times as large as those of its kind an optimizer's rates are."""
    row = _row(optimizer)
    return 1.0 if row is None else row.scale


def is_known(optimizer: Any) -> bool:
    """Whether an optimizer is of a class in the registry, and not of one derived from it."""
    return any(type(unwrapped(optimizer)) is row.factory for row in OPTIMIZERS.values())


def averages_gradients(optimizer: Any) -> bool:
    """Whether momentum weights gradients to a sum of 1, as in Adam; else to 1 / (1 - ρ)."""
    row = _row(optimizer)
    return row is not None and row.momentum == "beta_1"


def is_adaptive(optimizer: Any) -> bool:
    """Whether the length of a step does not grow with the gradient, as in Adam.

    Of optimizers that Étude does not know, this is so of all but kinds of SGD.
    """
    row = _row(optimizer)
    return row is None or row.adaptive


def _row(optimizer: Any) -> Row | None:
    """The row of an optimizer's class, or of the nearest class that it is derived from."""
    for base in type(unwrapped(optimizer)).__mro__:
        for row in OPTIMIZERS.values():
            if row.factory is base:  # LARS before SGD, of which it is one
                return row
    return None
