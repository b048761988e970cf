"""Opening the sets of a problem: adapted to the model, checked, and compared with train."""

from __future__ import annotations

import dataclasses
import operator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

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
        steady: Whether every pass brings the same samples in the same order, as far as seen.
    """

    source: Source
    arrays: Arrays | None
    scan: Scan
    steady: bool = True


@dataclasses.dataclass(frozen=True)
class Opener:
    """How sets are opened.

    Attributes:
        wanted: The shape that the model takes, `None` where it does not say.
        resize: What the user asked for.
        memory_budget: Bytes.
        ignore: The label that counts for nothing, with which maps of labels are padded.
    """

    wanted: Shape | None
    resize: Any
    memory_budget: int
    ignore: int | None

    def open(
        self,
        data: Any,
        name: str,
        *,
        labelled: bool = True,
        finite: str = "",
        class_names: tuple[str, ...] | None = None,
        beside: Shape | None = None,
    ) -> tuple[Set, list[str]]:
        """A set, and what is to be said of it.

        Args:
            data: What the user holds.
            name: What to call it.
            labelled: Whether it needs labels.
            finite: What is to be done with it that needs an end, for example `"split"`.
            class_names: The names of train's classes, by which its own are numbered.
            beside: The shape of the images that its own go beside, to whose size they are brought.

        Raises:
            DataError: It cannot be read, does not meet the model, or has bad pixels.
        """
        from etude.data import adapt, adapter_for, in_memory, open_source, scan
        from etude.data.streams import endless_error

        resize, notes = self._resize(data, name)
        if resize is None and beside is not None and None not in beside[:2]:
            resize = beside[0], beside[1]
        source = open_source(
            data,
            name=name,
            resize=resize,
            memory_budget=self.memory_budget,
            labelled=labelled,
            mask_fill=self.ignore,
        )
        source.name = name
        if finite and source.endless:
            raise endless_error(name, finite)
        if source.size == 0:
            raise checks.empty(name)
        if self.wanted is not None:
            adapter = adapter_for(
                source.spec, self.wanted, resize=resize, mask_fill=self.ignore, name=name
            )
            source = adapt(source, adapter)
        checks.check_spec(source.spec, name, labelled=labelled)
        if labelled and class_names and source.class_names:
            source, more = numbered_alike(source, class_names, name)
            notes += more
        unsteady = _steadiness(source, self.memory_budget, name)
        notes += unsteady
        source = in_memory(source, self.memory_budget)
        arrays = source.arrays(self.memory_budget)
        found = scan(source, arrays, limit_samples=checks.LOOKED_AT)
        if found.samples == 0:
            raise checks.empty(name)
        if found.complete and source.size is None:
            source.counted(found.samples)
        if finite and source.size is None:
            source.count()  # what has no end is refused now, not after the training
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
        if source.size is None and not source.endless:
            notes.append(
                f"The stream {name} does not say how many samples it has: it is read once to count "
                f"them, which dataset.apply(tf.data.experimental.assert_cardinality(n)) saves."
            )
        if source.spec.weighted:
            notes.append(
                f"{name} brings a weight for every sample, which the loss is multiplied by."
            )
        return Set(source, arrays, found, steady=not unsteady), notes

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


def ignored_label(ignore: Any) -> int | None:
    """The label to ignore as a plain number; `None` for none.

    Raises:
        DataError: It is not an integer.
    """
    if ignore is None:
        return None
    try:
        if isinstance(ignore, bool):
            raise TypeError("a bool")
        return operator.index(ignore)
    except TypeError as error:
        raise DataError(
            "`ignore_label` is not a whole number.",
            required="the number that ignored pixels have in the masks, for example 255",
            received=repr(ignore),
            advice="mend or drop `ignore_label`",
        ) from error


def padding(task: Any, ignore: int | None) -> int | None:
    """With what maps of labels are padded: the label to ignore, and 0 for depth, which is none."""
    from etude.tasks import task_class

    if ignore is None and task is not None and task_class(task).name == "depth":
        return 0
    return ignore


def numbered_alike(source: Source, names: tuple[str, ...], name: str) -> tuple[Source, list[str]]:
    """A source with its classes numbered as train's, and a note where train has more of them.

    Folders number the classes that they hold: one that lacks a class numbers those behind it
    otherwise than train does.

    Args:
        source: A source that knows the names of its classes.
        names: The names of train's classes, in the order of their numbers.
        name: What the set is called.

    Raises:
        DataError: It has classes that train lacks, or its labels cannot be changed.
    """
    own = source.class_names or ()
    if own == names:
        return source, []
    missing = [each for each in names if each not in own]
    extra = [each for each in own if each not in names]
    if extra:
        lacks = f", and lacks {', '.join(missing)}" if missing else ""
        raise DataError(
            f"The classes of train and {name} differ in name.",
            required=f"the classes of train, or some of them: {', '.join(names)}",
            received=f"{name} has {', '.join(extra)}, which train lacks{lacks}",
            advice="give the folders (or classes) the same names in all sets, or take those that "
            "train lacks out",
        )
    table = np.asarray([names.index(each) for each in own], np.int64)
    return source.renumbered(table, names), [f"The classes of {name} are numbered as in train."]


def _steadiness(source: Source, memory_budget: int, name: str) -> list[str]:
    """Looks whether a stream is the same in every pass, so that holding one of them is fair.

    One that brings other samples in every pass (random augmentation) is marked as such, and
    from then on read anew for every epoch.
    """
    from etude.data.adapter import innermost
    from etude.data.folder import FolderSource
    from etude.data.streams import StreamSource, passes_differ

    stream = innermost(source)
    if not isinstance(stream, StreamSource) or isinstance(stream, FolderSource):
        return []
    held = source.arrays(memory_budget) is not None
    # The stream itself where it is held: adapting must not blur what is compared.
    looked = source if held and stream.arrays(memory_budget) is None else stream
    how = "contents" if stream.varies else passes_differ(looked, memory_budget if held else 0)
    if how == "contents":
        stream.vary()
        return [
            f"{name} brings other samples in every pass (random augmentation): it is read anew "
            f"in every pass and not held in memory. A killed run goes on with other draws."
        ]
    if how == "order":
        return [
            f"{name} comes in another order in every pass (here it is shuffled anyway): a killed "
            f"run goes on in another order; where validation data are held out of it, it does not "
            f"go on. Leave its own shuffle out."
        ]
    if how == "either":
        return [
            f"Two passes over {name} begin with different samples (shuffled, or changed by "
            f"chance): a killed run goes on with others; where validation data are held out of "
            f"it, it does not go on."
        ]
    return []


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
    notes = checks.check_same_range(train.scan, other.scan, name)
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
    known = checks.check_known(labels, found, task, name, train.source.class_names)
    return found, notes + known + checks.check_empty(found, name)
