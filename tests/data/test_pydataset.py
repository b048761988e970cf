from __future__ import annotations

import keras
import numpy as np
import pytest

from etude.data import open_source
from etude.errors import DataError


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y, size, *, spoilt=None):
        super().__init__()
        self.x, self.y, self.size, self.spoilt = x, y, size, spoilt

    def __len__(self):
        return -(-len(self.x) // self.size)

    def __getitem__(self, index):
        part = slice(index * self.size, (index + 1) * self.size)
        x = self.x[part]
        return (x[:, :-1] if index == self.spoilt else x), self.y[part], self.y[part] + 1.0


class Endless(keras.utils.PyDataset):
    @property
    def num_batches(self):
        return None

    def __getitem__(self, index):
        return np.full((3, 4, 4), index % 256, np.uint8), np.full(3, index)


def labels_of(batches):
    return np.concatenate([batch[1].numpy() for batch in batches])


def test_batches_are_read_permuted_and_resumed(numbered):
    x, y = numbered
    source = open_source(Batches(x, y, 7))
    assert source.size is None and source.spec.weighted
    assert [len(b[1]) for b in source.in_order(20)] == [20, 20, 13]
    np.testing.assert_array_equal(labels_of(source.in_order(20)), y)
    first = labels_of(source.shuffled(53, seed=3).take(3))
    passes = first.reshape(3, 53)
    assert (np.sort(passes, axis=1) == y).all()
    assert len({row.tobytes() for row in passes}) == 3
    later = labels_of(source.shuffled(53, seed=3, start=1).take(2))
    np.testing.assert_array_equal(later, first[53:])
    assert source.count() == 53
    arrays = source.arrays(2**20)
    np.testing.assert_array_equal(arrays.images, x)
    np.testing.assert_array_equal(arrays.weights, y + 1)


def test_batches_far_apart_meet_although_the_buffer_is_small(numbered):
    x, y = numbered
    source = open_source(Batches(x, y, 7), memory_budget=8 * 72 * 2)  # a buffer of 2 samples
    ids = labels_of(source.shuffled(53, seed=0).take(8)).reshape(8, 53)
    # With a buffer of two alone sample 52 could only come in the last two positions.
    position = np.argsort(ids, axis=1)[:, 52]
    assert position.min() < 40


def test_one_batch_may_weigh_nothing_but_not_all(numbered):
    x, y = numbered
    source = open_source(Batches(x, np.maximum(y - 8, -1), 7))  # the first 8 weigh 0
    weights = source.arrays(2**20).weights
    np.testing.assert_array_equal(weights, np.maximum(y - 7, 0))
    nothing = open_source(Batches(x, np.full(53, -1), 7))
    with pytest.raises(DataError, match="Every sample of train has the weight 0"):
        nothing.arrays(2**20)


def test_endless():
    source = open_source(Endless())
    assert source.endless and source.arrays(2**40) is None
    assert source.spec.image_shape == (4, 4, 1)
    assert labels_of(source.in_order(4).take(2)).tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
    assert len(labels_of(source.shuffled(8, seed=0).take(3))) == 24


def test_an_odd_batch_is_named(numbered):
    x, y = numbered
    source = open_source(Batches(x, y, 7, spoilt=4))
    with pytest.raises(DataError, match="Batch 4 of train is unlike batch 0"):
        source.arrays(2**20)
    with pytest.raises(DataError, match="is empty"):
        open_source(Batches(x[:0], y, 7))
