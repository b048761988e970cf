from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from etude.data import open_source, scan


def oracle(images):
    flat = images.reshape(-1, images.shape[-1]).astype(np.float64)
    return flat.min(0), flat.max(0), flat.mean(0), flat.std(0)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32", "float16"])
@pytest.mark.parametrize("resident", [True, False])
def test_statistics_are_those_of_numpy(monkeypatch, dtype, resident):
    monkeypatch.setattr("etude.data.scanning._CHUNK_VALUES", 1000)
    rng = np.random.default_rng(0)
    images = (rng.normal((60, 120, 5), (9, 30, 1), (150, 5, 6, 3)).clip(0, 255)).astype(dtype)
    source = open_source((images, np.arange(150)))
    found = scan(source, source.arrays(2**30) if resident else None)
    expected = oracle(images)
    for name, value in zip(("minimum", "maximum", "mean", "std"), expected, strict=True):
        np.testing.assert_allclose(getattr(found, name), value, rtol=1e-9)
    assert (found.min, found.max) == (expected[0].min(), expected[1].max())
    assert (found.samples, found.complete, found.constant) == (150, True, 0)


def test_real_digits(digits):
    source = open_source(digits)
    found = scan(source, source.arrays(2**30))
    # Published: numbers from 0 to 16.
    assert (found.min, found.max) == (0, 16)
    assert found.mean[0] == pytest.approx(digits[0].mean())


def test_what_is_broken_is_named():
    images = np.random.default_rng(0).random((300, 4, 4, 3)).astype(np.float32)
    clean = oracle(np.delete(images, [70, 90, 91], axis=0))
    images[90, 1, 2, 0] = np.nan
    images[91] = np.nan
    images[70] = np.inf
    source = open_source((images, np.zeros(300)))
    found = scan(source, None)
    assert (found.first_nan, found.first_inf) == (90, 70)
    assert np.isfinite([*found.mean, *found.std, found.min, found.max]).all()
    np.testing.assert_allclose(found.mean, clean[2], rtol=1e-2)
    images[5], images[200] = 0.5, [0.1, 0.2, 0.3]
    found = scan(source, source.arrays(2**30))
    assert (found.constant, found.first_constant) == (3, 5)  # 5, 70 (infinite throughout), 200


def test_a_stream_is_looked_at_up_to_the_limit(numbered):
    x, y = numbered
    dataset = tf.data.Dataset.from_tensor_slices((x, y))
    source = open_source(dataset.filter(lambda *_: True))
    found = scan(source, None, limit_samples=20)
    assert (found.samples, found.complete, found.max) == (20, False, 19)
    whole = scan(source, None, limit_samples=54)
    assert (whole.samples, whole.complete) == (53, True)
    endless = scan(open_source(dataset.repeat()), None, limit_samples=100)
    assert (endless.samples, endless.complete) == (100, False)


def test_the_checksum_is_one_of_contents(numbered, monkeypatch):
    x, y = numbered

    def checksum(data, resident=True):
        source = open_source(data)
        return scan(source, source.arrays(2**30) if resident else None).checksum

    first = checksum((x, y))
    assert checksum((x.copy(), y), resident=False) == first
    assert checksum(tf.data.Dataset.from_tensor_slices((x, y)).batch(7), resident=False) == first
    monkeypatch.setattr("etude.data.scanning._CHUNK_VALUES", 100)
    assert checksum((x, y)) == first
    changed = x.copy()
    changed[52, 3, 4, 2] += 1
    others = [(changed, y), (x, y[::-1]), (x, y, y + 1.0), (x[:-1], y[:-1]), (x.astype(int), y)]
    others.append((x.reshape(53, 5, 4, 3), y))
    sums = {checksum(other) for other in others}
    assert first not in sums and len(sums) == len(others)
    words = np.array(["a", "bb"] * 26 + ["c"])
    assert checksum((x, words)) == checksum((x, words.astype("U9")))
    assert checksum((x, words)) != checksum((x, words[::-1].copy()[[1, 0, *range(2, 53)]]))
