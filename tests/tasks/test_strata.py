"""Strata of masks: those of a loop over samples, found without a copy of all masks."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from etude.tasks import Evidence, choose
from etude.tasks import semantic_segmentation as module


def task_of(masks, classes, ignore):
    evidence = Evidence(
        label_shape=masks.shape[1:],
        label_dtype=masks.dtype.name,
        labels=masks[:4],
        output_shape=(*masks.shape[1:3], classes),
        logits=True,
        image_shape=(*masks.shape[1:3], 3),
        ignore=ignore,
        activation=None,
        loss=None,
    )
    return choose(evidence, "semantic_segmentation")


def by_a_loop(masks, classes, ignore):
    """The rarest class of each mask, by Python sets; the lowest of several as rare."""
    shown = [{int(c) for c in np.unique(mask) if c != ignore} for mask in masks]
    often = {c: sum(c in each for each in shown) for c in range(classes)}
    return [min(each, key=lambda c: (often[c], c)) if each else classes for each in shown]


@pytest.mark.parametrize("ignore", [None, 255, 0])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int64", "float32"])
@pytest.mark.parametrize("block", [1, 3 * 24, 2**24])
def test_the_rarest_class_of_each_mask(monkeypatch, ignore, dtype, block):
    monkeypatch.setattr(module, "_STRATA_BYTES", block)
    rng = np.random.default_rng(0)
    masks = np.minimum(rng.geometric(0.45, (50, 4, 6)) - 1, 4).astype(dtype)
    masks[masks == 4] = rng.integers(0, 4, masks.shape)[masks == 4]
    masks[7] = 3 if ignore is None else ignore
    if ignore == 255:
        masks[:, 0] = 255
    found = task_of(masks, 4, ignore).strata(masks)
    assert found.tolist() == by_a_loop(masks, 4, ignore) and found.dtype == np.int64


@pytest.mark.parametrize("block", [1, 2**24])
def test_two_classes_go_by_their_share(monkeypatch, block):
    monkeypatch.setattr(module, "_STRATA_BYTES", block)
    masks = np.zeros((40, 4, 10), np.uint8)
    for index in range(40):
        masks[index].reshape(-1)[:index] = 1
    order = np.random.default_rng(0).permutation(40)
    found = task_of(masks, 1, None).strata(masks[order])
    assert found.tolist() == (order // 10).tolist()


@pytest.mark.parametrize("classes", [1, 12])
def test_memory_does_not_grow_with_the_set(monkeypatch, classes):
    monkeypatch.setattr(module, "_STRATA_BYTES", 2**16)
    masks = np.random.default_rng(0).integers(0, max(2, classes), (600, 64, 64)).astype(np.uint8)
    task = task_of(masks, classes, 255)
    tracemalloc.start()
    task.strata(masks)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < masks.nbytes / 2
