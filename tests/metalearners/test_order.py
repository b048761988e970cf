"""The order of studies follows from what each reads and sets."""

from __future__ import annotations

import graphlib
import itertools
from typing import Any

import pytest

from etude.errors import EtudeError
from etude.findings import Cost, Finding
from etude_metalearners import META_LEARNERS, Augmentation, MetaLearner, learners
from etude_metalearners.order import feeds, in_order


def made(name: str, reads: tuple[str, ...], writes: str, sets: tuple[str, ...]) -> MetaLearner:
    """A meta-learner that only says what it depends on."""

    def cost(self: MetaLearner, *args: Any) -> Cost:
        return Cost()

    def learn(self: MetaLearner, *args: Any) -> Finding:
        raise AssertionError("is not to be run")

    body = {"name": name, "reads": reads, "writes": writes, "sets": sets}
    return type(name, (MetaLearner,), {**body, "cost": cost, "learn": learn})()


ONE = made("one", ("sampling",), "compute", ("xla",))
TWO = made("two", ("compute.xla",), "compute", ("batch_size",))
THREE = made("three", ("compute",), "optimization", ("learning_rate",))


@pytest.mark.parametrize("given", list(itertools.permutations([ONE, TWO, THREE])))
def test_what_is_read_comes_first(given: tuple[MetaLearner, ...]) -> None:
    assert [learner.name for learner in in_order(given)] == ["one", "two", "three"]


def test_two_that_wait_for_each_other_are_refused() -> None:
    other = made("other", ("optimization.learning_rate",), "sampling", ("class_weight",))
    with pytest.raises(graphlib.CycleError):
        in_order([ONE, THREE, other])


def test_what_only_refines_a_value_comes_after_those_who_read_it() -> None:
    """Both read what the other sets; the one that sets anew what it read can wait."""
    search = made("search", ("optimization.learning_rate",), "augmentation", ("policy",))
    descent = made(
        "descent",
        ("optimization.learning_rate", "augmentation"),
        "optimization",
        ("learning_rate",),
    )
    for given in itertools.permutations([descent, search, THREE]):
        assert [learner.name for learner in in_order(given)] == ["three", "search", "descent"]


def test_values_of_other_groups_are_named_by_their_paths() -> None:
    other = made("other", (), "augmentation", ("policy", "regularization.dropout"))
    assert feeds(other, made("reader", ("regularization",), "compute", ("xla",)))
    assert feeds(other, made("reader", ("regularization.dropout",), "compute", ("xla",)))
    assert not feeds(other, made("reader", ("regularization.clip_norm",), "compute", ("xla",)))


def test_no_finding_makes_an_earlier_one_stale() -> None:
    order = learners()
    assert {learner.name for learner in order} == set(META_LEARNERS)
    for position, later in enumerate(order):
        assert not any(feeds(later, earlier) for earlier in order[:position])
    assert [learner.name for learner in order] == [
        "compute",
        "optimizer",
        "batch_size",
        "learning_rate",
        "augmentation",
        "descent",
        "unlabeled",
        "sampling",
        "length",
    ]


def test_a_meta_learner_of_ones_own_takes_the_place_of_its_kind() -> None:
    own = Augmentation("pixels")
    order = learners([own])
    assert [learner.name for learner in order] == [learner.name for learner in learners()]
    assert [learner for learner in order if learner.name == "augmentation"] == [own]


@pytest.mark.parametrize(
    "own", [[Augmentation], ["augmentation"], [Augmentation(), Augmentation()]]
)
def test_what_is_no_meta_learner_is_refused(own: list[Any]) -> None:
    with pytest.raises(EtudeError, match="not usable"):
        learners(own)
