"""Beam search against functions whose best configuration is known."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from etude_metalearners import beam
from etude_metalearners.beam import Config

OPTIONS = (1, 2, 3)


def scores(loss: Callable[[Config], float], noise: float = 0.0) -> Callable[[Config], np.ndarray]:
    """Losses of 200 samples with a given mean; `noise` is what a configuration has of its own."""
    common = np.random.default_rng(0).normal(size=200)
    common -= common.mean()

    def score(config: Config) -> np.ndarray:
        own = np.random.default_rng(abs(hash(config)) % 2**32).normal(size=200)
        return loss(config) + common + noise * (own - own.mean())

    return score


def separable(config: Config) -> float:
    """Each stage has its own share of the loss: off, 1, 2, 3."""
    parts = ((0.0, -0.3), (0.0, 0.2, -0.1), (0.0, -0.1, -0.4, 0.3))
    return sum(part[option] for part, option in zip(parts, config, strict=True))


def found(nodes: list[beam.Node]) -> Config:
    return nodes[beam.chosen(nodes)].config


@pytest.mark.parametrize("width", [1, 2, 4])
def test_stages_that_do_not_depend_on_each_other_are_all_found(width: int) -> None:
    nodes = beam.search(OPTIONS, scores(separable, 0.01), width=width)
    best = min(itertools.product(*(range(n + 1) for n in OPTIONS)), key=separable)
    assert best == (1, 2, 2)
    assert found(nodes) == best
    assert nodes[0].config == (0, 0, 0)
    assert len({node.config for node in nodes}) == len(nodes)  # nothing is tried twice


def together(config: Config) -> float:
    """The first two stages harm by themselves, and help together."""
    first, second, _ = config
    if first and second == 1:
        return -0.5
    return 0.1 * bool(first) + 0.1 * bool(second) + 0.02 * second


def test_what_helps_only_together_needs_a_beam() -> None:
    assert found(beam.search(OPTIONS, scores(together, 0.01), width=1)) == (0, 0, 0)
    assert found(beam.search(OPTIONS, scores(together, 0.01), width=2)) == (1, 1, 0)


def test_or_a_beginning_which_has_it_on() -> None:
    nodes = beam.search(OPTIONS, scores(together, 0.01), width=1, first=[(1, 1, 1)])
    assert found(nodes) == (1, 1, 0)


def test_a_difference_within_chance_is_not_adopted() -> None:
    """Off by a tenth of a standard error: ties stay off."""
    nodes = beam.search(OPTIONS, scores(lambda config: -0.007 * bool(config[0]), 1.0))
    assert found(nodes) == (0, 0, 0)
    assert not any(node.adopted for node in nodes[1:])


def test_what_makes_no_difference_is_taken_away_again() -> None:
    def loss(config: Config) -> float:
        return -0.5 * bool(config[1]) - 1e-4 * bool(config[0])

    nodes = beam.search((1, 1), scores(loss, 0.02), first=[(1, 1)], width=1)
    assert found(nodes) == (0, 1)


def test_of_two_strengths_that_cannot_be_told_apart_the_weaker_stands() -> None:
    def loss(config: Config) -> float:
        return (0.0, -0.5, -0.5003, -0.5006)[config[0]]

    for first in ([], [(2,)], [(3,)], [(1,), (3,)]):
        assert found(beam.search((3,), scores(loss, 0.02), first=first)) == (1,)


@pytest.mark.parametrize(("gain", "best"), [(0.0, (1, 0)), (0.003, (1, 0)), (0.1, (0, 1))])
def test_of_two_beginnings_the_second_must_be_better_beyond_chance(
    gain: float, best: Config
) -> None:
    """A standard error of a difference is 0.02 √(2 / 200) = 0.002."""

    def loss(config: Config) -> float:
        return 0.0 if config == (0, 0) else -0.5 - gain * (config == (0, 1))

    nodes = beam.search(
        (1, 1), scores(loss, 0.02), first=[(1, 0), (0, 1)], enough=lambda nodes: len(nodes) >= 3
    )
    assert found(nodes) == best
    assert nodes[2].base == 1


def test_a_beginning_after_one_that_does_not_help_need_only_beat_nothing() -> None:
    def loss(config: Config) -> float:
        return -0.5 if config == (0, 1) else 0.0

    nodes = beam.search(
        (1, 1), scores(loss, 0.02), first=[(1, 0), (0, 1)], enough=lambda nodes: len(nodes) >= 3
    )
    assert found(nodes) == (0, 1)
    assert nodes[2].base == 0


def test_what_is_missed_is_not_taken_away() -> None:
    def loss(config: Config) -> float:
        return -0.5 * bool(config[1]) - 0.1 * bool(config[0])

    nodes = beam.search((1, 1), scores(loss, 0.02), first=[(1, 1)], width=1)
    assert found(nodes) == (1, 1)


@pytest.mark.parametrize(("harm", "best"), [(0.0, (1, 1)), (0.001, (1, 1)), (0.1, (0, 1))])
def test_the_usual_is_only_given_up_where_that_is_better_beyond_chance(
    harm: float, best: Config
) -> None:
    """A standard error of a difference is 0.02 √(2 / 200) = 0.002."""

    def loss(config: Config) -> float:
        return -0.5 * bool(config[1]) + harm * bool(config[0])

    nodes = beam.search((1, 1), scores(loss, 0.02), first=[(1, 1)], usual=[0, 1], width=1)
    assert found(nodes) == best


@pytest.mark.parametrize("harmful", [0, 1])
@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize(("margin", "given_up"), [(0.0, True), (0.1, True), (0.3, False)])
def test_the_usual_is_not_given_up_for_little(
    margin: float, given_up: bool, width: int, harmful: int
) -> None:
    """Without one stage the loss is lower by a fifth of 0.5, whichever way that is come to."""

    def loss(config: Config) -> float:
        return 1.0 - 0.6 * bool(config[1 - harmful]) + 0.1 * bool(config[harmful])

    nodes = beam.search(
        (1, 1), scores(loss, 0.02), first=[(1, 1)], usual=[0, 1], margin=margin, width=width
    )
    without = (0, 1) if harmful == 0 else (1, 0)
    assert nodes[beam.chosen(nodes, [0, 1])].config == (without if given_up else (1, 1))


@pytest.mark.parametrize("width", [1, 2])
def test_the_best_is_not_stripped_of_the_usual_for_a_tie(width: int) -> None:
    """What is on from the beginning and makes no difference stays, however it is come to."""

    def loss(config: Config) -> float:
        return -0.5 * bool(config[0])

    nodes = beam.search((1, 1), scores(loss, 0.02), first=[(1, 1)], usual=[0, 1], width=width)
    assert nodes[beam.chosen(nodes, [0, 1])].config == (1, 1)


def test_a_loss_that_is_not_finite_loses() -> None:
    def loss(config: Config) -> float:
        return float("nan") if config[0] else separable(config)

    assert found(beam.search(OPTIONS, scores(loss, 0.01))) == (0, 2, 2)


def test_there_are_no_more_trials_than_there_is_time_for() -> None:
    nodes = beam.search(
        OPTIONS, scores(separable, 0.01), first=[(1, 1, 1)], enough=lambda nodes: len(nodes) >= 3
    )
    assert [node.config for node in nodes[:2]] == [(0, 0, 0), (1, 1, 1)]
    assert len(nodes) == 3
