"""What a model does to its images first, and which ranges go with it."""

from __future__ import annotations

import inspect

import keras
import numpy as np
import pytest

from etude.errors import EtudeError
from etude.inspection import preprocessing

L = keras.layers


def sequential(*layers):
    return keras.Sequential([keras.Input((8, 8, 3)), *layers, L.Flatten(), L.Dense(2)])


def as_seen(model, values):
    """Values behind the model's first layers, by running those."""
    x = np.broadcast_to(np.asarray(values, np.float32)[:, None, None, None], (len(values), 8, 8, 3))
    for layer in model.layers:
        if isinstance(layer, L.Flatten):
            break
        x = layer(x, training=False)
    return np.asarray(x)[:, 0, 0].mean(-1)


def adapted():
    layer = L.Normalization()
    layer.adapt(np.random.default_rng(0).uniform(0, 255, (50, 8, 8, 3)).astype(np.float32))
    return layer


CASES = {
    "none": lambda: sequential(L.ReLU()),
    "rescaling": lambda: sequential(L.Rescaling(1 / 255)),
    "offset": lambda: sequential(L.Rescaling(1 / 127.5, -1)),
    "behind_augmentation": lambda: sequential(L.RandomFlip(), L.Rescaling(1 / 255)),
    "normalization": lambda: sequential(adapted()),
    "both": lambda: sequential(
        L.Rescaling(1 / 255), L.Normalization(mean=[0.4] * 3, variance=[0.04] * 3)
    ),
    "nested": lambda: sequential(
        keras.Sequential([keras.Input((8, 8, 3)), L.Rescaling(2.0), L.Rescaling(0.5, 1)])
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_steps_are_what_the_layers_do(name):
    model = CASES[name]()
    steps = preprocessing.read(model)
    values = [0.0, 10.0, 255.0]
    expected = as_seen(model, values) if name != "none" else values
    np.testing.assert_allclose([steps.apply(v) for v in values], expected, rtol=2e-2, atol=1e-2)


def test_nothing_is_read_behind_the_first_weights():
    model = sequential(L.Conv2D(3, 1), L.Rescaling(1 / 255))
    assert preprocessing.read(model).steps == ()


def test_arithmetic_is_seen_and_left_alone():
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, L.Dense(2)(L.Flatten()(image / 255.0)))
    steps = preprocessing.read(model)
    assert steps.arithmetic and preprocessing.check_range(steps, 0, 255, 70, "train") == []


def test_applications():
    small = dict(weights=None, input_shape=(32, 32, 3), classes=2)
    plain = preprocessing.read(keras.applications.MobileNetV2(alpha=0.35, **small))
    assert plain.application == "mobilenetv2_0.35_32"
    assert preprocessing.check_range(plain, 0, 255, 70, "train")
    assert preprocessing.check_range(plain, -1, 1, 0.5, "train") == []


def named(name, first=lambda x: x):
    """A small model of that name within another one."""
    image = keras.Input((8, 8, 3))
    inner = keras.Sequential([keras.Input((8, 8, 3)), L.Flatten(), L.Dense(2)], name=name)
    return keras.Model(image, inner(first(image)))


# What wants its images preprocessed outside, by the documentation of Keras.
OUTSIDE = (
    "InceptionV3", "InceptionResNetV2", "Xception", "NASNetMobile", "NASNetLarge", "ResNet50",
    "ResNet101", "ResNet152", "ResNet50V2", "ResNet101V2", "ResNet152V2", "VGG16", "VGG19",
    "DenseNet121", "DenseNet169", "DenseNet201",
)  # fmt: skip


@pytest.mark.parametrize("kind", OUTSIDE)
def test_applications_by_the_names_that_keras_gives(kind):
    given = inspect.signature(getattr(keras.applications, kind)).parameters["name"].default
    steps = preprocessing.read(named(given))
    assert steps.application == given
    assert "preprocess_input" in preprocessing.check_range(steps, 0, 255, 70, "train")[0]


@pytest.mark.parametrize(
    "name",
    ["resnet20", "resnet", "resnet50_cifar", "vgg_small", "my_vgg16", "densenet40",
     "mobilenet_tiny", "inception_small", "xception_like", "efficientnetb0", "convnext_tiny"],
)  # fmt: skip
def test_models_of_ones_own_are_no_applications(name):
    steps = preprocessing.read(named(name))
    assert steps.application is None
    assert preprocessing.check_range(steps, 0, 1, 0.3, "train") == []


@pytest.mark.parametrize("family", ["resnet50", "mobilenet_v2", "densenet"])
def test_preprocess_input_within_the_model(family):
    """All three kinds of keras.applications: BGR less the mean, -1..1, by mean and deviation."""
    within = getattr(keras.applications, family).preprocess_input
    steps = preprocessing.read(named("vgg16", within))
    assert steps.application == "vgg16" and steps.arithmetic
    assert preprocessing.check_range(steps, 0, 255, 70, "train") == []


def test_channels_in_another_order_keep_their_range():
    steps = preprocessing.read(named("own", lambda x: L.Rescaling(1 / 255)(x[..., ::-1])))
    assert not steps.arithmetic and steps.apply(255.0) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("layers", "low", "high", "notes"),
    [
        ((L.Rescaling(1 / 255),), 0, 255, 0),
        ((L.Rescaling(1 / 16),), 0, 16, 0),
        ((L.Rescaling(1 / 255),), 0, 16, 1),
        ((), 0, 255, 1),
        ((), 0, 1, 0),
        ((), -2.1, 2.6, 0),
        ((L.Rescaling(1.0),), 0, 255, 1),
    ],
)
def test_range_notes(layers, low, high, notes):
    steps = preprocessing.read(sequential(*layers))
    assert len(preprocessing.check_range(steps, low, high, 1, "train")) == notes


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1, 1), (5, 5)])
def test_range_errors(low, high):
    steps = preprocessing.read(sequential(L.Rescaling(1 / 255)))
    with pytest.raises(EtudeError):
        preprocessing.check_range(steps, low, high, 1, "train")
