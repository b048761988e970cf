"""Numbers and values as people read them, against hand-written lines."""

from __future__ import annotations

import math
from typing import Any

import pytest

from etude.report import text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (10000, "10,000"),
        (0.93124, "0.9312"),
        (1.234e-5, "1.234e-05"),
        (3.0, "3"),
        (12345.6, "12,346"),
        (math.nan, "not a number"),
        (-math.inf, "-infinite"),
    ],
)
def test_number(value: float, expected: str) -> None:
    assert text.number(value) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.004, "0.00 s"),
        (9.99, "9.99 s"),
        (9.999, "10.0 s"),
        (119.9, "119.9 s"),
        (119.99, "2 min 0 s"),
        (750.0, "12 min 30 s"),
        (7199.9, "2 h 0 min"),
        (12000.0, "3 h 20 min"),
        (None, "–"),
        (math.inf, "no limit"),
    ],
)
def test_duration(seconds: float | None, expected: str) -> None:
    assert text.duration(seconds) == expected


@pytest.mark.parametrize(
    ("value", "name", "expected"),
    [
        (None, "", "–"),
        (True, "", "yes"),
        ([28, 28, 1], "image_shape", "28 × 28 × 1"),
        ([None, None, 3], "image_shape", "any × any × 3"),
        ([0, 255], "image_range", "0 to 255"),
        ([850] * 10, "class_counts", "10 × 850"),
        ([5, 6], "class_counts", "5, 6"),
        ([], "", "none"),
        (list(range(20)), "", "0, 1, 2, 3, 4, … 19 (20 in all)"),
        ({"a_b": 1, "c": [1, 2]}, "", "a b 1, c 1, 2"),
        ("as it is", "", "as it is"),
    ],
)
def test_value(value: Any, name: str, expected: str) -> None:
    assert text.value(value, name) == expected


def test_flat_keeps_short_groups_together_and_opens_long_ones() -> None:
    facts = {"short": {"a": 1, "b": 2}, "long": {"first": "x" * 40, "image_shape": [1, 2]}}
    assert list(text.flat(facts)) == [
        ("short", "a 1, b 2"),
        ("long first", "x" * 40),
        ("long image shape", "1 × 2"),
    ]


def test_curve() -> None:
    assert text.curve([0, 1, 2, 3, 4, 5, 6, 7]) == text.BLOCKS
    assert text.curve([0, 7, None, math.inf]) == "▁█··"
    assert text.curve([2.0, 2.0]) == "▁▁"
    assert text.curve([math.nan]) == "·"
    assert text.curve([0, 0, 7, 7], width=2) == "▁█"
    assert text.curve([0, 7, math.nan], ascii_only=True).isascii()


def test_axes_and_curves() -> None:
    assert text.is_axis([0.1, 0.2, 0.3])
    assert text.is_axis([1e-4, 1e-3, 1e-2])
    assert not text.is_axis([1.0, 2.0, 4.0, 9.0])
    assert not text.is_axis([3.0, 2.0, 1.0])
    assert text.is_curve([1, 2, 3, 4, None])
    assert not text.is_curve([1, 2, 3])
    assert not text.is_curve("abcdef")
    assert not text.is_curve([math.nan] * 6)
