"""Data sets and networks by the names that the command line takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from etude import models
from etude.data import open_npz, open_source
from etude.errors import DataError, ModelError
from etude.saving import load_model
from etude.tasks import task_class
from etude.tasks.depth import known, looks_like_depth

if TYPE_CHECKING:
    import keras

    from etude.data import Source

PACKAGED = "fashion_mnist"
"""The set that comes with the package."""

_BATCH = 256
_CLASSES = 1024  # more numbers in masks than these are depths, or a mistake


@dataclasses.dataclass(frozen=True)
class Sets:
    """The sets of a command.

    Attributes:
        train: What is trained on.
        validation: What is chosen by; `None` holds a part of `train` out.
        test: What is touched once, at the end, if anything.
        unlabeled: Images without labels, if any.
    """

    train: Source
    validation: Source | None = None
    test: Source | None = None
    unlabeled: Source | None = None


def open_sets(
    data: str,
    validation: str | None = None,
    test: str | None = None,
    unlabeled: str | None = None,
    resize: tuple[int, int] | None = None,
) -> Sets:
    """The sets by name. A set that brings its own validation or test part serves them too.

    Args:
        data: `fashion_mnist`, `tfds:NAME[SPLIT]`, an `.npz` file or a folder.
        validation: The same kinds, for the validation data.
        test: The same kinds, for the test data.
        unlabeled: The same kinds, for images without labels.
        resize: `(height, width)` to bring all images to.

    Raises:
        DataError: A set is not there or cannot be read.
    """
    brought = _parts(data)
    named = {"validation": validation, "test": test}
    for part in named:
        if named[part] is None and part in brought:
            named[part] = data

    def opened(text: str | None, part: str, labelled: bool = True) -> Source | None:
        if text is None:
            return None
        value = _packaged(part) if text == PACKAGED else _existing(text)
        return open_source(value, name=part, resize=resize, labelled=labelled)

    train = opened(data, "train")
    assert train is not None
    return Sets(
        train,
        opened(named["validation"], "validation"),
        opened(named["test"], "test"),
        opened(unlabeled, "unlabeled", labelled=False),
    )


def _parts(text: str) -> set[str]:
    """The parts that a set brings of itself, besides what to train on."""
    if text == PACKAGED:
        return {"test"}
    path = Path(text).expanduser()
    if text.lower().endswith(".npz") and path.is_file():
        return set(open_npz(path))
    return set()


def _packaged(part: str) -> tuple[Any, Any]:
    from etude.data import fashion_mnist

    train, test = fashion_mnist.load()
    return test if part == "test" else train


def _existing(text: str) -> str:
    if not text.startswith("tfds:") and not Path(text).expanduser().exists():
        raise DataError(
            f"There are no data called {text!r}.",
            required=f"{PACKAGED}, tfds:NAME, an .npz file or a folder that is there",
            received=text,
            advice="mend the name",
        )
    return text


def model_maker(
    name: str | None,
    train: Source,
    *,
    width: int | None = None,
    seed: int | None = None,
    task: str | None = None,
    ignore_label: int | None = None,
) -> Callable[[], keras.Model]:
    """A function that makes the network, each time with the same initial weights.

    Args:
        name: A name of `etude.models.MODELS`, a `.keras` file, or `None` for `dispnet` where
            labels are depth, `unet` where they are masks and `resnet9` elsewhere. A `dispnet` has
            the range of the labels, and a tenth more.
        train: Gives image shape and number of classes.
        width: Channels of the first convolution, for networks by name.
        seed: Seed of the initial weights, for networks by name.
        task: The task that was asked for; `binary` takes one output.
        ignore_label: A label that is no class.

    Raises:
        ModelError: There is no such network or file, or the image size is not known.
    """
    if name is not None and name.endswith(".keras"):
        return _stored(name, width)
    shape = train.spec.image_shape
    if None in shape:
        raise ModelError(
            "The images differ in size, so a network cannot be built for them.",
            required="images of one size",
            received=f"images of shape {shape}",
            advice="add --resize=HEIGHTxWIDTH",
        )
    deep = _is_depth(train, task, ignore_label)
    maps = "dispnet" if deep else "unet"
    chosen = name or (maps if len(train.spec.label_shape or ()) >= 2 else "resnet9")
    options: dict[str, Any] = {} if width is None else {"width": width}
    sizes = tuple(int(size) for size in shape if size is not None)
    if chosen == "dispnet":
        options |= depth_range(train, ignore_label)
    single = deep or chosen == "dispnet" or (task or "").startswith("binary")
    classes = 1 if single else count_outputs(train, ignore_label)
    return lambda: models.build(chosen, sizes, classes, seed=seed, **options)


def _is_depth(train: Source, task: str | None, ignore_label: int | None) -> bool:
    """Whether labels are depth maps, as was said or as the first ones look."""
    if task is not None:
        return task_class(task).name == "depth"
    if len(train.spec.label_shape or ()) < 2:
        return False
    for batch in train.in_order(_BATCH).as_numpy_iterator():
        return looks_like_depth(np.asarray(batch[1]), ignore_label)
    return False


def depth_range(train: Source, ignore_label: int | None = None) -> dict[str, float]:
    """The range of a `dispnet` for these labels: nine tenths of the least, and a tenth more.

    Reads the labels once.

    Raises:
        DataError: There is no depth among them.
    """
    least, greatest = np.inf, 0.0
    for batch in train.in_order(_BATCH).as_numpy_iterator():
        labels = np.asarray(batch[1])
        depths = labels[known(labels, ignore_label)]
        if depths.size:
            least, greatest = min(least, float(depths.min())), max(greatest, float(depths.max()))
    if greatest == 0.0:
        raise DataError(
            "The labels hold no depth.",
            required="maps with numbers above 0",
            received=f"labels of shape {train.spec.label_shape} without one",
            advice="mend the labels, or take another network by --model",
        )
    return {"nearest": 0.9 * least, "farthest": 1.1 * greatest}


def _stored(path: str, width: int | None) -> Callable[[], keras.Model]:
    if width is not None:
        raise ModelError(
            "--width does not change a stored model.",
            required=f"--width with one of {sorted(models.MODELS)}",
            received=f"--model={path} --width={width}",
            advice="leave --width out",
        )
    if not Path(path).is_file():
        raise ModelError(
            "The model is not there.",
            required="a .keras file",
            received=path,
            advice="mend --model",
        )

    def load() -> keras.Model:
        try:
            return load_model(path)
        except (TypeError, ValueError, OSError) as error:
            raise ModelError(
                f"Keras cannot load {path}.",
                required="a model that `etude.load_model` loads by itself",
                received=(str(error).strip().splitlines() or [type(error).__name__])[0],
                advice="for a model with classes of your own, call `etude.fit` from Python",
            ) from error

    return load


def count_outputs(train: Source, ignore_label: int | None = None) -> int:
    """How many outputs a network for these labels needs.

    The number of classes where labels are integers (the greatest label + 1), the length of
    a label where it is one-hot or multi-hot. Reads the labels once.

    Raises:
        DataError: There are no labels, or they are no class numbers.
    """
    spec = train.spec
    names = getattr(train, "class_names", None)
    if names:
        return len(names)
    shape = spec.label_shape
    if shape is None or np.dtype(spec.label_dtype).kind not in "buif":
        raise DataError(
            "A network cannot be built for these labels.",
            required="class numbers, one-hot or multi-hot labels, or masks",
            received=f"labels of type {spec.label_dtype}" if shape is not None else "no labels",
            advice="mend the labels, or pass a .keras file by --model",
        )
    if len(shape) in (1, 3) and shape[-1] is not None and shape[-1] > 1:
        return int(shape[-1])
    greatest, black_and_white = 0, len(shape) >= 2
    for batch in train.in_order(_BATCH).as_numpy_iterator():
        labels = batch[1]
        counted = labels if ignore_label is None else labels[labels != ignore_label]
        if counted.size and np.isfinite(counted).all():
            greatest = max(greatest, int(counted.max()))
            black_and_white = black_and_white and bool(((counted == 0) | (counted == 255)).all())
    if black_and_white and greatest == 255:
        raise DataError(
            "The masks hold 0 and 255 alone.",
            required="class numbers from 0 on",
            received="the values 0 and 255 in masks, as images in black and white have them",
            advice="divide the masks by 255, so that they hold 0 and 1 (or, where 255 is no class, "
            "pass --ignore_label=255)",
        )
    if len(shape) >= 2 and greatest > _CLASSES:
        raise DataError(
            f"The masks hold numbers up to {greatest}.",
            required=f"at most {_CLASSES} classes, numbered from 0 on",
            received=f"{greatest} in labels of shape {shape} and type {spec.label_dtype}",
            advice="for depth pass --task=depth; where that number is no class, pass "
            "--ignore_label; for so many classes pass a .keras file by --model",
        )
    return greatest + 1
