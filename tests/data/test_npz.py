from __future__ import annotations

import numpy as np
import pytest

from etude.data import open_npz, open_source
from etude.errors import DataError


def test_one_part(shared, digits):
    source = open_source(shared / "digits8x8" / "digits.npz", name="anything")
    np.testing.assert_array_equal(source.arrays(2**20).images[..., 0], digits[0])


def test_parts(tmp_path, numbered):
    x, y = numbered
    path = tmp_path / "set.npz"
    np.savez(path, x_train=x, y_train=y, w_train=y + 1.0, test_images=x[:4], test_labels=y[:4])
    parts = open_npz(path)
    assert sorted(parts) == ["test", "train"]
    np.testing.assert_array_equal(parts["test"][1], y[:4])
    assert open_source(str(path)).spec.weighted
    assert open_source(str(path), name="test").size == 4
    with pytest.raises(DataError, match="no part 'validation'"):
        open_source(str(path), name="validation")


def test_bad_files(tmp_path):
    np.savez(tmp_path / "names.npz", a=np.zeros(3))
    with pytest.raises(DataError, match=r"\['a'\]"):
        open_npz(tmp_path / "names.npz")
    np.savez(tmp_path / "objects.npz", x=np.array([1, "a", None], object))
    with pytest.raises(DataError, match="cannot be read"):
        open_npz(tmp_path / "objects.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(DataError, match="cannot be read"):
        open_npz(tmp_path / "text.npz")
    with pytest.raises(DataError, match="cannot be read"):
        open_npz(tmp_path / "absent.npz")


def test_damaged_files_are_refused_wherever_the_damage_is(tmp_path):
    x = np.random.default_rng(0).integers(0, 4, (40, 8, 8)).astype(np.uint8)
    np.savez_compressed(tmp_path / "whole.npz", x=x, y=np.arange(40))
    whole = (tmp_path / "whole.npz").read_bytes()
    open_npz(tmp_path / "whole.npz")
    for length in range(10, len(whole), 97):
        (tmp_path / "cut.npz").write_bytes(whole[:length])
        with pytest.raises(DataError, match="cannot be read"):
            open_npz(tmp_path / "cut.npz")
    for place in range(60, 400, 40):  # within the compressed images
        (tmp_path / "spoilt.npz").write_bytes(
            whole[:place] + bytes([255 - whole[place]]) * 8 + whole[place + 8 :]
        )
        with pytest.raises(DataError, match="cannot be read"):
            open_npz(tmp_path / "spoilt.npz")
