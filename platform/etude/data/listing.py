"""What lies in a folder of images: class folders, or images with masks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from etude.data.decode import EXTENSIONS
from etude.errors import DataError

_PARTS = {"train", "training", "val", "valid", "validation", "test", "testing"}

LAYOUT = "One folder for each class with images in it, or the folders images/ and masks/."


@dataclasses.dataclass(frozen=True)
class Listing:
    """The files of a set.

    Attributes:
        images: Image files, sorted by class and name.
        labels: Class numbers of the images, or empty.
        masks: Mask files of the images, or empty.
        class_names: Names of the class folders, sorted, or empty.
        notes: What was left aside.
    """

    images: tuple[Path, ...]
    labels: tuple[int, ...] = ()
    masks: tuple[Path, ...] = ()
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def _images_in(folder: Path, *, deep: bool = False) -> list[Path]:
    found = folder.rglob("*") if deep else folder.iterdir()
    return sorted(
        path
        for path in found
        if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".") and path.is_file()
    )


def list_folder(folder: Path, *, name: str, labelled: bool) -> Listing:
    """The images of a folder, with the labels that its structure gives.

    Args:
        folder: The folder.
        name: What messages call the set.
        labelled: Whether labels are wanted; if not, every image below the folder counts.

    Raises:
        DataError: If the folder is absent, or not laid out as a labelled set.
    """
    if not folder.is_dir():
        raise DataError(
            f"The folder of {name} does not exist.",
            required=LAYOUT,
            received=f"{folder}, which is {'a file' if folder.exists() else 'not there'}.",
            advice="Look at the path; TFDS sets are written tfds:NAME.",
        )
    children = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if {"images", "masks"} <= {child.name for child in children}:
        listing = _segmentation(folder, name=name, labelled=labelled)
        others = [child.name for child in children if child.name not in ("images", "masks")]
        if not others:
            return listing
        note = f"{name}: the folders {', '.join(others)} beside images/ and masks/ were left aside."
        return dataclasses.replace(listing, notes=(note,))
    if not labelled:
        images = _images_in(folder, deep=True)
        if not images:
            raise _nothing(folder, name)
        return Listing(tuple(images))
    if children and {child.name.lower() for child in children} <= _PARTS:
        raise _parts_not_classes(folder, children, name)
    return _classes(folder, children, name=name)


def _parts_not_classes(folder: Path, children: list[Path], name: str) -> DataError:
    parts = [child.name for child in children]
    return DataError(
        f"The folder of {name} holds parts of a set, not classes.",
        required=LAYOUT,
        received=f"{folder} with the folders {', '.join(parts)}.",
        advice="Pass each part by itself: the folder "
        + "; ".join(f"{folder / part} as {_role(part)} data" for part in parts)
        + ".",
    )


def _role(part: str) -> str:
    """What a part of this name is passed as."""
    low = part.lower()
    return "training" if low.startswith("train") else "test" if low[0] == "t" else "validation"


def _nothing(folder: Path, name: str) -> DataError:
    files = sorted({p.suffix.lower() or "no ending" for p in folder.rglob("*") if p.is_file()})
    return DataError(
        f"There are no images in the folder of {name}.",
        required=f"Files that end in {', '.join(EXTENSIONS)}.",
        received=f"{folder} with {'files ending in ' + ', '.join(files) if files else 'no files'}.",
        advice="Look at the path, or convert the images.",
    )


def _classes(folder: Path, children: list[Path], *, name: str) -> Listing:
    loose = _images_in(folder)
    by_class = {child: _images_in(child, deep=True) for child in children}
    if not any(by_class.values()) and not loose:
        raise _nothing(folder, name)
    if not children or (loose and not any(by_class.values())):
        raise DataError(
            f"The folder of {name} has no class folders.",
            required=LAYOUT,
            received=f"{folder} with {len(loose)} images directly in it.",
            advice="Make one folder for each class; images without labels go to unlabeled=.",
        )
    empty = [child.name for child, images in by_class.items() if not images]
    if empty:
        raise DataError(
            f"{len(empty)} class folders of {name} hold no images.",
            required=f"At least one image ({', '.join(EXTENSIONS)}) in every class folder.",
            received=f"Empty: {', '.join(empty)}.",
            advice="Fill or remove these folders; else the classes would be numbered wrongly.",
        )
    notes: tuple[str, ...] = ()
    if loose:
        notes = (f"{name}: {len(loose)} images outside the class folders were left aside.",)
    return Listing(
        images=tuple(path for images in by_class.values() for path in images),
        labels=tuple(number for number, found in enumerate(by_class.values()) for _ in found),
        class_names=tuple(child.name for child in children),
        notes=notes,
    )


def _by_stem(paths: Iterable[Path], what: str, name: str) -> dict[str, Path]:
    stems: dict[str, Path] = {}
    for path in paths:
        if path.stem in stems:
            raise DataError(
                f"Two {what} of {name} have the same stem.",
                required="One file for each stem.",
                received=f"{stems[path.stem].name} and {path.name}.",
                advice="Remove one of them.",
            )
        stems[path.stem] = path
    return stems


def _segmentation(folder: Path, *, name: str, labelled: bool) -> Listing:
    images = _by_stem(_images_in(folder / "images"), "images", name)
    if not images:
        raise _nothing(folder / "images", name)
    if not labelled:
        return Listing(tuple(images.values()))
    masks = _by_stem(_images_in(folder / "masks"), "masks", name)
    alone = [f"images/{images[stem].name}" for stem in sorted(images.keys() - masks.keys())]
    alone += [f"masks/{masks[stem].name}" for stem in sorted(masks.keys() - images.keys())]
    if alone:
        raise DataError(
            f"{len(alone)} images or masks of {name} have no counterpart.",
            required="For every images/STEM.* one masks/STEM.*",
            received=", ".join(alone[:50]) + (" ..." if len(alone) > 50 else "") + ".",
            advice="Add or remove files until the stems agree.",
        )
    return Listing(tuple(images.values()), masks=tuple(masks[stem] for stem in images))
