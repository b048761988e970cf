from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from etude.data import open_source
from etude.data.streams import passes_differ
from etude.errors import DataError

from_slices = tf.data.Dataset.from_tensor_slices


def labels_of(batches):
    return np.concatenate([batch[1].numpy() for batch in batches])


SHAPES = {
    "batched": lambda x, y: from_slices((x, y)).batch(8),
    "single": lambda x, y: from_slices((x, y)),
    "batched dict": lambda x, y: from_slices({"image": x, "label": y}).batch(10),
    "single dict": lambda x, y: from_slices({"x": x, "y": y, "id": y}),
    "unknown size": lambda x, y: from_slices((x, y)).filter(lambda *_: True),
    "generator": lambda x, y: tf.data.Dataset.from_generator(
        lambda: zip(x, y, strict=True),
        output_signature=(tf.TensorSpec((None, None, None), tf.uint8), tf.TensorSpec((), tf.int64)),
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_dataset(numbered, shape):
    x, y = numbered
    source = open_source(SHAPES[shape](x, y))
    assert source.spec.image_shape == (4, 5, 3) and source.spec.label_shape == ()
    np.testing.assert_array_equal(labels_of(source.in_order(9)), y)
    assert [len(b[1]) for b in source.in_order(20)] == [20, 20, 13]
    arrays = source.arrays(2**20)
    np.testing.assert_array_equal(arrays.images, x)
    np.testing.assert_array_equal(arrays.labels, y)
    assert source.size == 53 == source.count()


def test_grey_images_without_a_channel_axis(digits):
    x, y = digits[0][:20], digits[1][:20]
    for dataset in (from_slices((x, y)), from_slices((x, y)).batch(7)):
        source = open_source(dataset)
        assert source.spec.image_shape == (8, 8, 1)
        np.testing.assert_array_equal(source.arrays(2**20).images[..., 0], x)


def test_weights_and_none(numbered):
    x, y = numbered
    source = open_source(from_slices((x, y, y * 2.0)).batch(6))
    assert source.spec.weighted
    np.testing.assert_array_equal(source.arrays(2**20).weights, (y * 2).astype(np.float32))
    with pytest.raises(DataError, match="Sample 40 of train"):
        open_source(from_slices((x, y, 39.5 - y))).arrays(2**20)


@pytest.mark.parametrize("buffer", [53, 10])
def test_every_pass_holds_every_sample_once(numbered, buffer):
    x, y = numbered
    sample = 4 * 5 * 3 + 8
    source = open_source(from_slices((x, y)), memory_budget=8 * sample * buffer)
    ids = labels_of(source.shuffled(53, seed=1).take(4)).reshape(4, 53)
    assert (np.sort(ids, axis=1) == y).all()
    assert len({row.tobytes() for row in ids}) == 4 and (ids[0] != y).any()
    assert ("perfect" in source.shuffle) == (buffer == 53)
    if buffer == 10:  # sample i cannot come before position i - buffer + 1
        position = np.argsort(ids, axis=1)
        assert (position >= y - 9).all()


def test_the_order_is_a_function_of_the_seed(numbered):
    source = open_source(from_slices(numbered).batch(8))
    stream = source.shuffled(9, seed=4)
    tf.random.set_seed(1)
    first = labels_of(stream.take(20))
    tf.random.set_seed(2)
    np.testing.assert_array_equal(labels_of(stream.take(20)), first)
    source.count()
    np.testing.assert_array_equal(labels_of(source.shuffled(9, seed=4).take(20)), first)
    later = labels_of(source.shuffled(9, seed=4, start=7).take(13))
    np.testing.assert_array_equal(later, first[63:])
    assert (labels_of(source.shuffled(9, seed=5).take(20)) != first).any()


def test_endless_streams(numbered):
    source = open_source(from_slices(numbered).batch(8).repeat())
    assert source.endless and source.size is None and source.arrays(2**40) is None
    assert len(labels_of(source.shuffled(30, seed=0).take(4))) == 120
    with pytest.raises(DataError, match="endless"):
        source.count()


def test_reading_stops_at_the_limit_and_happens_once(numbered):
    x, y = numbered
    read = []

    def samples():
        for i in range(53):
            read.append(i)
            yield x[i], y[i]

    signature = (tf.TensorSpec((4, 5, 3), tf.uint8), tf.TensorSpec((), tf.int64))
    many = tf.data.Dataset.from_generator(samples, output_signature=signature).repeat(50)
    source = open_source(many.filter(lambda *_: True))
    read.clear()
    assert source.arrays(200 * 68) is None
    assert len(read) < 53 * 25
    before = len(read)
    assert source.arrays(100 * 68) is None and len(read) == before
    few = open_source(tf.data.Dataset.from_generator(samples, output_signature=signature))
    assert few.arrays(2**20) is few.arrays(2**20)


def test_a_stream_that_can_be_read_once_ends_and_does_not_hang(numbered):
    once = iter(list(zip(*numbered, strict=True)))
    signature = (tf.TensorSpec((4, 5, 3), tf.uint8), tf.TensorSpec((), tf.int64))
    source = open_source(tf.data.Dataset.from_generator(lambda: once, output_signature=signature))
    assert len(list(source.shuffled(4, seed=0).take(100))) < 14


def test_a_stream_without_an_end_does_not_hang(numbered, monkeypatch):
    from etude.data import tfdata

    monkeypatch.setattr(tfdata, "COUNTED_AT_MOST", 500)
    x, y = numbered
    read = []

    def forever():
        i = 0
        while True:
            read.append(i)
            yield x[i % 53], y[i % 53]
            i += 1

    signature = (tf.TensorSpec((4, 5, 3), tf.uint8), tf.TensorSpec((), tf.int64))
    stream = tf.data.Dataset.from_generator(forever, output_signature=signature)
    for ask in (lambda s: s.count(), lambda s: s.arrays(2**40)):
        read.clear()
        with pytest.raises(DataError, match="may have no end") as caught:
            ask(open_source(stream))
        assert "500" in str(caught.value) and "assert_cardinality" in caught.value.advice
        assert len(read) < 1000
    # What the advice says helps.
    stated = stream.take(700).apply(tf.data.experimental.assert_cardinality(700))
    assert open_source(stated).count() == 700
    assert open_source(stream.repeat()).endless
    assert open_source(stream.take(400)).count() == 400


@pytest.fixture
def seeds_left_alone():
    yield
    tf.random.set_seed(None)


@pytest.mark.parametrize("seeded", [False, True])
def test_passes_are_compared(numbered, seeded, seeds_left_alone):
    x, y = numbered
    plain = from_slices(numbered)

    def brighter(image, label):
        return image + tf.cast(tf.random.uniform((), 1, 250, tf.int32), image.dtype), label

    noisy = plain.map(brighter)
    once = iter(list(zip(x, y, strict=True)))
    signature = (tf.TensorSpec((4, 5, 3), tf.uint8), tf.TensorSpec((), tf.int64))
    alone = tf.data.Dataset.from_generator(lambda: once, output_signature=signature)
    if seeded:
        tf.random.set_seed(0)
    for dataset, held, unheld in [
        (plain, "", ""),
        (plain.shuffle(53), "order", "either"),
        (plain.shuffle(53, seed=1, reshuffle_each_iteration=False), "", ""),
        (noisy, "contents", "either"),
        (noisy.cache(), "", ""),
    ]:
        assert passes_differ(open_source(dataset), 2**20) == held
        assert passes_differ(open_source(dataset), 10) == unheld
    assert passes_differ(open_source(alone), 2**20) == ""
    big = tf.data.Dataset.range(9000).map(lambda i: (tf.cast(tf.fill((2, 2, 1), i), tf.int32), i))
    assert passes_differ(open_source(big.shuffle(9000)), 2**20) == "order"


def test_several_sizes():
    sizes = [(4, 6), (8, 4), (4, 6)]

    def samples():
        for h, w in sizes:
            yield np.full((h, w, 3), 7, np.uint8), np.full((h, w), 1, np.uint8)

    signature = (tf.TensorSpec((None, None, 3), tf.uint8), tf.TensorSpec((None, None), tf.uint8))
    dataset = tf.data.Dataset.from_generator(samples, output_signature=signature)
    with pytest.raises(DataError, match="4x6, 8x4"):
        open_source(dataset)
    source = open_source(dataset, resize=(5, 5))
    arrays = source.arrays(2**20)
    assert arrays.images.shape == (3, 5, 5, 3) and arrays.labels.shape == (3, 5, 5)
    assert (arrays.images == 7).all() and (arrays.labels == 1).all()


def test_a_late_odd_sample_is_an_error_in_words():
    def samples():
        for i in range(60):
            yield np.zeros((4, 5 if i < 50 else 6, 3), np.uint8), i

    signature = (tf.TensorSpec((None, None, 3), tf.uint8), tf.TensorSpec((), tf.int64))
    source = open_source(tf.data.Dataset.from_generator(samples, output_signature=signature))
    with pytest.raises(DataError, match="one of the samples 0 to 63"):
        source.arrays(2**20)


def unknown_rank():
    dataset = from_slices((np.zeros((3, 4, 4, 3)), np.arange(3)))
    return dataset.map(lambda x, y: (tf.numpy_function(lambda a: a, [x], tf.float64), y))


X = np.zeros((4, 4, 3))
IMAGE, LABEL = tf.TensorSpec((4, 4, 3)), tf.TensorSpec((), tf.int64)
WEIGHTS = tf.TensorSpec((None, None))


def weighed(shape):
    return from_slices((np.zeros((3, 4, 4, 3)), np.arange(3), np.ones((3, *shape))))


BAD = {
    "pixel weights": (lambda: weighed((4, 4)), "not one for each sample"),
    "pixel weights in batches": (lambda: weighed((4, 4)).batch(2), "not one for each sample"),
    "pixel weights of a shape found late": (
        lambda: tf.data.Dataset.from_generator(
            lambda: iter([(X, 0, np.ones((4, 4)))]), output_signature=(IMAGE, LABEL, WEIGHTS)
        ),
        "samples 0 to 31",
    ),
    "unknown rank": (unknown_rank, "unknown number of axes"),
    "encoded": (lambda: from_slices((["a", "b"], [0, 1])), "text"),
    "features": (lambda: from_slices((np.zeros((6, 12)), np.arange(6))), "1 axes"),
    "empty": (lambda: from_slices((np.zeros((0, 4, 4, 3)), np.zeros(0))), "is empty"),
    "no labels": (lambda: from_slices(np.zeros((3, 4, 4, 3))), "no labels"),
    "ragged": (
        lambda: from_slices((tf.ragged.constant([[[1]], [[1, 2]]]), [0, 1])),
        "no dense tensors",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_datasets_are_refused_in_words(case):
    make, words = BAD[case]
    with pytest.raises(DataError, match=words):
        open_source(make())
