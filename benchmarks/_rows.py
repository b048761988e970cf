"""What benchmarks of pre-training share: runs in pieces, tables, one thread's time, and a set."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from _common import commit, parser

import keras  # isort: skip
import tensorflow as tf
from learning_rate import Split, cifar
from time_to_accuracy import test_part

import etude
from etude.data import Arrays
from etude.data.arrays import ArraySource
from etude.data.feed import Feed
from etude.inspection import backbone as backbones

Row = dict[str, Any]
# That which is measured: a later one may lie in the tree when a run ends.
COMMIT = commit()
# More than any of these sets has, so that all of it lies beside the model.
ALL = 2**33


def options(description: str | None) -> argparse.ArgumentParser:
    """A command line with what all of them take."""
    made = parser(description)
    made.add_argument("--size", type=int, choices=(8, 16, 32), default=32)
    made.add_argument("--width", type=int, default=8)
    made.add_argument("--images", type=int, default=10_000)
    made.add_argument("--batch", type=int, default=128)
    made.add_argument("--busy", action="store_true", help="processor time of one thread")
    made.add_argument("--keep", type=Path, help="a file of rows: read first, then added to")
    made.add_argument("--summarize", action="store_true", help="only what is kept, nothing is run")
    return made


def clock(args: argparse.Namespace) -> Callable[[], float]:
    """Seconds; those of the processor, which then has one thread, where it is busy otherwise."""
    if not args.busy:
        return time.perf_counter
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    return time.process_time


def kept(path: Path | None) -> list[Row]:
    """The rows of a file, if there is one."""
    if path is None or not path.exists():
        return []
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def note(rows: list[Row], row: Row, path: Path | None) -> None:
    """Adds a row, and to the file too."""
    row = {**row, "commit": COMMIT}
    rows.append(row)
    print(json.dumps(row), flush=True)
    if path is not None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def same(row: Mapping[str, Any], args: argparse.Namespace, *names: str) -> bool:
    """Whether a row is of a run with these numbers."""
    return all(row.get(name) == getattr(args, name) for name in names)


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Prints a table in Markdown."""
    for cells in (head, ["---"] * len(head), *lines):
        print("| " + " | ".join(cells) + " |", flush=True)


def photos(args: argparse.Namespace) -> tuple[Split, Split]:
    """CIFAR-10's first images to train, and its test part."""
    return cifar(args.images, 0, args.size)[0], test_part(args.size)


def feed(args: argparse.Namespace) -> Feed:
    """Images without labels, as `etude.pretrain` feeds them."""
    return Feed(ArraySource(Arrays(photos(args)[0][0])), ALL)


def network(args: argparse.Namespace, seed: int = 0) -> keras.Model:
    """A ResNet-9 with its head, at the initial weights of a seed."""
    return etude.models.build("resnet9", (args.size, args.size, 3), 10, width=args.width, seed=seed)


def backbone(args: argparse.Namespace, seed: int = 0) -> Any:
    """The same without its head."""
    return backbones.find(network(args, seed))
