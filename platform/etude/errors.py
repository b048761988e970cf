"""Errors that a user can mend: each says what was required, what came and what to do."""

from __future__ import annotations


class EtudeError(Exception):
    """The root of every error that Étude raises on purpose.

    Args:
        what: One sentence naming what is wrong.
        required: What would have been right.
        received: What came instead.
        advice: What to do about it.
    """

    def __init__(self, what: str, *, required: str, received: str, advice: str) -> None:
        self.what = what
        self.required = required
        self.received = received
        self.advice = advice
        super().__init__(
            f"{what}\n  Required: {required}\n  Received: {received}\n  What to do: {advice}"
        )


class DataError(EtudeError, ValueError):
    """The data cannot be trained on as they are."""


class ModelError(EtudeError, ValueError):
    """The model cannot be trained as it is."""


class RecipeError(EtudeError, ValueError):
    """A recipe, or a change to one, is not valid."""


class BudgetError(EtudeError, ValueError):
    """The time or the number of epochs asked for cannot be kept."""


class RunError(EtudeError, RuntimeError):
    """A run, or its folder on disk, cannot go on."""
