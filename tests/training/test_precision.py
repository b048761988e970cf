"""A step in less precision: where it holds, that it holds, and that nothing stays of it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from etude._fit import starting_recipe
from etude.budget import Budget
from etude.errors import RecipeError
from etude.recipe import Recipe
from etude.training import precision
from etude.training.studio import Studio
from etude.training.trainer import Trainer

from . import helpers


def policies(model: keras.Model) -> list[str]:
    return [layer.dtype_policy.name for layer in model._flatten_layers()]


@pytest.mark.parametrize("name", ["sequential", "functional"])
def test_all_but_the_head_compute_in_it_and_are_as_before_afterwards(name: str) -> None:
    model = helpers.MODELS[name]()
    before = policies(model)
    x = helpers.images(4)[0].astype("float32")
    plain = np.asarray(model(x, training=False))
    with precision.computing(model, "mixed_bfloat16"):
        changed = {layer.name: layer.dtype_policy.name for layer in model.layers}
        rounded = model(x, training=False)
    convolution = next(n for n in changed if n.startswith("conv2d"))
    head = next(n for n in changed if n.startswith("dense"))
    assert changed[convolution] == "mixed_bfloat16"
    assert changed[head] == "float32"
    assert rounded.dtype == "float32"
    assert policies(model) == before
    # bfloat16 has 8 bits: rounded, by no more than that, and back to the bit.
    error = float(np.max(np.abs(np.asarray(rounded) - plain)))
    assert 0.0 < error < 0.05 * float(np.max(np.abs(plain)))
    np.testing.assert_array_equal(np.asarray(model(x, training=False)), plain)


def test_nested_models_are_walked_in_order_and_own_choices_stay() -> None:
    layers = keras.layers
    inner = keras.Sequential(
        [layers.Input((8, 8, 4)), layers.Conv2D(4, 3), layers.Conv2D(4, 3, dtype="float64")]
    )
    inputs = keras.Input((8, 8, 1))
    x = layers.Flatten()(inner(layers.Conv2D(4, 1)(inputs)))
    model = keras.Model(inputs, layers.Softmax()(layers.Dense(3)(x)))
    found = precision.layers_before_head(model)
    kinds = [type(layer).__name__ for layer in found if layer.weights]
    assert kinds == ["Conv2D", "Conv2D"]
    assert all(layer.dtype_policy.name == "float32" for layer in found)
    assert precision.obstacle(model) is None


def test_a_subclassed_model_is_refused() -> None:
    model = helpers.subclassed()
    model(helpers.images(2)[0])
    assert "cannot be told" in (precision.obstacle(model) or "")
    with pytest.raises(RecipeError, match="which layer is its head"):
        precision.layers_before_head(model)
    with pytest.raises(RecipeError, match="cannot be trained in mixed_bfloat16"):
        Trainer(model, Recipe().give(compute={"precision": "mixed_bfloat16"}))


def test_a_model_without_an_input_shape_is_told_to_be_built_and_then_taken() -> None:
    layers = keras.layers
    model = keras.Sequential([layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(3)])
    recipe = Recipe().give(compute={"precision": "mixed_bfloat16"})
    with pytest.raises(RecipeError) as refused:
        Trainer(model, recipe)
    with pytest.raises(RecipeError) as untold:
        precision.layers_before_head(model)
    for error in (refused.value, untold.value):
        assert "input shape" in error.received
        assert "subclassed" not in str(error)
        assert "model.build(" in error.advice
    model.build((None, 8, 8, 1))  # as it was told
    Trainer(model, recipe)
    assert [type(x).__name__ for x in precision.layers_before_head(model)] == ["Conv2D", "Flatten"]


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_trainer_alone_has_the_statistics_of_its_recipe(value: float) -> None:
    """Momentum 1 keeps the first statistics, 0 has those of the last batch alone."""
    model = helpers.functional()
    layer = next(x for x in model.layers if isinstance(x, keras.layers.BatchNormalization))
    trainer = Trainer(model, Recipe().give(optimization={"batch_norm_momentum": value}))
    trainer.compile("sgd", helpers.loss())
    x, y = helpers.images(32)
    trainer.fit(x, y, batch_size=16, verbose=0, shuffle=False)
    moved = float(np.abs(np.asarray(layer.moving_mean)).max())
    assert (moved == 0.0) == (value == 1.0)
    assert layer.momentum == 0.9 and layer.get_config()["momentum"] == 0.9


def test_a_model_of_another_precision_is_left_alone() -> None:
    layers = keras.layers
    model = keras.Sequential(
        [layers.Input((8, 8, 1)), layers.Conv2D(4, 3, dtype="mixed_bfloat16"), layers.Flatten()]
    )
    assert precision.obstacle(model) == "no layer with weights before its head computes in float32"


@pytest.mark.parametrize("name", ["mixed_bfloat16", "mixed_float16"])
def test_a_run_in_it_learns_and_ends_as_float32(name: str) -> None:
    """Without dropout, whose draws are others in another precision."""

    def run(compute: dict[str, Any]) -> tuple[Any, list[float]]:
        keras.utils.set_random_seed(1)
        layers = keras.layers
        model = keras.Sequential(
            [
                layers.Input((8, 8, 1)),
                layers.Rescaling(1 / 255),
                layers.Conv2D(6, 3),
                layers.BatchNormalization(momentum=0.9),
                layers.ReLU(),
                layers.Flatten(),
                layers.Dense(helpers.CLASSES),
            ]
        )
        problem = helpers.problem(model)
        stated = Recipe().give(
            compute={"batch_size": 16, **compute}, optimization={"learning_rate": 0.01}
        )
        studio = Studio(problem, starting_recipe(problem, stated), budget=Budget(None), seed=3)
        losses = studio.trial(30).losses
        return studio, losses.tolist()

    studio, losses = run({"precision": name})
    _, plain = run({})
    assert losses != plain  # it took effect
    np.testing.assert_allclose(losses, plain, atol=0.1)  # and trains alike
    assert losses[-1] < 0.7 * losses[0]
    assert all(v.dtype == "float32" for v in studio.trainer.model.variables if "seed" not in v.path)
    assert set(policies(studio.trainer.model)) == {"float32"}
    scaled = isinstance(studio.trainer.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (name == "mixed_float16")
