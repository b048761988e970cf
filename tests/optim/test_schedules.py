"""Schedules against equations 3.5 to 3.8, written down in plain Python."""

from __future__ import annotations

import math

import numpy as np
import pytest
from keras import ops

from etude.optim import schedules

LENGTH, WARMUP, RHO = 40, 10, 0.25
STEPS = [0.5, 3.5, 9.5, 10.5, 20.0, 39.5]


def _cosine(t: float) -> float:
    if t < WARMUP:
        return t / WARMUP
    return 0.5 * (math.cos((t - WARMUP) / (LENGTH - WARMUP) * math.pi) + 1)


def _one_cycle(t: float) -> float:
    if t < RHO * LENGTH:
        return 1 - 0.5 * (math.cos(t / (RHO * LENGTH) * math.pi) + 1)
    return 0.5 * (math.cos((t - RHO * LENGTH) / (LENGTH * (1 - RHO)) * math.pi) + 1)


def _momentum(t: float, low: float, high: float) -> float:
    if t < RHO * LENGTH:
        return low + 0.5 * (high - low) * (math.cos(t / (RHO * LENGTH) * math.pi) + 1)
    x = (t - RHO * LENGTH) / (LENGTH * (1 - RHO)) * math.pi
    return high - 0.5 * (high - low) * (math.cos(x) + 1)


def _share(name: str, t: float, warmup: float = WARMUP) -> float:
    return float(schedules.SCHEDULES[name](ops.convert_to_tensor(t), LENGTH, warmup, RHO))


@pytest.mark.parametrize("t", STEPS)
def test_equations(t: float) -> None:
    assert _share("cosine", t) == pytest.approx(_cosine(t), abs=1e-6)
    assert _share("one_cycle", t) == pytest.approx(_one_cycle(t), abs=1e-6)
    # With the same warm-up the fixed schedule is the one-cycle one (3.8 against 3.7).
    assert _share("f1_clr", t) == pytest.approx(_one_cycle(t), abs=1e-6)
    assert _share("constant", t) == pytest.approx(min(1.0, t / WARMUP), abs=1e-6)


@pytest.mark.parametrize("t", STEPS)
def test_momentum_mirrors_the_rate(t: float) -> None:
    share = schedules.one_cycle(ops.convert_to_tensor(t), LENGTH, 0.0, RHO)
    found = schedules.opposed_momentum(share, 0.85, 0.95)
    assert float(found) == pytest.approx(_momentum(t, 0.85, 0.95), abs=1e-6)


def test_without_warmup_cosine_is_equation_3_5() -> None:
    for t in STEPS:
        want = 0.5 * (math.cos(t / LENGTH * math.pi) + 1)
        assert _share("cosine", t, warmup=0.0) == pytest.approx(want, abs=1e-6)
        assert _share("constant", t, warmup=0.0) == 1.0


def test_longer_runs_keep_the_rise_of_f1_clr() -> None:
    t = ops.convert_to_tensor(4.5)
    short = schedules.f1_clr(t, 40.0, 10.0, 0.0)
    long = schedules.f1_clr(t, 4000.0, 10.0, 0.0)
    assert float(short) == float(long)


def test_ramp_is_geometric() -> None:
    found = [float(schedules.ramp(float(t), 30.0, 1e-5, 1.0)) for t in range(30)]
    np.testing.assert_allclose(found, np.geomspace(1e-5, 1.0, 30), rtol=1e-4)
