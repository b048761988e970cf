from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import tensorflow as tf

from etude.data import adapt, adapter_for, held_out_indices, open_source, split
from etude.errors import DataError

from_slices = tf.data.Dataset.from_tensor_slices


def labels_of(source):
    return np.concatenate([batch[1].numpy() for batch in source.in_order(16)])


@pytest.mark.parametrize("fraction", [0.05, 0.15, 0.5, 0.9])
@pytest.mark.parametrize("strata_of", [lambda c: c, lambda c: np.char.add("class ", c.astype(str))])
def test_strata_give_their_share(fraction, strata_of):
    counts = np.array([100, 37, 20, 7, 3, 2, 1])
    classes = np.random.default_rng(0).permutation(np.repeat(np.arange(7), counts))
    held = held_out_indices(len(classes), fraction, seed=3, strata=strata_of(classes))
    assert (np.diff(held) > 0).all()
    found = np.bincount(classes[held], minlength=7)
    assert (np.abs(found - fraction * counts) <= 1).all()
    assert (found[:6] >= 1).all() and (found[:6] <= counts[:6] - 1).all() and found[6] == 0


def test_the_draw_is_fair_and_a_function_of_the_seed():
    draws = [held_out_indices(40, 0.25, seed=s) for s in range(400)]
    assert all(len(d) == 10 for d in draws)
    # Each sample is held out 100 of 400 times; sd sqrt(400 * .25 * .75) = 8.7.
    times = np.bincount(np.concatenate(draws), minlength=40)
    assert np.abs(times - 100).max() < 4 * 8.7
    np.testing.assert_array_equal(held_out_indices(40, 0.25, seed=7), draws[7])


def test_arrays_are_split_without_overlap(numbered):
    source = open_source(numbered)
    train, held = split(source, 0.2, seed=0, strata=numbered[1] % 3)
    both = np.concatenate([labels_of(train), labels_of(held)])
    assert np.sort(both).tolist() == list(range(53))
    assert held.size == pytest.approx(53 * 0.2, abs=1.5)
    assert (train.name, held.name) == ("train", "train (held out)")
    images = next(iter(held.in_order(99)))[0].numpy()
    np.testing.assert_array_equal(images[:, 0, 0, 0], labels_of(held))


def test_a_split_of_a_mapped_file_copies_nothing(tmp_path):
    x = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.uint8, (4000, 8, 8, 3))
    x[:] = np.arange(4000).reshape(-1, 1, 1, 1) % 251
    source = open_source((x, np.arange(4000)))
    tracemalloc.start()
    train, held = split(source, 0.25, seed=0)
    assert tracemalloc.get_traced_memory()[1] < x.nbytes / 2
    tracemalloc.stop()
    for part in (train, held):
        images, labels = next(iter(part.shuffled(50, seed=0)))
        np.testing.assert_array_equal(images[:, 0, 0, 0], labels.numpy() % 251)
    assert sorted([*labels_of(train), *labels_of(held)]) == list(range(4000))


def test_parts_of_a_stream_keep_its_memory_budget(numbered):
    source = open_source(from_slices(numbered), memory_budget=8 * 68 * 2)  # a buffer of 2 samples
    for part in split(source, 0.2, seed=0):
        assert "buffer of 2 samples" in part.shuffle


def test_adapted_sources_are_split_inside(numbered):
    source = open_source((numbered[0][..., :1], numbered[1]))
    adapter = adapter_for(source.spec, (4, 5, 3))
    train, held = split(adapt(source, adapter), 0.2, seed=0)
    assert train.spec.image_shape == held.spec.image_shape == (4, 5, 3)
    assert sorted([*labels_of(train), *labels_of(held)]) == list(range(53))


@pytest.mark.parametrize("batched", [False, True])
def test_of_a_stream_every_kth_is_held_out(numbered, batched):
    dataset = from_slices(numbered)
    source = open_source(dataset.batch(8) if batched else dataset)
    train, held = split(source, 0.2, seed=0)
    assert labels_of(held).tolist() == list(range(4, 53, 5))
    assert labels_of(train).tolist() == [i for i in range(53) if i % 5 != 4]
    assert train.count() == 43 and held.count() == 10
    assert "every 5" in held.notes[-1]


def test_what_cannot_be_split_is_said(numbered):
    with pytest.raises(DataError, match="endless"):
        split(open_source(from_slices(numbered).repeat()), 0.2, seed=0)
    with pytest.raises(DataError, match="another order in every pass"):
        split(open_source(from_slices(numbered).shuffle(53)), 0.2, seed=0)
    fixed = from_slices(numbered).shuffle(53, seed=1, reshuffle_each_iteration=False)
    assert split(open_source(fixed), 0.2, seed=0)[1].count() == 10
    one = open_source((numbered[0][:1], numbered[1][:1]))
    with pytest.raises(DataError, match="too small"):
        split(one, 0.5, seed=0)
    with pytest.raises(DataError, match="too small"):
        split(open_source(numbered), 0.2, seed=0, strata=np.arange(53))
    with pytest.raises(DataError, match="too small"):
        split(open_source(from_slices(numbered).take(3)), 0.2, seed=0)
    with pytest.raises(DataError, match="between 0 and 1"):
        split(open_source(numbered), 1.0, seed=0)


def test_folders_are_split_too(tmp_path):
    for index in range(10):
        path = tmp_path / "ab"[index % 2] / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(tf.io.encode_png(np.full((3, 3, 1), index, np.uint8)).numpy())
    for budget in (2**30, 1):
        source = open_source(tmp_path, memory_budget=budget)
        train, held = split(source, 0.2, seed=0, strata=source.labels)
        pixels = [s.arrays(2**20).images[:, 0, 0, 0] for s in (train, held)]
        assert sorted(np.concatenate(pixels).tolist()) == list(range(10))
        assert held.arrays(2**20).labels.tolist() == [0, 1]
        np.testing.assert_array_equal(pixels[1] % 2, [0, 1])
