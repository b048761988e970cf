"""What a report can do without: if it fails, the report says so, and the run goes on."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")


def attempt(failing: str, make: Callable[[], T]) -> tuple[T | None, str]:
    """What `make` returns, or a sentence that says why it could not.

    It is for pictures and the page alone: a run of hours must not be lost to one of them.
    Evidence may come from any version of a study, and a library for drawing may raise
    anything, so every error counts, but none goes unsaid.

    Args:
        failing: The sentence's beginning, `"The page could not be made"`.
        make: What may fail.

    Returns:
        The result and an empty sentence, or `None` and the sentence.
    """
    try:
        return make(), ""
    except Exception as error:
        reason = textwrap.shorten(str(error), 200, placeholder=" …").rstrip(".")
        kind = type(error).__name__
        return None, f"{failing}: {kind}{': ' if reason else ''}{reason}."


def added(sentences: Sequence[str], more: Iterable[str]) -> tuple[str, ...]:
    """The sentences, and those of `more` that are not among them yet."""
    return (*sentences, *(sentence for sentence in more if sentence not in sentences))
