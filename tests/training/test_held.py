"""Arrays that are held between calls of `fit`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from etude.training.held import Held, held

X = np.arange(24.0, dtype="float32").reshape(6, 2, 2, 1)
Y = np.array([0, 1, 2, 0, 1, 2])


def of(x: Any, y: Any, before: Held | None, **options: Any) -> Held:
    return held(x, y, options, before)


def test_the_same_arrays_are_held_once() -> None:
    x, y, weights = X.copy(), Y.copy(), {0: 2.0}
    first = of(x, y, None, class_weight=weights)
    assert of(x, y, first, class_weight=weights) is first
    assert of(x.copy(), y, first, class_weight=weights) is not first


@pytest.mark.parametrize("part", ["x", "y", "class_weight", "sample_weight"])
def test_what_was_changed_in_place_is_held_anew(part: str) -> None:
    x, y = X.copy(), Y.copy()
    options: dict[str, Any] = {"class_weight": {0: 3.0}, "sample_weight": np.ones(6, "float32")}
    first = of(x, y, None, **options)
    changed = {"x": x, "y": y, **options}[part]
    changed[0] = 2
    second = of(x, y, first, **options)
    assert second is not first
    images, labels, weights = second.data.gather(np.arange(6))
    np.testing.assert_array_equal(np.asarray(images), x)
    np.testing.assert_array_equal(np.asarray(labels), y)
    by_class = np.where(y == 0, options["class_weight"][0], 1.0)
    np.testing.assert_allclose(np.asarray(weights), by_class * options["sample_weight"])
