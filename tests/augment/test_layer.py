"""The layer in models, in pipelines and on disk."""

import keras
import numpy as np
import pytest

from etude.augment.layer import Augment
from etude.augment.policy import Choice, Mixing, Policy, Slot
from etude.errors import EtudeError, RecipeError

from .hand import pictures

X = pictures(8, 16, 16, 3)
TURNED = Policy((Slot((Choice("quarter_turns", 100.0, 100.0),)),))


def test_in_a_model_it_works_only_while_training(tmp_path):
    inputs = keras.Input((16, 16, 3))
    model = keras.Model(inputs, Augment(TURNED, seed=0)(inputs))
    np.testing.assert_array_equal(model.predict(X, verbose=0), X)
    assert np.abs(np.asarray(model(X, training=True)) - X).max() > 10.0
    assert not model.trainable_variables
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.layers[1].policy == TURNED
    # Keras does not store where a seed generator is: a loaded layer begins anew.
    fresh = Augment(TURNED, seed=0)
    np.testing.assert_array_equal(again(X, training=True), fresh(X, training=True))


def test_in_a_pipeline():
    tf = pytest.importorskip("tensorflow")
    layer = Augment("standard_cifar", seed=0)
    labels = np.arange(8)
    data = tf.data.Dataset.from_tensor_slices((X, labels)).batch(4)
    data = data.map(lambda x, y: (layer(x, training=True), y))
    rows = list(data)
    assert [len(x) for x, _ in rows] == [4, 4]
    np.testing.assert_array_equal(np.concatenate([y for _, y in rows]), labels)
    assert np.abs(np.concatenate([x for x, _ in rows]) - X).max() > 10.0


def test_all_targets_at_once():
    """A quarter turn takes (x, y) to (y, 16 - x)."""
    policy = Policy((Slot((Choice("mirror_vertical", 100.0, 100.0),)),))
    given = {
        "images": X,
        "masks": X[..., 0].astype("int32"),
        "instances": (X[..., :2] > 99.0).astype("uint8"),
        "depth": X[..., :1],
        "boxes": np.tile([[[2.0, 3.0, 6.0, 9.0], [0, 0, 0, 0]]], (8, 1, 1)),
        "keypoints": np.tile([[[2.0, 3.0, 1.0], [5.0, 5.0, 0.0]]], (8, 1, 1)),
        "labels": np.arange(8),
    }
    out = {k: np.asarray(v) for k, v in Augment(policy)(given, training=True).items()}
    for key in ("images", "masks", "instances", "depth"):
        np.testing.assert_array_equal(out[key], np.flip(given[key], 1))
        assert key == "images" or out[key].dtype == given[key].dtype
    np.testing.assert_allclose(out["boxes"][3], [[2, 7, 6, 13], [0, 0, 0, 0]], atol=1e-4)
    np.testing.assert_allclose(out["keypoints"][3], [[2, 13, 1], [5, 11, 0]], atol=1e-4)
    np.testing.assert_array_equal(out["labels"], np.arange(8))


def test_mixing_takes_labels_along():
    layer = Augment(Policy(mixing=Mixing(mixup=1.0)), seed=0)
    out = layer({"images": X, "labels": np.eye(8, dtype="float32")}, training=True)
    labels = np.asarray(out["labels"])
    np.testing.assert_allclose(labels.sum(1), np.ones(8), atol=1e-5)
    expected = np.einsum("kj,jhwc->khwc", labels, X)
    np.testing.assert_allclose(out["images"], expected, atol=0.05)


@pytest.mark.parametrize(
    "inputs", [X, {"images": X, "labels": np.arange(8)}, {"images": X, "masks": X[..., 0]}]
)
def test_mixing_without_labels_to_mix_is_refused(inputs):
    mixing = Policy(mixing=Mixing(cutmix=0.5))
    with pytest.raises(RuntimeError, match="cannot be mixed"):  # what Keras makes of it
        Augment(mixing)(inputs, training=True)
    layer = Augment("none")
    layer(inputs, training=True)
    with pytest.raises(EtudeError, match="cannot be mixed"):
        layer.set_policy(mixing)


def test_bad_input_says_what_is_wrong():
    with pytest.raises(RecipeError, match="no such policy"):
        Augment("randaugmnet")
    with pytest.raises(EtudeError, match="low < high"):
        Augment(value_range=(1.0, 1.0))
    with pytest.raises(EtudeError, match="'images' and any of"):
        Augment()({"image": X}, training=True)
    layer = Augment()
    layer(X)
    with pytest.raises(RuntimeError, match="'images' and any of"):  # what Keras makes of it
        layer({"images": X, "label": X})
    with pytest.raises(EtudeError, match="size that is the same"):
        Augment()(keras.Input((None, None, 3)))
    with pytest.raises(EtudeError, match="size that is the same"):
        Augment()(X[0], training=True)


def test_a_policy_with_colours_serves_grey_images():
    x = X[..., :1]
    layer = Augment(Policy((Slot((Choice("hue", 100.0, 100.0),)),)), seed=0)
    np.testing.assert_array_equal(layer(x, training=True), x)
    layer.set_policy("standard_cifar")
    assert np.abs(np.asarray(layer(x, training=True)) - x).max() > 0.0
