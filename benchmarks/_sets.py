"""What `no_harm.py` trains on: small problems of different kinds, each with a figure to go by."""

from __future__ import annotations

import csv
import dataclasses
import importlib.util
import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _common  # noqa: F401  (first: it keeps TensorFlow quiet)
import keras
import numpy as np

import etude
from etude.data import fashion_mnist

PACK = Path(__file__).resolve().parents[2] / "shared" / "data"
# Pixels a side: the pictures of both have over 220, which two slow cores cannot afford.
NUCLEI, IMAGENETTE = 64, 64
Array = np.ndarray[Any, Any]
Split = tuple[Array, Array]


@dataclasses.dataclass(frozen=True)
class Case:
    """Data, a network and a figure.

    Attributes:
        train: Images, uint8, and labels.
        test: The same, of images that no arm sees before the end.
        build: Makes the network at the initial weights of a seed.
        score: The entry of a report's outcome that arms are compared by: in 0..1, and more is
            better.
    """

    train: Split
    test: Split
    build: Callable[[int], keras.Model]
    score: str = "test_accuracy"


def fashion() -> Case:
    """10,000 images to train, 5,000 to test, a small network."""
    train, test = fashion_mnist.load()

    def build(seed: int) -> keras.Model:
        return etude.models.build("small_cnn", (28, 28, 1), 10, seed=seed)

    return Case(train, test, build)


def digits() -> Case:
    """1,297 images of 8 × 8 to train, 500 to test."""
    data = np.load(PACK / "digits8x8" / "digits.npz")
    x = (data["x"].reshape(-1, 8, 8, 1).astype("int32") * 16).clip(0, 255).astype("uint8")
    y = data["y"].astype("int64")
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[:1297], order[1297:]

    def build(seed: int) -> keras.Model:
        return etude.models.build("small_cnn", (8, 8, 1), 10, seed=seed)

    return Case((x[train], y[train]), (x[test], y[test]), build)


def nuclei() -> Case:
    """Is a pixel of a nucleus? 267 microscope images to train, 67 to test, a narrow U-Net.

    The score is the mean, over nucleus and background, of intersection over union, which is also
    what a run chooses its best weights by.
    """
    parts: dict[str, tuple[list[Array], list[Array]]] = {"train": ([], []), "val": ([], [])}
    with tarfile.open(PACK / "nuclei256" / "nuclei256.tar") as pack:
        for name in pack.getnames():
            part, *rest = name.split("/")
            if rest and rest[0] == "images":
                instances = picture(pack, name.replace("images", "instances"))
                parts[part][0].append(reduced(picture(pack, name), NUCLEI))
                # A pixel is of the class that most of its area is.
                share = reduced(255 * (instances > 0).astype("uint8"), NUCLEI)
                parts[part][1].append((share > 127).astype("uint8"))
    train, test = (
        (np.stack(images)[..., None], np.stack(masks)[..., None])
        for images, masks in parts.values()
    )

    def build(seed: int) -> keras.Model:
        return etude.models.build("unet", (NUCLEI, NUCLEI, 1), 1, width=8, depth=2, seed=seed)

    return Case(train, test, build, "test_mean_iou")


def pretrained() -> Case:
    """Fine-tuning: an ImageNet network as a whole, with a new head, on 1,000 photos of 10 kinds.

    EfficientNet-Lite0 has its batch normalization folded into the kernels, and scales 0..255 by
    itself. The kinds are of ImageNet, and so are the photos, many of its training part: the score
    on the 300 for the test compares arms, and says nothing of pictures that are really new.
    """
    parts: dict[str, tuple[list[Array], list[int]]] = {"train": ([], []), "val": ([], [])}
    with tarfile.open(PACK / "imagenette224" / "imagenette224.tar") as pack:
        table = pack.extractfile("labels.csv")
        assert table is not None
        for row in csv.DictReader(io.TextIOWrapper(table, encoding="utf-8")):
            parts[row["split"]][0].append(reduced(picture(pack, row["path"]), IMAGENETTE))
            parts[row["split"]][1].append(int(row["label"]))
    train, test = (
        (np.stack(images), np.array(labels, "int64")) for images, labels in parts.values()
    )
    return Case(train, test, fine_tuned)


def photos() -> Case:
    """20,000 images of CIFAR-10 at 16 × 16 to train, 10,000 to test, a ResNet-9 of width 8."""
    from learning_rate import cifar
    from time_to_accuracy import test_part

    def build(seed: int) -> keras.Model:
        return etude.models.build("resnet9", (16, 16, 3), 10, width=8, seed=seed)

    return Case(cifar(20_000, 0, 16)[0], test_part(16), build)


def sequences() -> Case:
    """MNIST by an LSTM on the rows of its images: most are soon learned, and few matter."""
    from augmentation_search import mnist

    def build(seed: int) -> keras.Model:
        keras.utils.set_random_seed(seed)
        layers = keras.layers
        stack = [layers.Input((28, 28, 1)), layers.Rescaling(1 / 255), layers.Reshape((28, 28))]
        return keras.Sequential([*stack, layers.LSTM(128), layers.Dense(10)])

    x, y = mnist("train")
    return Case((x[:20_000], y[:20_000]), mnist("t10k"), build)


def enlarged(images: Array, side: int) -> Array:
    """Images of so many pixels a side, between their own by lines: uint8."""
    from PIL import Image

    size, how = (side, side), Image.Resampling.BILINEAR
    return np.stack([np.asarray(Image.fromarray(image).resize(size, how)) for image in images])


def fine_tuned(seed: int, side: int = IMAGENETTE) -> keras.Model:
    """The pack's network for smaller images, with a head of a seed."""
    loader = PACK / "efficientnet-lite0" / "load_efficientnet_lite0.py"
    spec = importlib.util.spec_from_file_location(loader.stem, loader)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    given = module.build(features_only=True)
    # It is made for 224 × 224, but all before its global pooling is convolution.
    inputs = keras.Input((side, side, 3), name="images")
    backbone = keras.models.clone_model(given, input_tensors=inputs)
    backbone.set_weights(given.get_weights())
    initial = keras.initializers.GlorotUniform(seed=seed)
    head = keras.layers.Dense(10, kernel_initializer=initial, name="head")
    return keras.Model(inputs, head(backbone.output), name="fine_tuned")


def picture(pack: tarfile.TarFile, name: str) -> Any:
    """A member of an archive, decoded: uint8, `(height, width[, channels])`."""
    from PIL import Image

    member = pack.extractfile(name)
    assert member is not None
    return np.asarray(Image.open(io.BytesIO(member.read())))


def reduced(picture: Array, size: int) -> Array:
    """The means of a picture's pixels over boxes: uint8, `(size, size[, channels])`."""
    from PIL import Image

    small = Image.fromarray(picture).resize((size, size), Image.Resampling.BOX)
    return np.asarray(small)


SETS: dict[str, Callable[[], Case]] = {
    "fashion": fashion,
    "digits": digits,
    "nuclei": nuclei,
    "pretrained": pretrained,
    "photos": photos,
    "sequences": sequences,
}
