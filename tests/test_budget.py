"""Durations, sizes and plans, worked out by hand."""

from __future__ import annotations

import math

import pytest

from etude import budget
from etude.budget import Budget, CostModel
from etude.errors import BudgetError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), ("1h30m", 5400), ("2min", 120),
     (45, 45), (0.5, 0.5), (" 3 M ", 180), ("1d", 86400)],
)  # fmt: skip
def test_durations(text: str | float, seconds: float) -> None:
    assert budget.parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "ten", "-5", -5, 0, "0s", "5x", "1h30", float("nan"), math.inf, True, None, [1]]
)
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(BudgetError, match="not a duration"):
        budget.parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [(1024, 1024), ("4GiB", 4 * 2**30), ("500MB", 5 * 10**8), ("1.5 k", 1536), ("0", 0)],
)
def test_sizes(text: str | int, size: int) -> None:
    assert budget.parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1", "4XB", "GiB"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(BudgetError, match="not a size"):
        budget.parse_bytes(text)


def test_epochs_end_where_the_data_do() -> None:
    plan = budget.schedule_epochs(3, 8.5)
    assert plan.total_steps == 26
    assert [plan.segment_end(i, 0) for i in range(3)] == [8, 17, 26]
    assert budget.schedule_epochs(0.25, 8.0).total_steps == 2
    in_fours = budget.schedule_epochs(3, 8.5, multiple=4)
    assert in_fours.total_steps == 28
    assert all(in_fours.segment_end(i, 0) % 4 == 0 for i in range(3))


def test_time_is_filled_and_not_overrun() -> None:
    costs = CostModel(step=0.1, evaluation=0.5, snapshot=0.01, finish=2.0)
    for seconds in (10.0, 60.0, 600.0):
        plan = budget.schedule_time(seconds, costs, 50.0)
        segments = math.ceil(plan.total_steps / plan.segment)
        evaluations = math.ceil(segments / plan.evaluate_every)
        used = plan.total_steps * 0.1 + evaluations * 0.5 + segments * 0.01 + 2.0
        # What is left free, and at most one evaluation that would not fit.
        assert seconds * (1.0 - budget.MARGIN) - 0.5 <= used <= seconds
        assert plan.total_steps / plan.segment >= 8
        # Evaluations take about a sixteenth at most.
        assert evaluations * 0.5 <= 0.07 * seconds + 0.5
    assert budget.schedule_time(600.0, costs, 50.0, most=100).total_steps == 100


@pytest.mark.parametrize("seconds", [1.0, 0.0, -60.0])
def test_too_little_time_leads_to_the_least_run(seconds: float) -> None:
    costs = CostModel(step=2.0, evaluation=1.0, finish=3.0)
    assert budget.schedule_time(seconds, costs, 10.0).total_steps == 1
    assert budget.schedule_time(seconds, costs, 10.0, multiple=4).total_steps == 4
    plan = budget.schedule_time(seconds, costs, 10.0, multiple=4, least=5)
    assert plan.total_steps == 8
    assert budget.replan(plan, 4, seconds, costs).total_steps == 8
    assert budget.replan(plan, 12, seconds, costs).total_steps == 12
    assert budget.schedule_time(seconds, costs, 10.0, least=5, most=3).total_steps == 3


def test_planning_again_follows_the_pace() -> None:
    costs = CostModel(step=0.1)
    plan = budget.schedule_time(100.0, costs, 50.0)
    slower = budget.replan(plan, 500, 50.0, CostModel(step=0.2))
    assert slower.total_steps == 500 + int(50.0 * (1 - budget.MARGIN) / 0.2)
    assert budget.replan(plan, 500, 0.0, costs).total_steps == 500
    capped = budget.schedule_time(100.0, costs, 50.0, most=600)
    assert budget.replan(capped, 500, 1000.0, costs).total_steps == 600


def test_a_budget_without_time_never_ends() -> None:
    assert Budget(None, clock=lambda: 5.0).remaining() == math.inf
