from __future__ import annotations

from itertools import pairwise

import keras
import numpy as np
import pytest
import tensorflow as tf

from etude.data import Arrays, id_stream, ids_in_order, open_source, permutation
from etude.data.arrays import ArraySource
from etude.data.resident import Resident
from etude.errors import DataError

N = 1000
EPOCHS = 200


@pytest.fixture(scope="module")
def orders():
    return np.stack([permutation(N, 5, epoch) for epoch in range(EPOCHS)])


def take(dataset, steps):
    return [batch.numpy() for batch in dataset.take(steps)]


@pytest.mark.parametrize("seed", ["a", 1.5, None, True])
def test_a_seed_that_is_no_integer_is_refused(seed):
    with pytest.raises(DataError, match="The seed is not a whole number"):
        permutation(N, seed, 0)
    assert permutation(N, np.int32(5), 3).tolist() == permutation(N, 5, 3).tolist()


def test_every_epoch_is_a_permutation_of_its_own(orders):
    assert orders.dtype == np.int64
    assert (np.sort(orders, axis=1) == np.arange(N)).all()
    assert len({order.tobytes() for order in orders}) == EPOCHS


def test_seed_and_epoch_alone_decide(orders):
    tf.random.set_seed(99)
    np.testing.assert_array_equal(permutation(N, 5, 7), orders[7])
    assert (permutation(N, 6, 7) != orders[7]).any()
    assert permutation(4, -3, 0).tolist() == permutation(4, -3, 0).tolist()


def test_neighbouring_epochs_are_uncorrelated(orders):
    # Under independence the correlation of two permutations has sd 1/sqrt(n-1) = .032, and the
    # mean of 199 of them .0022; index_shuffle had .757.
    pairs = [np.corrcoef(a, b)[0, 1] for a, b in pairwise(orders)]
    assert abs(np.mean(pairs)) < 4 / np.sqrt(N - 1) / np.sqrt(len(pairs))
    assert np.std(pairs) == pytest.approx(1 / np.sqrt(N - 1), rel=0.2)


def test_batch_means_have_the_spread_of_drawing_without_replacement(orders):
    batch = 50
    means = orders.reshape(EPOCHS, N // batch, batch).mean(axis=2)
    variance = (N**2 - 1) / 12 / batch * (N - batch) / (N - 1)
    # 4000 means: their sd is known to about 1.2 %.
    assert means.std() == pytest.approx(np.sqrt(variance), rel=0.05)


def test_positions_and_ids_are_independent(orders):
    # 20x20 table of (block of positions, block of ids): chi-square / df near 1, sd sqrt(2/df).
    blocks = 20
    table = np.zeros((blocks, blocks))
    position = np.arange(N) * blocks // N
    for order in orders:
        np.add.at(table, (position, order * blocks // N), 1)
    expected = EPOCHS * N / blocks**2
    df = (blocks - 1) ** 2
    chi = ((table - expected) ** 2 / expected).sum() * (N - 1) / N
    assert abs(chi / df - 1) < 5 * np.sqrt(2 / df)


@pytest.mark.parametrize(("n", "batch"), [(10, 3), (7, 7), (3, 8), (1, 2)])
def test_the_stream_is_the_concatenated_permutations(n, batch):
    steps = 9
    epochs = -(-steps * batch // n)
    expected = np.concatenate([permutation(n, 2, e) for e in range(epochs)])[: steps * batch]
    stream = id_stream(n, batch, 2)
    assert stream.element_spec == tf.TensorSpec((None,), tf.int64)
    np.testing.assert_array_equal(np.concatenate(take(stream, steps)), expected)


@pytest.mark.parametrize("start", [1, 3, 5, 10, 1000])
def test_a_start_is_the_same_stream_further_on(start):
    whole = take(id_stream(10, 3, 4).skip(start), 6)
    np.testing.assert_array_equal(take(id_stream(10, 3, 4, start), 6), whole)


def test_ids_in_order():
    assert [ids.tolist() for ids in take(ids_in_order(7, 3), 9)] == [[0, 1, 2], [3, 4, 5], [6]]


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return np.zeros((4, 4, 4, 1), np.uint8), np.zeros(4, np.int64)


def test_no_pipeline_is_tuned():
    """A tuned pipeline's thread makes giving the iterator back wait, up to a minute."""
    arrays = Arrays(np.zeros((8, 4, 4, 1), np.uint8), np.zeros(8, np.int64))
    stream = tf.data.Dataset.from_tensor_slices((arrays.images, arrays.labels))
    mapped = stream.map(lambda x, y: (x, y), num_parallel_calls=tf.data.AUTOTUNE)
    sources = [ArraySource(arrays), open_source(mapped), open_source(Batches())]
    for data in [*sources, Resident(arrays)]:
        assert data.shuffled(4, seed=0).options().autotune.enabled is False
        assert data.in_order(4).options().autotune.enabled is False
    assert tf.data.Dataset.range(3).map(lambda i: i).options().autotune.enabled is not False


def test_a_stream_of_nothing_is_refused():
    with pytest.raises(ValueError, match="n=0"):
        id_stream(0, 3, 0)
