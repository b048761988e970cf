"""Sets of TensorFlow Datasets by name: `"tfds:cifar10[train]"`."""

from __future__ import annotations

import dataclasses
import os
import re
from typing import Any

from etude.data.resize import Resize
from etude.data.tfdata import DatasetSource
from etude.errors import DataError

PREFIX = "tfds:"
_PATTERN = re.compile(r"^(?P<name>[\w./:+-]+?)(\[(?P<split>.+)\])?(?P<download>\?download)?$")


@dataclasses.dataclass(frozen=True)
class Address:
    """A parsed name: the set (with config and version), the split, leave to download."""

    name: str
    split: str | None
    download: bool


def parse_address(text: str) -> Address:
    """`"tfds:NAME[/CONFIG][:VERSION][[SPLIT]][?download]"`, in parts.

    Raises:
        DataError: If the text is not of that form.
    """
    match = _PATTERN.match(text.removeprefix(PREFIX))
    if match is None:
        raise DataError(
            "The name of the TFDS set is not understood.",
            required='"tfds:NAME", "tfds:NAME/CONFIG", "tfds:NAME[SPLIT]", '
            'with "?download" at its end to allow the download.',
            received=f"{text!r}.",
            advice='Write for example "tfds:cifar10[train]".',
        )
    return Address(match["name"], match["split"], match["download"] is not None)


def _builder(address: Address) -> Any:
    try:
        import tensorflow_datasets as tfds
        from tensorflow_datasets.core import read_only_builder
    except ImportError as error:
        raise DataError(
            f"The set {PREFIX}{address.name} needs TensorFlow Datasets.",
            required="The package tensorflow-datasets.",
            received=f"{error}.",
            advice="pip install tensorflow-datasets",
        ) from error

    # TFDS reads the variable only when it is imported; here the present value counts.
    folder = os.environ.get("TFDS_DATA_DIR")
    try:
        # From files alone: this neither needs the set's code nor asks the network about it.
        return read_only_builder.builder_from_files(address.name, data_dir=folder)
    except tfds.core.DatasetNotFoundError as error:
        if not address.download:
            looked = folder or tfds.core.constants.DATA_DIR
            raise DataError(
                f"The TFDS set {address.name} is not prepared on this machine.",
                required="A prepared set (or leave to download it).",
                received=f"Nothing of that name in {looked}.",
                advice=f'Pass "{PREFIX}{address.name}?download" to download and prepare it, or '
                "set TFDS_DATA_DIR to the folder where it is.",
            ) from error
    return _downloaded(address, folder)


def _downloaded(address: Address, folder: str | None) -> Any:
    """The builder of a set after its download, which was asked for."""
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(address.name, data_dir=folder)
        builder.download_and_prepare()
    except tfds.core.DatasetNotFoundError as error:
        raise DataError(
            f"TFDS knows no set {address.name}.",
            required="A name from tfds.list_builders().",
            received=f"{address.name!r}.",
            advice="Look the name up at https://www.tensorflow.org/datasets/catalog.",
        ) from error
    except ImportError as error:
        raise DataError(
            f"Preparing the TFDS set {address.name} needs another package.",
            required="The packages that TFDS uses for this set.",
            received=f"{error}.",
            advice=f"pip install {error.name or 'the package named above'}",
        ) from error
    return builder


def _default_split(name: str, splits: list[str]) -> str:
    wanted = name if name in ("test", "validation") else "train"
    if wanted in splits:
        return wanted
    raise DataError(
        f"The TFDS set for {name} has no split {wanted!r}.",
        required=f"One of its splits {splits}.",
        received="No split in the name.",
        advice=f'Name it: "{PREFIX}NAME[{splits[0] if splits else "train"}]".',
    )


def _class_names(builder: Any) -> tuple[str, ...] | None:
    features = builder.info.features
    names = getattr(dict(features).get("label"), "names", None)
    return tuple(names) if names else None


def open_tfds(
    text: str,
    *,
    name: str,
    resize: Resize | None,
    mask_fill: int | None,
    memory_budget: int,
    labelled: bool,
) -> DatasetSource:
    """A prepared TFDS set as a source; the split defaults to the one that `name` asks for.

    Raises:
        DataError: If the set is not prepared, or has no such split.
    """
    address = parse_address(text)
    builder = _builder(address)
    splits = sorted(builder.info.splits)
    split = address.split or _default_split(name, splits)
    try:
        size = int(builder.info.splits[split].num_examples)
        supervised = builder.info.supervised_keys is not None
        dataset = builder.as_dataset(split=split, as_supervised=supervised, shuffle_files=False)
    except (KeyError, ValueError) as error:
        raise DataError(
            f"The TFDS set {address.name} has no split {split!r}.",
            required=f"One of {splits}, or a slice such as train[:90%].",
            received=f"{split!r}.",
            advice=f'Write "{PREFIX}{address.name}[{splits[0] if splits else "train"}]".',
        ) from error
    return DatasetSource(
        dataset,
        name=name,
        resize=resize,
        mask_fill=mask_fill,
        memory_budget=memory_budget,
        labelled=labelled,
        size=size,
        class_names=_class_names(builder),
        notes=(f"{name}: TFDS {builder.info.full_name}, split {split}.",),
    )
