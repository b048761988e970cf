"""Learning-rate schedules, as shares of the peak rate, with momentum moving against them.

Every schedule is a pure function of the position in the run, written in `keras.ops`, so
that it compiles into the train step and its numbers stay variables. The equations are
those of Koçyiğit (2023), *Computation and Data Efficient Techniques for Training Computer
Vision Methods*, section 3.3.1.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Mapping
from typing import Any

from keras import ops

Schedule = Callable[[Any, Any, Any, Any], Any]


def constant(t: Any, total: Any, warmup: Any, fraction: Any) -> Any:
    """The peak rate throughout, after a linear warm-up of `warmup` steps, if any.

    Args:
        t: Position in steps, a float32 scalar; the middle of step `i` is `i + 0.5`.
        total: Length of the run in steps.
        warmup: Length of the warm-up in steps.
        fraction: Not read.

    Returns:
        The rate as a share of its peak, in [0, 1].
    """
    del total, fraction
    return ops.minimum(1.0, t / ops.maximum(warmup, 1e-6))


def cosine(t: Any, total: Any, warmup: Any, fraction: Any) -> Any:
    """Linear warm-up, then half a cosine to 0 (equations 3.5 and 3.6).

    Arguments and result as for `constant`.
    """
    del fraction
    rise = t / ops.maximum(warmup, 1e-6)
    return ops.where(t < warmup, rise, _fall(t - warmup, total - warmup))


def one_cycle(t: Any, total: Any, warmup: Any, fraction: Any) -> Any:
    """Half a cosine up over `fraction` of the run, half a cosine down (equation 3.7).

    Arguments and result as for `constant`; `warmup` is not read.
    """
    return f1_clr(t, total, fraction * total, fraction)


def f1_clr(t: Any, total: Any, warmup: Any, fraction: Any) -> Any:
    """The fixed one-cycle schedule: as `one_cycle`, its rise fixed in steps (3.8).

    Arguments and result as for `constant`; `fraction` is not read.
    """
    del fraction
    rise = 1.0 - _fall(t, warmup)
    return ops.where(t < warmup, rise, _fall(t - warmup, total - warmup))


def _fall(t: Any, length: Any) -> Any:
    """Half a cosine from 1 at 0 down to 0 at `length`, and 0 beyond."""
    share = ops.clip(t / ops.maximum(length, 1e-6), 0.0, 1.0)
    return 0.5 * (ops.cos(share * math.pi) + 1.0)


def opposed_momentum(share: Any, low: Any, high: Any) -> Any:
    """Momentum moving against the rate: `high` where the rate is 0, `low` at its peak.

    Equal to the second lines of equations 3.7 and 3.8 for `one_cycle` and `f1_clr`.

    Args:
        share: The rate as a share of its peak.
        low: Momentum at the peak.
        high: Momentum at rate 0.
    """
    return high - (high - low) * share


def ramp(t: Any, total: Any, low: Any, high: Any) -> Any:
    """The range test's exponential rise from `low` at step 0 to `high` at `total - 1`."""
    share = t / ops.maximum(total - 1.0, 1.0)
    return low * ops.exp(share * ops.log(high / low))


SCHEDULES: Mapping[str, Schedule] = types.MappingProxyType(
    {"constant": constant, "cosine": cosine, "one_cycle": one_cycle, "f1_clr": f1_clr}
)
