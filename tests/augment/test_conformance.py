"""What holds for every transform, whatever it does; a new row is tried by itself."""

import keras
import numpy as np
import pytest
from keras import ops

from etude.augment import names
from etude.augment.layer import Augment
from etude.augment.policy import Choice, Policy, Slot

from .hand import augmented, hand, pictures

SHAPE = (20, 16, 16, 3)
X = pictures(*SHAPE)
NAMES = tuple(names.INDEX)


def only(name: str, low: float = 80.0, high: float = 80.0) -> Policy:
    return Policy((Slot((Choice(name, low, high),)),))


def test_strength_0_is_the_identity_to_the_bit():
    np.testing.assert_array_equal(augmented(X, hand(SHAPE)), X)


@pytest.mark.parametrize("name", NAMES)
def test_each_does_something_within_the_range_and_only_to_its_images(name):
    some = np.arange(SHAPE[0]) % 2 == 0
    out = augmented(X, hand(SHAPE, {name: some * 0.8}))
    np.testing.assert_array_equal(out[~some], X[~some])
    assert np.isfinite(out).all() and out.min() >= 0.0 and out.max() <= 255.0
    changed = np.abs(out - X).max(axis=(1, 2, 3))[some] > 1.0
    # The likes of mirrors are done to a share of .8; the chance that 4 or fewer of 10 are is .006.
    assert changed.sum() >= 5


@pytest.mark.parametrize("name", NAMES)
def test_a_little_of_each_is_nearer_than_a_lot(name):
    """Ladders start at the identity and lead away from it."""
    distances = [
        float(np.abs(augmented(X, hand(SHAPE, {name: s}, seed=1)) - X).mean())
        for s in (0.0, 0.1, 0.9)
    ]
    assert distances[0] == 0.0
    assert distances[1] < 0.75 * distances[2]


def test_the_same_seed_gives_the_same_images_and_another_one_others():
    policy = Policy((Slot(tuple(Choice(name, 0.0, 100.0) for name in NAMES), draws=3),))
    first = Augment(policy, seed=1)(X, training=True)
    again = Augment(policy, seed=1)(X, training=True)
    other = Augment(policy, seed=2)(X, training=True)
    np.testing.assert_array_equal(first, again)
    assert float(ops.mean(ops.abs(first - other))) > 1.0


def test_a_compiled_step_takes_every_policy_without_a_new_trace():
    import tensorflow as tf

    layer = Augment(only("rotation"), seed=3)
    traces = []

    @tf.function
    def step(x):
        traces.append(1)
        return layer(x, training=True)

    for name in NAMES:
        layer.set_policy(only(name))
        # A new layer that draws the same, eagerly, shows what the graph has to compute.
        other = Augment(only(name), seed=3)
        other.seed_generator.state.assign(layer.seed_generator.state)
        compiled = step(X)
        np.testing.assert_allclose(other(X, training=True), compiled, atol=1e-2)
        assert np.abs(np.asarray(compiled) - X).max() > 1.0
    assert len(traces) == 1


def test_a_pipeline_takes_another_policy_too():
    import tensorflow as tf

    layer = Augment(only("mirror_horizontal", 100.0, 100.0))
    data = tf.data.Dataset.from_tensors(X).repeat().map(lambda x: layer(x, training=True))
    batches = iter(data)
    np.testing.assert_array_equal(next(batches), np.flip(X, 2))
    layer.set_policy(only("mirror_vertical", 100.0, 100.0))
    for _ in range(32):  # some were made ahead
        batch = next(batches)
    np.testing.assert_array_equal(batch, np.flip(X, 1))


@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize("frame", [(9, 14)])
def test_any_size_and_number_of_channels(channels, frame):
    x = pictures(6, *frame, channels)
    able = [name for name in NAMES if names.possible(name, channels)]
    policy = Policy((Slot(tuple(Choice(name, 60.0, 60.0) for name in able), draws=4),))
    out = np.asarray(Augment(policy, seed=0)(x, training=True))
    assert out.shape == x.shape and np.isfinite(out).all()
    assert np.abs(out - x).max(axis=(1, 2, 3)).min() > 0.0


@pytest.mark.parametrize("low, high", [(0.0, 1.0), (-1.0, 1.0), (-3.0, 5.0)])
def test_other_value_ranges_give_the_same_pictures(low, high):
    names = ["contrast_up", "hue", "gamma", "solarize", "sharpen", "cutout", "rotation", "invert"]
    draw = hand(SHAPE, dict.fromkeys(names, 0.3))
    scaled = low + (high - low) * X / 255.0
    out = augmented(scaled, draw, "grey", (low, high))
    expected = low + (high - low) * augmented(X, draw, "grey") / 255.0
    np.testing.assert_allclose(out, expected, atol=2e-4 * (high - low))


def test_mixed_precision_computes_in_float32():
    policy = Policy((Slot(tuple(Choice(name, 0.0, 80.0) for name in NAMES), draws=2),))
    full = Augment(policy, seed=5)(X, training=True)
    half = Augment(policy, seed=5, dtype="mixed_bfloat16")(X, training=True)
    assert str(half.dtype).endswith("bfloat16'>") or half.dtype == "bfloat16"
    np.testing.assert_array_equal(ops.cast(full, "bfloat16"), half)


def test_integers_come_in_and_images_stay_as_they_are_outside_of_training():
    layer = Augment("randaugment", seed=0)
    x = X.astype("uint8")
    np.testing.assert_array_equal(layer(x), X)
    assert keras.backend.standardize_dtype(layer(x, training=True).dtype) == "float32"
