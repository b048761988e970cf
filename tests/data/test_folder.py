from __future__ import annotations

import io
import tarfile

import numpy as np
import pytest
import tensorflow as tf

from etude.data import open_source, permutation
from etude.errors import DataError


def write(path, image, encode=tf.io.encode_png):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(np.asarray(image)).numpy())


def bmp(image):
    """A 24-bit BMP by hand: bottom-up rows of BGR, padded to four bytes."""
    h, w, _ = image.shape
    row = -(-w * 3 // 4) * 4
    pixels = np.zeros((h, row), np.uint8)
    pixels[:, : w * 3] = image[::-1, :, ::-1].reshape(h, -1)
    head = b"BM" + (54 + h * row).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little")
    numbers = [(40, 4), (w, 4), (h, 4), (1, 2), (24, 2), (0, 4), (h * row, 4)]
    info = b"".join(n.to_bytes(size, "little") for n, size in numbers) + bytes(16)
    return head + info + pixels.tobytes()


@pytest.fixture
def pictures(tmp_path):
    """Three classes, 11 images of 6x7; the red value is the position in reading order."""
    index = 0
    for name, count in (("ant", 5), ("bee", 2), ("cow", 4)):
        for number in range(count):
            image = np.full((6, 7, 3), 20 * index, np.uint8)
            write(tmp_path / "set" / name / f"{number}.png", image)
            index += 1
    (tmp_path / "set" / ".hidden").mkdir()
    (tmp_path / "set" / "ant" / "notes.txt").write_text("no image")
    return tmp_path / "set"


LABELS = [0] * 5 + [1] * 2 + [2] * 4


@pytest.mark.parametrize("budget", [2**30, 1])
def test_class_folders_in_memory_and_from_disk(pictures, budget):
    source = open_source(pictures, memory_budget=budget)
    assert source.size == 11 and source.class_names == ("ant", "bee", "cow")
    assert source.spec.image_shape == (6, 7, 3)
    batches = list(source.in_order(4))
    assert [len(b[0]) for b in batches] == [4, 4, 3]
    assert np.concatenate([b[1] for b in batches]).tolist() == LABELS
    arrays = source.arrays(2**20)
    np.testing.assert_array_equal(arrays.images[:, 5, 6, 0], 20 * np.arange(11))
    assert arrays.labels.tolist() == LABELS
    assert source.arrays(100) is None


def test_files_are_shuffled_perfectly_and_resumed(pictures):
    source = open_source(str(pictures), memory_budget=1)
    order = np.concatenate([permutation(11, 8, e) for e in range(3)])
    reds = np.concatenate([b[0][:, 0, 0, 0] for b in source.shuffled(4, seed=8).take(8)])
    np.testing.assert_array_equal(reds, 20 * order[:32])
    later = np.concatenate([b[0][:, 0, 0, 0] for b in source.shuffled(4, seed=8, start=3).take(5)])
    np.testing.assert_array_equal(later, 20 * order[12:32])


def test_files_are_decoded_once(pictures, monkeypatch):
    from etude.data import decode

    counted = []
    original = decode.decoded

    def counting(content):
        counted.append(1)
        return original(content)

    monkeypatch.setattr(decode, "decoded", counting)
    source = open_source(pictures)
    assert source.arrays(2**20) is source.arrays(2**20) and len(counted) == 11


def test_formats_and_channels(tmp_path):
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (6, 7, 3), np.uint8)
    write(tmp_path / "a" / "1.png", rgb)
    (tmp_path / "a" / "2.bmp").write_bytes(bmp(rgb))
    write(tmp_path / "a" / "3.JPG", np.full((6, 7, 3), 90, np.uint8), tf.io.encode_jpeg)
    write(tmp_path / "b" / "4.png", rgb[..., :1])
    write(tmp_path / "b" / "5.png", np.dstack([rgb, rgb[..., 0]]))
    write(tmp_path / "b" / "6.png", rgb[..., :2])
    expected = [rgb, rgb, np.full((6, 7, 3), 90), *[rgb[..., :1].repeat(3, -1), rgb]]
    expected.append(rgb[..., :1].repeat(3, -1))
    for budget in (2**30, 1):
        images = open_source(tmp_path, memory_budget=budget).arrays(2**20).images
        np.testing.assert_array_equal(images, np.stack(expected))


def test_webp_and_gif(tmp_path):
    image_module = pytest.importorskip("PIL.Image")
    rgb = np.random.default_rng(0).integers(0, 256, (6, 7, 3), np.uint8)
    (tmp_path / "a").mkdir()
    image_module.fromarray(rgb).save(tmp_path / "a" / "1.webp", lossless=True)
    image_module.fromarray(np.full((6, 7), 255, np.uint8)).save(tmp_path / "a" / "2.gif")
    images = open_source(tmp_path).arrays(2**20).images
    np.testing.assert_array_equal(images, [rgb, np.full((6, 7, 3), 255)])


def test_grey_folders_have_one_channel(tmp_path):
    write(tmp_path / "a" / "1.png", np.full((3, 4, 1), 7, np.uint8))
    write(tmp_path / "b" / "2.png", np.full((3, 4, 2), 9, np.uint8))
    source = open_source(tmp_path)
    assert source.spec.image_shape == (3, 4, 1)
    assert source.arrays(2**20).images[:, 0, 0, 0].tolist() == [7, 9]


def test_mixed_sizes_need_a_policy(tmp_path):
    write(tmp_path / "a" / "1.png", np.full((4, 8, 3), 9, np.uint8))
    write(tmp_path / "b" / "2.png", np.full((6, 3, 3), 9, np.uint8))
    with pytest.raises(DataError, match=r"4x8, 6x3.*(?s:.)*resize="):
        open_source(tmp_path)
    for how in ("stretch", "crop", "pad"):
        policy = {"size": (4, 4), "how": how}
        held = open_source(tmp_path, resize=policy).arrays(2**20)
        read = open_source(tmp_path, resize=policy, memory_budget=1).arrays(2**20)
        np.testing.assert_array_equal(held.images, read.images)
        assert (held.images == 9).all() == (how != "pad")
    assert held.images[0, :, 0, 0].tolist() == [0, 9, 9, 0]


def test_all_unreadable_files_are_listed(pictures):
    whole = (pictures / "ant" / "1.png").read_bytes()
    (pictures / "ant" / "1.png").write_bytes(whole[: len(whole) // 2])
    (pictures / "cow" / "x.jpg").write_bytes(b"not an image")
    (pictures / "cow" / "y.png").write_bytes(b"")
    with pytest.raises(DataError, match="3 of the 13 files") as caught:
        open_source(pictures)
    for name in ("ant/1.png", "cow/x.jpg", "cow/y.png"):
        assert name in str(caught.value)


def test_wrong_folders_are_refused_in_words(tmp_path):
    with pytest.raises(DataError, match="not there"):
        open_source(tmp_path / "absent")
    with pytest.raises(DataError, match="no images"):
        open_source(tmp_path)
    write(tmp_path / "1.png", np.zeros((3, 3, 3), np.uint8))
    with pytest.raises(DataError, match="no class folders"):
        open_source(tmp_path)
    assert open_source(tmp_path, labelled=False).size == 1
    write(tmp_path / "a" / "1.png", np.zeros((3, 3, 3), np.uint8))
    assert "1 images outside" in open_source(tmp_path).notes[0]
    (tmp_path / "b").mkdir()
    with pytest.raises(DataError, match="Empty: b"):
        open_source(tmp_path)


def test_parts_of_a_set_are_no_classes(tmp_path):
    for part, role in (("train", "training"), ("Val", "validation"), ("testing", "test")):
        for kind in ("cat", "dog"):
            write(tmp_path / "set" / part / kind / "1.png", np.zeros((3, 3, 3), np.uint8))
        with pytest.raises(DataError, match="parts of a set, not classes") as caught:
            open_source(tmp_path / "set")
        assert f"{tmp_path / 'set' / part} as {role} data" in caught.value.advice
    assert open_source(tmp_path / "set", labelled=False).size == 6
    assert open_source(tmp_path / "set" / "train").class_names == ("cat", "dog")
    write(tmp_path / "set" / "bus" / "1.png", np.zeros((3, 3, 3), np.uint8))
    assert open_source(tmp_path / "set").class_names == ("Val", "bus", "testing", "train")


def test_other_folders_beside_images_and_masks_are_left_aside(tmp_path):
    for index in range(3):
        for folder in ("images", "masks", "previews"):
            write(tmp_path / folder / f"{index}.png", np.full((3, 4, 1), index, np.uint8))
    source = open_source(tmp_path)
    assert source.size == 3 and source.spec.label_shape == (3, 4)
    assert "previews" in source.notes[0] and source.class_names is None
    assert open_source(tmp_path, labelled=False).size == 3


@pytest.mark.parametrize("masked", [False, True])
def test_originals_are_let_go_of_when_they_are_stacked(tmp_path, monkeypatch, masked):
    """Nobody holds what was decoded beside the array that it was copied into."""
    from etude.data import decode, folder

    found = []

    def kept(*args, **options):
        found.append(decode.decode_all(*args, **options))
        return found[-1]

    monkeypatch.setattr(folder, "decode_all", kept)
    for index in range(4):
        image = np.full((3, 4, 3 if index else 4), index, np.uint8)
        write(tmp_path / ("images" if masked else "a") / f"{index}.png", image)
        write(tmp_path / ("masks" if masked else "b") / f"{index}.png", image[..., :1])
    held = open_source(tmp_path).arrays(2**20)
    wholes = [held.images, held.labels] if masked else [held.images]
    assert len(found) == len(wholes)
    for decoded, whole in zip(found, wholes, strict=True):
        assert all(np.shares_memory(image, whole) for image in decoded.images)


@pytest.mark.parametrize("budget", [2**30, 1])
def test_classes_are_renumbered(pictures, budget):
    source = open_source(pictures, memory_budget=budget)
    table, names = np.array([2, 0, 4]), ("bee", "dog", "ant", "eel", "cow")
    changed = source.renumbered(table, names)
    expected = [{"ant": 2, "bee": 0, "cow": 4}[("ant", "bee", "cow")[label]] for label in LABELS]
    assert changed.labels.tolist() == changed.arrays(2**20).labels.tolist() == expected
    assert np.concatenate([b[1] for b in changed.in_order(4)]).tolist() == expected
    assert changed.class_names == names and source.labels.tolist() == LABELS
    np.testing.assert_array_equal(changed.arrays(2**20).images, source.arrays(2**20).images)


@pytest.mark.parametrize("budget", [2**30, 1])
def test_images_and_masks(tmp_path, budget):
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (3, 4, 6, 3), np.uint8)
    masks = rng.integers(0, 900, (3, 4, 6)).astype(np.uint16)
    for number in range(3):
        write(tmp_path / "images" / f"{number}.png", images[number])
        write(tmp_path / "masks" / f"{number}.png", masks[number][..., None])
    source = open_source(tmp_path, memory_budget=budget)
    assert source.spec.label_shape == (4, 6) and source.spec.label_dtype == "uint16"
    arrays = source.arrays(2**20)
    np.testing.assert_array_equal(arrays.images, images)
    np.testing.assert_array_equal(arrays.labels, masks)
    # Nearest at double size repeats every pixel.
    double = open_source(tmp_path, memory_budget=budget, resize=(8, 12)).arrays(2**20)
    np.testing.assert_array_equal(double.labels, masks.repeat(2, 1).repeat(2, 2))
    with pytest.raises(DataError, match="padded part"):
        open_source(tmp_path, resize={"size": (8, 8), "how": "pad"})
    padded = open_source(tmp_path, resize={"size": (6, 6), "how": "pad"}, mask_fill=999)
    labels = padded.arrays(2**20).labels
    np.testing.assert_array_equal(labels[:, 1:5], masks)
    assert (labels[:, [0, 5]] == 999).all()


def test_wrong_masks_are_refused(tmp_path):
    write(tmp_path / "images" / "a.png", np.zeros((4, 6, 3), np.uint8))
    write(tmp_path / "masks" / "b.png", np.zeros((4, 6, 1), np.uint8))
    with pytest.raises(DataError, match=r"images/a.png, masks/b.png"):
        open_source(tmp_path)
    (tmp_path / "masks" / "b.png").unlink()
    write(tmp_path / "masks" / "a.png", np.zeros((4, 5, 1), np.uint8))
    with pytest.raises(DataError, match=r"image \(4, 6\), mask \(4, 5\)"):
        open_source(tmp_path)
    write(tmp_path / "masks" / "a.png", np.zeros((4, 6, 3), np.uint8))
    with pytest.raises(DataError, match="3 channels"):
        open_source(tmp_path)
    write(tmp_path / "masks" / "a.png", np.zeros((4, 6, 1), np.uint8), tf.io.encode_jpeg)
    with pytest.raises(DataError, match="JPEG changes labels"):
        open_source(tmp_path)


def test_real_photographs(shared, tmp_path):
    with tarfile.open(shared / "imagenette224" / "imagenette224.tar") as archive:
        names = [n for n in archive.getnames() if n.startswith("val/") and n.endswith("EG")]
        names = sorted(names)[::60]
        archive.extractall(tmp_path, members=[archive.getmember(n) for n in names], filter="data")
        blob = archive.extractfile(names[0]).read()
    source = open_source(tmp_path / "val", resize=(64, 96))
    assert source.spec.image_shape == (64, 96, 3) and source.size == len(names) == 5
    pil = pytest.importorskip("PIL.Image")
    picture = pil.open(io.BytesIO(blob)).convert("RGB").resize((96, 64), pil.Resampling.BILINEAR)
    # Another decoder and another implementation of antialiased bilinear: equal to about a level.
    found = source.arrays(2**30).images[0].astype(float)
    assert np.abs(found - np.asarray(picture)).mean() < 1.5
