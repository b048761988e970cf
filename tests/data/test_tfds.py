from __future__ import annotations

import importlib.resources.abc
import sys

import numpy as np
import pytest

from etude.data import open_source
from etude.data._tfds import Address, parse_address
from etude.errors import DataError

tfds = pytest.importorskip("tensorflow_datasets")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A set of 24 training and 6 test images, and one of masks, on disk."""
    # Writing (not reading) a set makes TFDS import a backport that it does not always declare.
    sys.modules.setdefault("importlib_resources", importlib.resources)
    folder = tmp_path_factory.mktemp("tfds")
    x = np.arange(30, dtype=np.uint8)[:, None, None, None] + np.zeros((30, 4, 4, 3), np.uint8)

    def store(name, features, key, value):
        def rows(first, last):
            return [(i, {"image": x[i], key: value(i)}) for i in range(first, last)]

        tfds.dataset_builders.store_as_tfds_dataset(
            name=name,
            version="1.0.0",
            features=tfds.features.FeaturesDict(
                {"image": tfds.features.Image(shape=(4, 4, 3)), key: features}
            ),
            split_datasets={"train": rows(0, 24), "test": rows(24, 30)},
            data_dir=folder,
            disable_shuffling=True,
        )

    labels = tfds.features.ClassLabel(names=["ant", "bee", "cow"])
    store("tiny_pictures", labels, "label", lambda i: i % 3)
    masks = tfds.features.Image(shape=(4, 4, 1))
    store("tiny_masks", masks, "segmentation_mask", lambda i: x[i, ..., :1] % 5)
    return folder


@pytest.fixture
def tfds_folder(prepared, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    return prepared


def test_addresses():
    assert parse_address("tfds:cifar10") == Address("cifar10", None, False)
    assert parse_address("tfds:a/b:1.0.0[train[:80%]]?download") == Address(
        "a/b:1.0.0", "train[:80%]", True
    )
    with pytest.raises(DataError, match="not understood"):
        parse_address("tfds:")


def test_a_prepared_set_by_name(tfds_folder):
    source = open_source("tfds:tiny_pictures")
    assert source.size == 24 and source.class_names == ("ant", "bee", "cow")
    arrays = source.arrays(2**20)
    order = arrays.images[:, 0, 0, 0]
    assert sorted(order.tolist()) == list(range(24))
    np.testing.assert_array_equal(arrays.labels, order % 3)
    assert open_source("tfds:tiny_pictures", name="test").size == 6
    assert open_source("tfds:tiny_pictures[train[:50%]]").size == 12


def test_masks_by_name(tfds_folder):
    arrays = open_source("tfds:tiny_masks[test]").arrays(2**20)
    np.testing.assert_array_equal(arrays.labels, arrays.images[..., :1] % 5)


def test_what_is_absent_is_said(tfds_folder):
    with pytest.raises(DataError, match=r"tfds:cifar10\?download") as caught:
        open_source("tfds:cifar10")
    assert str(tfds_folder) in str(caught.value)
    with pytest.raises(DataError, match=r"\['test', 'train'\]"):
        open_source("tfds:tiny_pictures", name="validation")
    with pytest.raises(DataError, match="no split 'spring'"):
        open_source("tfds:tiny_pictures[spring]")


def test_a_download_of_nothing_known_is_refused(tfds_folder):
    with pytest.raises(DataError, match="knows no set no_such_pictures"):
        open_source("tfds:no_such_pictures?download")
