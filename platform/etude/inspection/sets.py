"""Opening the sets of a problem: adapted to the model, checked, and compared with train."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude.data._base import Arrays, Source
from etude.errors import DataError
from etude.inspection import checks
from etude.inspection.checks import LabelFacts
from etude.inspection.model import Shape

if TYPE_CHECKING:
    from etude.data import Scan
    from etude.tasks import Task

_OVERLAP_BYTES = 2**30


@dataclasses.dataclass(frozen=True)
class Set:
    """One set of samples, open and looked at.

    Attributes:
        source: The samples.
        arrays: All of them, where they fit in memory.
        scan: What a pass over the images found.
    """

    source: Source
    arrays: Arrays | None
    scan: Scan


@dataclasses.dataclass(frozen=True)
class Opener:
    """How sets are opened.

    Attributes:
        wanted: The shape that the model takes, `None` where it does not say.
        resize: What the user asked for.
        memory_budget: Bytes.
        ignore: The label that counts for nothing.
    """

    wanted: Shape | None
    resize: Any
    memory_budget: int
    ignore: int | None

    def open(
        self, data: Any, name: str, *, labelled: bool = True, finite: bool = False
    ) -> tuple[Set, list[str]]:
        """A set, and what is to be said of it.

        Args:
            data: What the user holds.
            name: What to call it.
            labelled: Whether it needs labels.
            finite: Whether it needs an end, since a part is to be held out.

        Raises:
            DataError: It cannot be read, does not meet the model, or has bad pixels.
        """
        from etude.data import adapt, adapter_for, in_memory, open_source, scan
        from etude.data.streams import endless_error

        resize, notes = self._resize(data, name)
        if self.ignore is not None:
            check_ignore_label(self.ignore)
        source = open_source(
            data,
            name=name,
            resize=resize,
            memory_budget=self.memory_budget,
            labelled=labelled,
            mask_fill=self.ignore,
        )
        source.name = name
        if finite and getattr(source, "endless", False):
            raise endless_error(name, "split")
        if source.size == 0:
            raise checks.empty(name)
        if self.wanted is not None:
            adapter = adapter_for(
                source.spec, self.wanted, resize=resize, mask_fill=self.ignore, name=name
            )
            source = adapt(source, adapter)
        checks.check_spec(source.spec, name, labelled=labelled)
        source = in_memory(source, self.memory_budget)
        arrays = source.arrays(self.memory_budget)
        found = scan(source, arrays, limit_samples=checks.LOOKED_AT)
        if found.samples == 0:
            raise checks.empty(name)
        if found.complete and source.size is None:
            source.counted(found.samples)
        checks.check_pixels(found, name)
        notes += [str(note) for note in getattr(source, "notes", ())]
        if found.constant:
            notes.append(
                f"{found.constant} of {found.samples} {name} images have one value throughout; "
                f"the first is sample {found.first_constant}."
            )
        if not found.complete:
            notes.append(
                f"Of the stream {name}, the first {found.samples} samples were checked, and "
                f"nothing behind them."
            )
        if source.spec.weighted:
            notes.append(
                f"{name} brings a weight for every sample, which the loss is multiplied by."
            )
        return Set(source, arrays, found), notes

    def _resize(self, data: Any, name: str) -> tuple[Any, list[str]]:
        """Folders of images are read at the model's size when nothing else is asked for."""
        wanted = self.wanted
        if self.resize is not None or wanted is None or not isinstance(data, str | Path):
            return self.resize, []
        if (
            None in wanted[:2]
            or str(data).startswith("tfds:")
            or not Path(data).expanduser().is_dir()
        ):
            return None, []
        return (wanted[0], wanted[1]), [
            f"Images of {name} are brought to the model's size, {wanted[0]}x{wanted[1]}."
        ]


def check_ignore_label(ignore: object) -> None:
    """Raises a `DataError` unless the label to ignore is an integer."""
    if not isinstance(ignore, int) or isinstance(ignore, bool):
        raise DataError(
            "`ignore_label` is not a whole number.",
            required="the number that ignored pixels have in the masks, for example 255",
            received=repr(ignore),
            advice="mend or drop `ignore_label`",
        )


def _overlap(train: Arrays | None, other: Arrays | None) -> int:
    """Images in common, where both sets are in memory and small enough to look."""
    if train is None or other is None:
        return 0
    if max(train.images.nbytes, other.images.nbytes) > _OVERLAP_BYTES:
        return 0
    return checks.overlap(train, other)


def compare(
    train: Set, other: Set, labels: LabelFacts | None, task: Task, name: str
) -> tuple[LabelFacts | None, list[str]]:
    """Holds another set against train: shapes, range, labels, classes, common images.

    Args:
        train: The training set.
        other: The other one.
        labels: What is known of train's labels; `None` for a set without labels.
        task: The task.
        name: What the other set is called.

    Returns:
        What is known of its labels, and notes.

    Raises:
        DataError: The sets do not go together.
    """
    checks.check_same(train.source.spec, other.source.spec, name)
    checks.check_same_range(train.scan, other.scan, name)
    notes = []
    if train.scan.checksum == other.scan.checksum and train.scan.complete:
        notes.append(
            f"{name} is the same data as train: what is measured on it says how much was learned "
            f"by heart, not how well the model does on new images."
        )
    else:
        common = _overlap(train.arrays, other.arrays)
        if common:
            notes.append(
                f"{common} of {other.source.size} images of {name} occur in train as well, to the "
                f"last bit."
            )
    if labels is None:
        return None, notes
    found = checks.check_labels(other.source, other.arrays, task)
    return found, notes + checks.check_known(labels, found, task, name)
