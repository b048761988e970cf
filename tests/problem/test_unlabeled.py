"""Images without labels, as a problem holds them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from etude.problem import Problem


@pytest.mark.parametrize("kind", ["arrays", "stream"])
def test_those_of_another_size_are_brought_to_the_models(kind: str) -> None:
    model = keras.Sequential(
        [keras.Input((8, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (30, 8, 6, 1)).astype(np.uint8), np.arange(30) % 3
    # Two halves of one value each: far from where they meet no way of resizing changes these.
    values = np.arange(20, dtype=np.uint8) * 12
    images: Any = np.broadcast_to(values[:, None, None, None], (20, 16, 24, 1)).copy()
    images[:, :, 12:] = 255
    if kind == "stream":
        images = tf.data.Dataset.from_tensor_slices(images).batch(7)
    problem = Problem.inspect(model, (x, y), (x, y), images)
    assert problem.unlabeled is not None
    found = problem.unlabeled.arrays(10**6)
    assert found is not None
    assert found.images.shape == (20, 8, 6, 1)
    np.testing.assert_array_equal(found.images[:, :, 0, 0], np.repeat(values[:, None], 8, axis=1))
    assert (found.images[:, :, -1] == 255).all()


def test_beside_a_model_of_any_size_they_are_as_large_as_the_others() -> None:
    model = keras.Sequential(
        [keras.Input((None, None, 1)), keras.layers.GlobalMaxPooling2D(), keras.layers.Dense(3)]
    )
    x, y = np.zeros((9, 8, 8, 1), np.uint8), np.arange(9) % 3
    x[:, :4] += np.arange(1, 10, dtype=np.uint8)[:, None, None, None] * 20
    problem = Problem.inspect(model, (x, y), (x, y), np.repeat(x, 2, axis=1))
    assert problem.unlabeled is not None
    assert problem.unlabeled.spec.image_shape == (8, 8, 1)
