"""The networks have the parameters, shapes and seeds that they say."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from etude import models
from etude.errors import ModelError
from etude.models import disparity, transformer

SHAPES: dict[str, tuple[int, int, int]] = {
    "resnet9": (28, 28, 1),
    "small_cnn": (28, 28, 1),
    "unet": (16, 24, 3),
    "vit": (16, 24, 3),
    "dispnet": (35, 41, 3),
}
CLASSIFYING = [name for name in models.MODELS if name != "dispnet"]


def built(name: str, classes: int = 3, **options: Any) -> keras.Model:
    classes = classes if name in CLASSIFYING else 1
    return models.build(name, SHAPES[name], classes, width=4, **options)


def weights(model: keras.Model) -> list[np.ndarray[Any, Any]]:
    return [np.asarray(w) for w in model.get_weights()]


@pytest.mark.parametrize(("width", "channels", "classes"), [(64, 3, 10), (16, 1, 10), (4, 2, 5)])
def test_resnet9_has_as_many_parameters_as_its_plan(
    width: int, channels: int, classes: int
) -> None:
    w = width
    kernels = [channels * w, w * 2 * w, 4 * w * w, 4 * w * w, 8 * w * w, 32 * w * w]
    kernels += [64 * w * w, 64 * w * w]
    norms = 4 * (1 + 2 * 3 + 4 + 8 * 3) * w  # γ, β, mean, variance
    model = models.build("resnet9", (32, 32, channels), classes, width=width)
    assert model.count_params() == 9 * sum(kernels) + norms + 8 * w * classes


def test_resnet9_of_the_paper_has_6_57_million_trainable_parameters() -> None:
    model = models.build("resnet9", (32, 32, 3), 10)
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == 6_573_120


def test_small_cnn_parameters() -> None:
    model = models.build("small_cnn", (28, 28, 1), 10, width=8)
    assert model.count_params() == 9 * 8 + 4 * 8 + 9 * 8 * 16 + 4 * 16 + 16 * 10 + 10


def test_unet_parameters() -> None:
    w, depth, channels, classes = 4, 2, 3, 3
    model = models.build("unet", (16, 16, channels), classes, width=w, depth=depth)
    pairs = [(channels, w), (w, w), (w, 2 * w), (2 * w, 2 * w), (2 * w, 4 * w), (4 * w, 4 * w)]
    pairs += [(4 * w, 2 * w), (4 * w, 2 * w), (2 * w, 2 * w)]  # up, joined, again
    pairs += [(2 * w, w), (2 * w, w), (w, w)]
    expected = sum(9 * a * b + 4 * b for a, b in pairs) + w * classes + classes
    assert model.count_params() == expected


@pytest.mark.parametrize("name", models.MODELS)
def test_the_same_seed_gives_the_same_weights_and_another_does_not(name: str) -> None:
    keras.utils.set_random_seed(1)
    first = built(name, seed=5)
    keras.utils.set_random_seed(2)
    again, other = built(name, seed=5), built(name, seed=6)
    for a, b in zip(weights(first), weights(again), strict=True):
        np.testing.assert_array_equal(a, b)
    drawn = [
        (a, b) for a, b in zip(weights(first), weights(other), strict=True) if a.ndim in (2, 4)
    ]
    assert drawn and all(np.abs(a - b).min() > 0 for a, b in drawn)


@pytest.mark.parametrize("name", models.MODELS)
def test_no_two_layers_share_a_seed(name: str) -> None:
    kernels = [w for w in weights(built(name, seed=5)) if w.ndim == 4]
    starts = [tuple((k / k.std()).ravel()[:4].round(3)) for k in kernels]
    assert len(set(starts)) == len(starts)


@pytest.mark.parametrize("name", models.MODELS)
def test_without_a_seed_weights_differ(name: str) -> None:
    a, b = weights(built(name)), weights(built(name))
    assert np.abs(a[0] - b[0]).min() > 0


@pytest.mark.parametrize("name", CLASSIFYING)
@pytest.mark.parametrize("classes", [1, 3])
def test_probabilities_are_the_logits_softmax_or_sigmoid(name: str, classes: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, *SHAPES[name]), dtype=np.uint8)
    logits = np.asarray(built(name, classes, seed=1)(images), np.float64)
    probabilities = np.asarray(built(name, classes, seed=1, logits=False)(images))
    place = SHAPES[name][:2] if name == "unet" else ()
    assert logits.shape == (2, *place, classes)
    if classes == 1:
        expected = 1 / (1 + np.exp(-logits))
    else:
        expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)


@pytest.mark.parametrize("name", models.MODELS)
def test_images_in_0_to_255_are_scaled_inside(name: str) -> None:
    """Among 0..255 images the first convolution sees 0..1: its input is x / 255."""
    model = built(name, seed=1)
    images = np.full((1, *SHAPES[name]), 255.0, np.float32)
    inside = keras.Model(model.input, model.layers[1].output)
    np.testing.assert_allclose(np.asarray(inside(images)), 1.0, rtol=1e-6)


@pytest.mark.parametrize("name", models.MODELS)
def test_a_saved_network_is_the_same(name: str, tmp_path: Path) -> None:
    model = built(name, seed=1)
    model.save(tmp_path / "model.keras")
    images = np.random.default_rng(0).integers(0, 256, (2, *SHAPES[name])).astype("float32")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(np.asarray(model(images)), np.asarray(again(images)))


@pytest.mark.parametrize(
    ("name", "shape", "classes", "width"),
    [
        ("resnet9", (7, 28, 1), 10, 4),
        ("resnet9", (28, 28), 10, 4),
        ("unet", (20, 16, 3), 2, 4),
        ("vit", (18, 16, 3), 2, 4),
        ("vit", (16, 16, 3), 2, 6),
        ("dispnet", (1, 64, 3), 1, 4),
        ("dispnet", (32, 64, 3), 2, 4),
        ("dispnet", (32, 64, 3), 1, 0),
        ("small_cnn", (28, 28, 1), 0, 4),
        ("small_cnn", (28, 28, 1), 10, 0),
        ("resnet8", (28, 28, 1), 10, 4),
    ],
)
def test_what_cannot_be_built_is_refused(
    name: str, shape: tuple[int, ...], classes: int, width: int
) -> None:
    with pytest.raises(ModelError, match="What to do"):
        models.build(name, shape, classes, width=width)


def test_names() -> None:
    assert all(callable(getattr(models, name)) for name in models.MODELS)
    with pytest.raises(AttributeError):
        models.resnet10  # noqa: B018


def test_vit_parameters() -> None:
    w, depth, patch = 8, 2, 4
    model = models.build("vit", (16, 16, 3), 10, width=w, depth=depth, patch=patch)
    block = 2 * 2 * w + (w + 1) * 3 * w + (w + 1) * w + (w + 1) * 4 * w + (4 * w + 1) * w
    assert model.count_params() == (patch**2 * 3 + 1) * w + depth * block + 2 * w + (w + 1) * 10


def test_positions_are_sines_and_cosines_of_row_and_column() -> None:
    found = np.asarray(transformer.Positions()(np.zeros((1, 3, 5, 8), np.float32)))[0]
    for row in range(3):
        for column in range(5):
            waves = [1.0, 10_000.0 ** (-1 / 2)]
            wanted = [f(place * wave) for place in (row, column)
                      for f in (np.sin, np.cos) for wave in waves]  # fmt: skip
            np.testing.assert_allclose(found[row, column], wanted, atol=1e-6)


def test_attention_is_a_mean_of_values_by_likeness() -> None:
    rng = np.random.default_rng(0)
    heads, size = 2, 3
    given = rng.normal(size=(1, 2, 2, 3 * heads * size)).astype(np.float32)
    found = np.asarray(transformer.Attention(heads)(given)).reshape(4, heads * size)
    query, key, value = np.split(given.reshape(4, -1), 3, axis=1)
    for head in range(heads):
        own = slice(head * size, (head + 1) * size)
        for i in range(4):
            likeness = np.exp([query[i, own] @ key[j, own] / np.sqrt(size) for j in range(4)])
            wanted = sum(w * value[j, own] for j, w in enumerate(likeness / likeness.sum()))
            np.testing.assert_allclose(found[i, own], wanted, atol=1e-5)


def test_vit_takes_images_of_several_sizes() -> None:
    free = models.build("vit", (None, None, 3), 3, width=32, depth=1, seed=1)
    for shape in ((16, 24, 3), (32, 8, 3)):
        fixed = models.build("vit", shape, 3, width=32, depth=1, seed=1)
        images = np.random.default_rng(0).integers(0, 256, (2, *shape)).astype("float32")
        np.testing.assert_allclose(np.asarray(free(images)), np.asarray(fixed(images)), atol=1e-5)
    # Where a patch is counts.
    images = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3)).astype("float32")
    turned = np.asarray(free(images)) - np.asarray(free(np.roll(images, 8, axis=1)))
    assert np.abs(turned).max() > 1e-4


def test_dispnet_parameters() -> None:
    w, levels, channels = 8, 3, 3
    model = models.build("dispnet", (33, 20, channels), 1, width=w, levels=levels)
    down = [(7, channels, w), (3, w, w), (5, w, 2 * w), (3, 2 * w, 2 * w)]
    down += [(3, 2 * w, 4 * w), (3, 4 * w, 4 * w)]
    up = [(3, 4 * w, 2 * w), (3, 4 * w, 2 * w), (3, 2 * w, w), (3, 2 * w, w)]  # joined by a skip
    up += [(3, w, w // 2), (3, w // 2, w // 2)]
    wanted = sum(side**2 * a * b + 4 * b for side, a, b in down + up) + 9 * (w // 2) + 1
    assert model.count_params() == wanted


@pytest.mark.parametrize(
    ("side", "levels"), [(2, 1), (3, 1), (4, 2), (15, 3), (16, 4), (31, 4), (32, 5), (300, 5)]
)
def test_dispnet_halves_a_picture_as_often_as_it_goes(side: int, levels: int) -> None:
    found = models.build("dispnet", (side, 301, 3), 1, width=1)
    strides = [x.strides for x in found.layers if type(x) is keras.layers.Conv2D]
    assert strides.count((2, 2)) == levels
    assert found.output_shape == (None, side, 301, 1)
    with pytest.raises(ModelError, match=f"at least {2 ** (levels + 1)}"):
        models.build("dispnet", (2**levels, 301, 3), 1, width=1, levels=levels + 1)


def test_dispnet_is_no_wider_than_eight_times_its_first_level() -> None:
    model = models.build("dispnet", (64, 64, 3), 1, width=2, levels=6)
    kernels = [w for w in weights(model) if w.ndim == 4]
    assert max(kernel.shape[-1] for kernel in kernels) == 16


def test_depth_is_the_inverse_of_a_scaled_sigmoid() -> None:
    """Equation by equation, in plain Python; the ends are those that were stated."""
    nearest, farthest = 2.4, 80.0
    x = np.linspace(-12.0, 12.0, 97).astype(np.float32)
    found = np.asarray(disparity.depth_of(x, nearest, farthest), np.float64)
    for logit, depth in zip(x, found, strict=True):
        s, m = 1 / nearest - 1 / farthest, 1 / farthest
        assert depth == pytest.approx(1 / (s / (1 + math.exp(-logit)) + m), rel=1e-5)
    assert disparity.scale_and_offset(nearest, farthest) == pytest.approx((0.404167, 0.0125), 1e-5)
    ends = np.asarray(disparity.depth_of(np.float32([-200, 200]), nearest, farthest))
    np.testing.assert_allclose(ends, [farthest, nearest], rtol=1e-6)


def test_the_logit_of_a_depth_is_the_inverse() -> None:
    x = np.linspace(-6.0, 6.0, 61)
    for nearest, farthest in ((2.4, 80.0), (0.5, 10.0), (300.0, 9000.0)):
        depth = disparity.depth_of(ops.convert_to_tensor(x, "float64"), nearest, farthest)
        np.testing.assert_allclose(disparity.logit_of(depth, nearest, farthest), x, atol=1e-9)
        depths = np.linspace(nearest, farthest, 21)[1:-1]
        again = disparity.depth_of(
            disparity.logit_of(ops.convert_to_tensor(depths), nearest, farthest), nearest, farthest
        )
        np.testing.assert_allclose(again, depths, rtol=1e-9)


def test_dispnet_gives_depths_within_its_range() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 35, 41, 3)).astype("float32")
    model = models.build("dispnet", (35, 41, 3), 1, width=4, nearest=2.0, farthest=5.0, seed=1)
    found = np.asarray(model(images))
    assert found.shape == (2, 35, 41, 1) and found.dtype == np.float32
    assert 2.0 <= found.min() < found.max() <= 5.0
    free = models.build("dispnet", (None, None, 3), 1, width=4, nearest=2.0, farthest=5.0, seed=1)
    np.testing.assert_allclose(np.asarray(free(images)), found, rtol=1e-5)


def test_depth_stays_float32_where_all_else_is_not() -> None:
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    try:
        model = built("dispnet", seed=1)
    finally:
        keras.mixed_precision.set_dtype_policy(before)
    images = np.random.default_rng(0).integers(0, 256, (1, 35, 41, 3)).astype("float32")
    assert model.layers[2].compute_dtype == "bfloat16"
    assert model(images).dtype == "float32"


@pytest.mark.parametrize(("near", "far"), [(0.0, 1.0), (2.0, 2.0), (3, 1), (1, np.inf), ("a", 2)])
def test_a_range_that_is_none_is_refused(near: Any, far: Any) -> None:
    with pytest.raises(ModelError, match="least and the greatest depth"):
        disparity.DepthFromDisparity(near, far)
    with pytest.raises(ModelError, match="least and the greatest depth"):
        models.build("dispnet", (32, 32, 3), 1, nearest=near, farthest=far)
