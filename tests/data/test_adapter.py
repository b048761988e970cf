from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from etude.data import AdaptedSource, Adapter, adapt, adapter_for, open_source
from etude.data.resize import Resize, resize_images, resize_masks
from etude.errors import DataError


def test_what_fits_is_left_alone(numbered):
    source = open_source(numbered)
    adapter = adapter_for(source.spec, (None, None, 3))
    assert adapter.identity and adapt(source, adapter) is source
    assert adapter_for(source.spec, (4, 5, 3), resize=(4, 5)).identity


def test_one_channel_becomes_three(digits):
    x, y = digits[0][:300], digits[1][:300]
    source = open_source((x, y))
    adapter = adapter_for(source.spec, (8, 8, 3))
    assert "repeated 3 times" in adapter.describe()
    adapted = adapt(source, adapter)
    arrays = adapted.arrays(2**30)
    for channel in range(3):
        np.testing.assert_array_equal(arrays.images[..., channel], x)
    assert adapted.spec.image_shape == (8, 8, 3) and arrays.images.dtype == x.dtype
    np.testing.assert_array_equal(arrays.labels, y)
    for mine, plain in (
        (adapted.in_order(64), source.in_order(64)),
        (adapted.shuffled(64, seed=1).take(5), source.shuffled(64, seed=1).take(5)),
    ):
        for a, b in zip(mine, plain, strict=True):
            np.testing.assert_array_equal(a[0], np.repeat(b[0], 3, -1))
            np.testing.assert_array_equal(a[1], b[1])
    assert mine.element_spec[0].shape.as_list() == [None, 8, 8, 3]


def test_memory_and_caching(numbered):
    x, y = numbered
    source = open_source((x[..., :1], y))
    adapted = adapt(source, adapter_for(source.spec, (4, 5, 3)))
    size = 53 * (4 * 5 * 3 + 8)
    assert adapted.arrays(size - 1) is None
    assert adapted.arrays(size) is adapted.arrays(size)
    # Made smaller, images fit where the originals do not.
    small = AdaptedSource(open_source(numbered), Adapter(resize=Resize(2, 2)))
    assert small.arrays(53 * (2 * 2 * 3 + 8)).images.shape == (53, 2, 2, 3)


def test_masks_go_with_their_images():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (5, 4, 6, 3), np.uint8)
    masks = rng.random((5, 4, 6)) < 0.5
    source = open_source((x, masks), resize=(8, 12))
    assert source.spec.label_shape == (8, 12) and "nearest" in source.adapter.describe()
    expected = masks.repeat(2, 1).repeat(2, 2)
    arrays = source.arrays(2**20)
    np.testing.assert_array_equal(arrays.labels, expected)
    assert arrays.labels.dtype == bool
    batch = next(iter(source.in_order(5)))
    np.testing.assert_array_equal(batch[1], expected)
    np.testing.assert_array_equal(batch[0], arrays.images)
    with pytest.raises(DataError, match="padded part"):
        open_source((x, masks), resize={"size": (8, 8), "how": "pad"})


@pytest.mark.parametrize("how", ["pad", "crop"])
@pytest.mark.parametrize(("height", "width"), [(6, 9), (12, 8), (7, 7), (5, 12)])
def test_images_and_masks_share_one_geometry(how, height, width):
    # An image of two halves and its mask: the edge stays in the same place in both.
    halves = np.zeros((1, height * 4, width * 4, 1), np.float32)
    halves[:, :, width * 2 :] = 1
    policy = Resize(16, 20, how)
    image = resize_images(tf.constant(halves), policy).numpy()[0, ..., 0]
    mask = resize_masks(tf.constant(halves.astype(np.uint8)[..., 0]), policy, fill=9).numpy()[0]
    assert image.shape == mask.shape == (16, 20)
    inside = mask != 9
    if how == "crop":
        assert inside.all()
    else:  # the padding is zero, and as even as it can be
        assert (image[~inside] == 0).all()
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        for found, extent in ((rows, 16), (columns, 20)):
            assert abs(found[0] - (extent - 1 - found[-1])) <= 1
        ratio = min(16 / height, 20 / width)
        assert (len(rows), len(columns)) == (round(height * ratio), round(width * ratio))
    sure = inside & (np.abs(image - 0.5) > 0.3)
    np.testing.assert_array_equal(mask[sure], image[sure] > 0.5)


def test_resized_integers_are_rounded_and_stay_in_range():
    x = np.zeros((1, 2, 2, 1), np.uint8)
    x[:, :, 1] = 255
    out = resize_images(tf.constant(x), Resize(2, 4)).numpy()[0, 0, :, 0]
    # Half-pixel centres: weights 0, 1/4, 3/4, 1 of 255.
    assert out.tolist() == [0, 64, 191, 255]


def test_what_cannot_fit_is_said(numbered):
    spec = open_source(numbered).spec
    with pytest.raises(DataError, match=r"\(8, 8, 3\).*(?s:.)*resize=\(8, 8\)"):
        adapter_for(spec, (8, 8, 3))
    with pytest.raises(DataError, match="Build the model for these channels"):
        adapter_for(spec, (4, 5, 1))
    with pytest.raises(DataError, match="do not fit"):
        adapter_for(spec, (8, 8, 3), resize=(9, 9))
    words = adapter_for(spec, (8, 8, 3), resize=(8, 8)).describe()
    assert words == "images are resized to 8x8 (stretched)"
