"""Distances of transforms: features by hand, and what is known of single transforms."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from etude.augment import Augment
from etude.augment.policy import Choice, Policy, Slot
from etude.data.thumbnails import thumbnails
from etude.errors import EtudeError
from etude_metalearners import distances, features, frechet
from etude_metalearners.distances import Transformer

RANGE = (0.0, 255.0)


def pictures(count: int = 24, channels: int = 3) -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, 4, 4, channels))
    return np.kron(coarse, np.ones((1, 3, 3, 1))).astype(np.uint8)


def transformer(extract: Any = None, channels: int = 3, batch: int = 16) -> Transformer:
    used = extract or features.of("pixels", None, RANGE)
    return Transformer(used, (12, 12, channels), RANGE, batch=batch)


def test_pooled_pixels_are_means_and_deviations_of_cells() -> None:
    images = pictures(3).astype(np.float32)
    found = np.asarray(features.of_pixels(keras.ops.convert_to_tensor(images), RANGE))
    cells = images.reshape(3, 4, 3, 4, 3, 3) / 255.0
    mean, spread = cells.mean(axis=(2, 4)), cells.std(axis=(2, 4))
    by_hand = np.stack([mean, spread], axis=3).reshape(3, -1)
    np.testing.assert_allclose(found, by_hand, atol=1e-5)


def test_a_models_features_are_what_its_last_layer_sees() -> None:
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [layers.Input((12, 12, 3)), layers.Conv2D(5, 3), layers.Flatten(), layers.Dense(2)]
    )
    x = keras.ops.convert_to_tensor(pictures(4).astype(np.float32))
    seen = features.of_model(model)(x)
    assert seen.shape == (4, 500)
    kernel, bias = model.layers[-1].get_weights()
    np.testing.assert_allclose(np.asarray(seen) @ kernel + bias, model(x), rtol=1e-4)


def test_features_that_there_are_not_are_refused() -> None:
    with pytest.raises(EtudeError, match="no such features"):
        features.of("colours", None, RANGE)


def test_distances_are_those_of_the_transformed_images() -> None:
    """Against the layer, whose transforms have references of their own."""
    images = pictures()
    found = distances.measure(
        transformer(), images, names=["brightness_up", "invert"], magnitudes=(0.0, 40.0)
    )
    pooled = features.of("pixels", None, RANGE)
    plain = np.asarray(pooled(keras.ops.cast(images, "float32")))
    for row, name in enumerate(found.names):
        layer = Augment(Policy((Slot((Choice(name, 40.0, 40.0),)),)), RANGE, seed=0)
        changed = layer(images, training=True)
        assert found.distances[row, 0] == 0.0
        if name == "brightness_up":
            expected = frechet.diagonal(plain, np.asarray(pooled(changed)))
            assert found.distances[row, 1] == pytest.approx(float(expected), rel=1e-4)
            np.testing.assert_allclose(found.shown[row, 1], np.asarray(changed)[0], atol=1e-2)
    np.testing.assert_array_equal(found.shown[:, 0], np.stack([images[0]] * 2))


def test_batches_of_any_size_come_to_the_same() -> None:
    """Transforms share batches; the last one is filled up."""
    images = pictures(10)
    names = ["rotation", "equalize", "cutout"]
    first, second = (
        distances.measure(transformer(batch=batch), images, names=names) for batch in (7, 64)
    )
    np.testing.assert_allclose(first.distances, second.distances, rtol=1e-4, atol=1e-7)
    assert first.distances.shape == (3, len(distances.FEWER))
    assert first.shown.shape == (3, len(distances.FEWER), 12, 12, 3)


@pytest.mark.parametrize("full", [False, True])
def test_features_are_given_up_once_compared(monkeypatch: pytest.MonkeyPatch, full: bool) -> None:
    """However few are held, the distances are the same."""
    images, names = pictures(10), ["rotation", "invert", "mirror_horizontal"]
    whole = distances.measure(transformer(batch=7), images, names=names, full=full)
    counts = []
    for kind in ("full", "diagonal"):
        plain = getattr(frechet, kind)

        def counted(one: Any, others: Any, plain: Any = plain) -> Any:
            counts.append(len(others))
            return plain(one, others)

        monkeypatch.setattr(distances.frechet, kind, counted)
    monkeypatch.setattr(distances, "HELD", 1)
    found = distances.measure(transformer(batch=7), images, names=names, full=full)
    np.testing.assert_allclose(found.distances, whole.distances, rtol=1e-6)
    np.testing.assert_array_equal(found.shown, whole.shown)
    assert max(counts) <= 2
    assert sum(counts) == 3 * (len(distances.FEWER) - 1)


def test_thumbnails_are_areas_of_large_images_and_small_ones_themselves() -> None:
    images = np.arange(2 * 80 * 40 * 3, dtype=np.float32).reshape(2, 80, 40, 3)
    found = thumbnails(images)
    by_hand = images.reshape(2, 40, 2, 20, 2, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(found, by_hand, rtol=1e-5)
    np.testing.assert_array_equal(thumbnails(images[:, :40, :9]), images[:, :40, :9])


@pytest.mark.slow
def test_stronger_is_further() -> None:
    names = ["brightness_down", "gaussian_blur", "contrast_down", "cutout"]
    found = distances.measure(
        transformer(), pictures(), names=names, magnitudes=distances.LADDER
    ).distances
    assert (np.diff(found, axis=1) > -1e-9).all()
    full = distances.measure(transformer(), pictures(), names=names, full=True).distances
    assert (full[:, -1] > full[:, 1]).all()


@pytest.mark.slow
def test_grey_images_are_measured_by_what_they_can_do() -> None:
    found = distances.measure(transformer(channels=1), pictures(channels=1), names=["gamma"])
    assert found.distances[0, -1] > 0.0
