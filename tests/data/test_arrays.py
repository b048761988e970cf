from __future__ import annotations

import tracemalloc

import keras
import numpy as np
import pytest
import tensorflow as tf

from etude.data import in_memory, open_source, permutation
from etude.errors import DataError

from ..fresh import modules_after


def column(dataset, part=1):
    return [batch[part].numpy().tolist() for batch in dataset]


def test_importing_the_room_imports_no_tensorflow():
    loaded = modules_after("import etude.data")
    assert "etude.data" in loaded
    assert loaded & {"tensorflow", "keras"} == set()
    # It comes with the first batch.
    use = "etude.data.open_source(numpy.zeros((4, 2, 2, 1)), labelled=False).in_order(2)"
    assert "tensorflow" in modules_after(f"import numpy, etude.data; {use}")


def test_public_names_are_there():
    import etude.data

    for name in etude.data.__all__:
        assert getattr(etude.data, name).__name__ == name
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = etude.data.nothing_of_the_kind


def test_real_images_come_through_unchanged(digits):
    x, y = digits
    source = open_source((x, y))
    assert (source.size, source.spec.image_shape) == (1797, (8, 8, 1))
    assert source.spec.label_shape == () and source.spec.label_dtype == y.dtype.name
    arrays = source.arrays(2**30)
    np.testing.assert_array_equal(arrays.images[..., 0], x)
    np.testing.assert_array_equal(arrays.labels, y)
    images = np.concatenate([batch[0].numpy() for batch in source.in_order(500)])
    np.testing.assert_array_equal(images, arrays.images)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x, y: (x, y),
        lambda x, y: (x.tolist(), y.tolist()),
        lambda x, y: (tf.constant(x), tf.constant(y)),
        lambda x, y: (keras.ops.convert_to_tensor(x), y),
        lambda x, y: {"x": x, "y": y},
        lambda x, y: {"image": x, "label": y},
        lambda x, y: (x, y, None),
        lambda x, y: (x.astype(">u2"), y.astype(">i4")),
    ],
)
def test_every_way_to_hold_arrays(numbered, wrap):
    x, y = numbered
    source = open_source(wrap(x, y))
    arrays = source.arrays(2**20)
    np.testing.assert_array_equal(arrays.images, x)
    np.testing.assert_array_equal(arrays.labels, y)
    assert arrays.images.dtype.isnative and not source.spec.weighted
    assert column(source.in_order(20)) == [list(range(20)), list(range(20, 40)), [*range(40, 53)]]


def test_dtypes(numbered):
    x, y = numbered

    def image_dtype(images):
        return open_source(images, labelled=False).spec.image_dtype

    assert image_dtype(x.astype(np.float64)) == "float32"
    assert image_dtype(x.astype(np.float16)) == "float16"
    assert image_dtype(tf.cast(x, tf.bfloat16)) == "float32"
    assert image_dtype(x.astype(np.int64)) == "int64"
    assert image_dtype(x > 3) == "uint8"
    assert open_source((x, x[..., 0] > 9)).spec.label_dtype == "bool"
    words = open_source((x, [f"class {i}" for i in y]))
    assert words.spec.label_dtype == "str"
    assert next(iter(words.in_order(2)))[1].numpy().tolist() == [b"class 0", b"class 1"]


def test_unlabelled_leaves_labels_out(numbered):
    source = open_source(numbered, labelled=False)
    assert not source.spec.labelled and len(next(iter(source.in_order(4)))) == 1
    with pytest.raises(DataError, match="no labels"):
        open_source(numbered[0])


def test_a_shuffled_epoch_is_the_permutation(numbered):
    x, y = numbered
    source = open_source((x, y, y + 1.0))
    order = np.concatenate([permutation(53, 3, epoch) for epoch in range(3)])
    images, labels, weights = (
        np.concatenate([b[i].numpy() for b in source.shuffled(10, seed=3).take(15)])
        for i in range(3)
    )
    np.testing.assert_array_equal(labels, order[:150])
    np.testing.assert_array_equal(images[:, 0, 0, 0], order[:150])
    np.testing.assert_array_equal(weights, order[:150] + 1)
    later = np.concatenate(column(source.shuffled(10, seed=3, start=7).take(8)))
    np.testing.assert_array_equal(later, order[70:150])
    assert source.shuffled(10, seed=3).element_spec[0].shape.as_list() == [None, 4, 5, 3]


def test_limits(numbered):
    source = open_source(numbered)
    bytes_held = 53 * (4 * 5 * 3 + 8)
    assert source.arrays(bytes_held) is not None and source.arrays(bytes_held - 1) is None
    assert in_memory(source, 0) is source


def test_mapped_files_stay_on_disk(tmp_path, numbered):
    np.save(tmp_path / "x.npy", numbered[0])
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    source = open_source((mapped, numbered[1]))
    assert np.shares_memory(source.arrays(2**20).images, mapped)


def test_parts_of_mapped_files_stay_on_disk(tmp_path, numbered):
    x, y = numbered
    mapped = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", x.dtype, x.shape)
    mapped[:] = x
    odd = open_source((mapped, y, y + 1.0)).subset(np.arange(1, 53, 2), name="odd")
    part = odd.subset(np.array([4, 0, 25]), name="part")
    assert (odd.size, part.size, part.name) == (26, 3, "part")
    assert odd.arrays(26 * (60 + 12) - 1) is None
    # What is written to the file afterwards is seen: neither part is a copy of it.
    mapped[9, 0, 0, 0] = 200
    images, labels, weights = (value.numpy() for value in next(iter(part.in_order(5))))
    assert labels.tolist() == [9, 1, 51] == part.labels.tolist() and weights.tolist() == [10, 2, 52]
    assert images[:, 0, 0, 0].tolist() == [200, 1, 51]
    assert [block.tolist() for block in part.label_blocks(16)] == [[9, 1], [51]]
    held = part.arrays(3 * (60 + 12))
    assert held is part.arrays(2**20) and held.labels.tolist() == [9, 1, 51]
    assert part.arrays(3 * (60 + 12) - 1) is None
    assert not np.shares_memory(held.images, mapped)
    np.testing.assert_array_equal(held.images, mapped[[9, 1, 51]])


@pytest.mark.parametrize("dtype", ["float64", "bool", ">u2"])
def test_mapped_files_of_odd_types_are_converted_batch_by_batch(tmp_path, numbered, dtype):
    x, y = numbered
    mapped = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.dtype(dtype), x.shape)
    mapped[:] = x
    tracemalloc.start()
    source = open_source((mapped, y))
    assert tracemalloc.get_traced_memory()[1] < mapped.nbytes / 2
    tracemalloc.stop()
    expected = {"float64": "float32", "bool": "uint8", ">u2": "uint16"}[dtype]
    assert source.spec.image_dtype == expected
    each = 60 * np.dtype(expected).itemsize + 8
    assert source.arrays(53 * each - 1) is None
    batch = next(iter(source.in_order(7)))[0].numpy()
    assert batch.dtype == expected
    np.testing.assert_array_equal(batch, x[:7] > 0 if dtype == "bool" else x[:7])
    held = source.arrays(53 * each).images
    assert held.dtype == expected and held.dtype.isnative
    np.testing.assert_array_equal(held, x > 0 if dtype == "bool" else x)


X = np.zeros((6, 4, 4, 3), np.uint8)
Y = np.arange(6)


def generator():
    yield X, Y


BAD = {
    "generator": (generator, "from_generator"),
    "none": (lambda: None, "missing"),
    "no labels in tuple": (lambda: (X, None), "no labels"),
    "features": (lambda: (np.zeros((6, 12)), Y), r"\(6, 12\)"),
    "five axes": (lambda: (X[None], Y), "5 axes"),
    "one image": (lambda: (np.zeros((32, 32, 3)), Y), "one single image"),
    "ragged": (lambda: ([np.zeros((4, 4)), np.zeros((5, 4))], [0, 1]), r"sample 1 has \(5, 4\)"),
    "ragged labels": (lambda: (X[:2], [[1], [1, 2]]), r"labels.*sample 1 has \(2,\)"),
    "ragged tensor": (lambda: (tf.ragged.constant([[[1]], [[1, 2]]]), [0, 1]), "not of one shape"),
    "empty": (lambda: (X[:0], Y[:0]), "no images"),
    "no pixels": (lambda: (X[:, :0], Y), "no images"),
    "fewer labels": (lambda: (X, Y[:5]), "6 labels, one for each image"),
    "scalar label": (lambda: (X, 3), "6 labels"),
    "fewer weights": (lambda: (X, Y, np.ones(5)), "6 sample weights"),
    "pixel weights": (lambda: (X, Y, np.ones((6, 4, 4))), r"Shape \(6,\)"),
    "negative weight": (lambda: (X, Y, [1, 1, 1, -1, 1, 1]), "Sample 3 of train"),
    "nan weight": (lambda: (X, Y, [1, np.nan, 1, 1, 1, 1]), "Sample 1 of train"),
    "zero weights": (lambda: (X, Y, np.zeros(6)), "Every sample"),
    "text images": (lambda: (["a", "b"], [0, 1]), "not numbers"),
    "nested": (lambda: ((X, Y), (X, Y)), "itself a tuple"),
    "four parts": (lambda: (X, Y, Y, Y), "not understood"),
    "unknown keys": (lambda: {"a": X, "b": Y}, r"\['a', 'b'\]"),
    "two candidates": (lambda: {"x": X, "image": X, "y": Y}, "several candidates"),
    "dict labels": (lambda: (X, {"boxes": Y}), "itself a dict"),
    "complex": (lambda: (X.astype(complex), Y), "not numbers"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_data_is_refused_in_words(case):
    make, words = BAD[case]
    data = make()
    with pytest.raises(DataError, match=f"(?s){words}") as caught:
        open_source(data)
    assert caught.value.advice and caught.value.required


def test_a_table_is_refused():
    pandas = pytest.importorskip("pandas")
    with pytest.raises(DataError, match="to_numpy"):
        open_source((pandas.DataFrame(np.zeros((6, 4))), Y))


@pytest.mark.parametrize(
    "resize", [3, (1, 2, 3), (0, 4), {"how": "pad"}, {"size": (4, 4), "how": "x"}]
)
def test_bad_policies_are_refused(resize):
    with pytest.raises(DataError, match="policy"):
        open_source((X, Y), resize=resize)
