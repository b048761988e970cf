"""Momentum and weight decay as tensors: schedules and studies move them without retracing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from etude.errors import RecipeError
from etude.optim._registry import is_known, momentum_attribute, unwrapped
from etude.optim.traced import replaced
from etude.recipe import Optimization


def momentum_of(optimizer: Any) -> float:
    """The optimizer's momentum; 0 where it has none, or where Étude does not know it."""
    name = momentum_attribute(optimizer)
    return float(getattr(unwrapped(optimizer), name) or 0.0) if name else 0.0


def numbers(optimizer: Any) -> dict[str, float | None]:
    """The optimizer's momentum and weight decay; `None` for what it has not."""
    momentum = momentum_of(optimizer)
    decay = getattr(unwrapped(optimizer), "weight_decay", None)
    return {
        "momentum": momentum or None,
        "weight_decay": None if decay is None else float(decay),
    }


def set_numbers(
    optimizer: Any, settings: Optimization, own: Mapping[str, float | None]
) -> dict[str, float | None]:
    """Sets the momentum and weight decay that a recipe states, or else the optimizer's own.

    Args:
        optimizer: A Keras optimizer.
        settings: What the recipe states.
        own: What `numbers` said of the optimizer at first.

    Returns:
        What it has now.
    """
    inner = unwrapped(optimizer)
    for name, attribute in (
        ("momentum", momentum_attribute(optimizer)),
        ("weight_decay", "weight_decay"),
    ):
        stated = getattr(settings, name)
        value = own[name] if stated is None else stated
        if attribute is not None and own[name] is not None and value is not None:
            setattr(inner, attribute, value)
    return numbers(optimizer)


def check_movable(optimizer: Any) -> None:
    """Raises a `RecipeError` when the optimizer's momentum cannot be moved."""
    value = momentum_of(optimizer)
    if not value:
        raise RecipeError(
            "The recipe moves momentum, and the optimizer has none.",
            required="an optimizer with momentum above 0",
            received=f"{type(unwrapped(optimizer)).__name__} with momentum {value}",
            advice="set `optimization.momentum`, or `cycle_momentum: false`",
        )


def movable(optimizer: Any, *, cycled: bool, steered: bool) -> dict[str, bool]:
    """Which numbers of an optimizer are tensors in the step.

    Args:
        optimizer: A Keras optimizer.
        cycled: Whether a schedule moves its momentum.
        steered: Whether studies may move what it has.
    """
    # Of a class that Étude does not know nobody can tell what it does with its numbers.
    steered = steered and is_known(optimizer)
    decays = bool(getattr(unwrapped(optimizer), "weight_decay", None))
    return {
        "momentum": cycled or (steered and momentum_of(optimizer) > 0.0),
        "weight_decay": steered and decays,
    }


@contextlib.contextmanager
def moving(optimizer: Any, value: Any = None, weight_decay: Any = None) -> Iterator[None]:
    """Within the context the optimizer's momentum and weight decay are these scalar tensors.

    Args:
        optimizer: A Keras optimizer.
        value: The momentum; `None` leaves the optimizer's. One of 0 cannot be moved: Keras makes
            no slots for it.
        weight_decay: The decay; `None` leaves the optimizer's.
    """
    inner = unwrapped(optimizer)
    with contextlib.ExitStack() as stack:
        if value is not None:
            name = momentum_attribute(optimizer)
            assert name is not None, "check_movable was not called"
            stack.enter_context(replaced(inner, name, value))
        if weight_decay is not None:
            stack.enter_context(replaced(inner, "weight_decay", weight_decay))
        yield
