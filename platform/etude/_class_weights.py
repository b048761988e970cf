"""The weight of each class in a run: the user's own, or balanced by how often it occurs."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from etude.errors import RecipeError
from etude.tasks import balanced_weights

if TYPE_CHECKING:
    from etude.problem import Problem
    from etude.recipe import Recipe


def class_weights(
    problem: Problem, recipe: Recipe, given: str | Mapping[int, float] | None
) -> Mapping[int, float] | None:
    """Weights per class, by the user's own or balanced by the counts of the training set."""
    classes = problem.task.classes()
    if classes is None and given is not None:
        raise RecipeError(
            "There are no classes to weigh.",
            required="a task with classes",
            received=f"class_weight={given!r} with task {problem.task.name!r}",
            advice="leave `class_weight` out; samples can have weights: (x, y, weights)",
        )
    if isinstance(given, Mapping):
        wrong = [k for k, v in given.items() if not _is_weight(k, v, classes or 0)]
        if wrong:
            raise RecipeError(
                "A class weight is not valid.",
                required=f"classes from 0 to {(classes or 1) - 1} with weights of 0 or more",
                received=f"{ {k: given[k] for k in wrong} }",
                advice="mend the mapping",
            )
        stated = {int(k): float(v) for k, v in given.items()}
        return {c: stated.get(c, 1.0) for c in range(classes or 0)}
    if recipe.sampling.class_weight != "balanced":
        return None
    counts = problem.facts["class_counts"]
    if counts is None:
        raise RecipeError(
            "The classes cannot be balanced.",
            required="a task with classes",
            received=problem.task.name,
            advice="leave `class_weight` out",
        )
    return balanced_weights(np.array(counts))


def _is_weight(key: Any, value: Any, classes: int) -> bool:
    """Whether it is a class' number (NumPy's too) with a finite weight of 0 or more."""
    try:
        return 0 <= operator.index(key) < classes and 0.0 <= float(value) < math.inf
    except (TypeError, ValueError):
        return False
