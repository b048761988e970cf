"""Precision, XLA and steps per execution: what makes a step cheap on this machine."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from etude.findings import Cost, Finding
from etude.training import precision
from etude.training.backends import tensorflow as backend
from etude_metalearners._base import MetaLearner, Planned

if TYPE_CHECKING:
    from etude.recipe import Recipe
    from etude.training.studio import Studio

# Steps that a variant is timed for, twice, in turn with what there is.
STEPS = 6
# Compiling with XLA takes so many times as long, and may take this share of the run.
XLA_COMPILE, XLA_SHARE = 3.0, 0.02
# A change of less than this may be noise of the clock.
GAIN = 0.05
# The mean loss of the same steps may differ by so much, relatively, from that of the model as it
# is: dropout draws other numbers in another precision, so it is not equal.
TOLERANCE = 0.25
# Keras' loop takes some milliseconds an execution: beyond this many seconds it hardly counts.
HEAVY, EXECUTION = 0.02, 0.1
# Batch sizes of the curve of costs, as multiples of the recipe's, and steps at each.
MULTIPLES, CURVE_STEPS = (0.5, 2.0, 4.0), 3


class Compute(MetaLearner):
    """Learns how a step is computed: precision, XLA, and steps per call of the compiled function.

    Each variant that this machine could profit from is compiled and runs a few steps, in turn
    with the one that is best so far. What cannot pay is told from cheaper signs: a single
    convolution says whether the processor is any good at a precision, and the length of a step
    whether Keras' loop around it counts.
    """

    name: ClassVar[str] = "compute"
    reads: ClassVar[tuple[str, ...]] = ("sampling",)
    writes: ClassVar[str] = "compute"
    sets: ClassVar[tuple[str, ...]] = ("precision", "xla", "steps_per_execution")
    share: ClassVar[float] = 0.4
    gain: ClassVar[float] = 0.2

    def cost(self, studio: Studio, recipe: Recipe, planned: Planned) -> Cost:
        """Compilation and steps of every variant that may pay, and the curve of costs."""
        worth, _ = variants(studio, recipe, planned)
        seconds = sum(self._seconds(planned, variant) for variant in worth)
        steps = sum(4 * STEPS * int(v.get("steps_per_execution", 1)) for v in worth)
        if not any(variant.get("xla") for variant in worth):
            several = max(int(v.get("steps_per_execution", 1)) for v in [{}, *worth])
            seconds += (CURVE_STEPS + 1) * several * sum(MULTIPLES) * planned.costs.step
        return Cost(seconds, steps + CURVE_STEPS * len(MULTIPLES))

    def obstacle(self, studio: Studio, recipe: Recipe, planned: Planned) -> str | None:
        """As for every meta-learner; also where there is nothing that may pay."""
        if not planned.timed:
            return "the run ends by epochs, and what a clock says may not change its outcome"
        worth, notes = variants(studio, recipe, planned)
        if not worth and not all(recipe.is_given(f"compute.{name}") for name in self.sets):
            return "; ".join(notes.values())
        return super().obstacle(studio, recipe, planned)

    def learn(self, studio: Studio, recipe: Recipe, planned: Planned) -> Finding:
        """Times the variants in turn with the best so far, then steps of other batch sizes."""
        clock = studio.budget.clock
        start = clock()
        worth, notes = variants(studio, recipe, planned)
        best: dict[str, Any] = {}
        rows = [_row(recipe, planned.costs.step, planned.costs.compile)]
        chosen, steps, left = 0, 0, 1.0
        for variant in worth:
            tried = recipe.learn(self.name, compute={**best, **variant})
            incumbent = recipe.learn(self.name, compute=best)
            trial = _Duel.of(studio, incumbent, tried)
            steps += trial.steps
            rows.append(_row(tried, trial.seconds, trial.compile_seconds, trial.note))
            if trial.seconds < (1.0 - GAIN) * trial.incumbent and not trial.note:
                best, chosen = {**best, **variant}, len(rows) - 1
                left *= trial.seconds / trial.incumbent  # both of this minute
        final = recipe.learn(self.name, compute=best)
        with studio.at(final):
            # With XLA every size would be compiled anew.
            multiples = () if final.compute.xla else MULTIPLES
            curve = dict(_curve(studio, final.compute.batch_size, multiples))
        curve[final.compute.batch_size] = rows[chosen]["step_seconds"]
        curve = dict(sorted(curve.items()))
        told = [f"{name}: {why}" for name, why in notes.items()]
        why = (
            f"{_named(final)} trains {rows[chosen]['samples_per_second']:,.0f} images a second, "
            f"{1.0 - left:.0%} less time a step than {_named(recipe)}"
            if chosen
            else f"None of {len(rows) - 1} variants is over {GAIN:.0%} faster than {_named(recipe)}"
        )
        forward = planned.costs.evaluation / studio.problem.validation.count()
        return self.finding(
            studio,
            recipe,
            changes=best,
            why=". ".join([why, *told]) + ".",
            evidence={
                "variants": rows,
                "chosen": chosen,
                "batch_sizes": list(curve),
                "step_seconds": list(curve.values()),
                "forward_seconds": [forward * size for size in curve],
                "fits": {"train": max(curve), "evaluate": studio.evaluation_batch},
            },
            cost=Cost(clock() - start, steps + CURVE_STEPS * (len(curve) - 1)),
        )

    def _seconds(self, planned: Planned, variant: Mapping[str, Any]) -> float:
        """What trying a variant takes."""
        costs = planned.costs
        factor = XLA_COMPILE if variant.get("xla") else 1.0
        per_execution = int(variant.get("steps_per_execution", 1))
        return factor * costs.compile + 4 * STEPS * per_execution * costs.step


def variants(
    studio: Studio, recipe: Recipe, planned: Planned
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The changes that may pay on this machine, in the order of trying, and why others do not."""
    worth: list[dict[str, Any]] = []
    notes: dict[str, str] = {}

    def free(name: str) -> bool:
        return not recipe.is_given(f"compute.{name}")

    if free("precision"):
        for name in ("mixed_bfloat16", "mixed_float16"):
            why = _precision_obstacle(studio, name)
            if why is None:
                worth.append({"precision": name})
            else:
                notes[name] = why
    if free("xla") and not recipe.compute.xla:
        seconds = XLA_COMPILE * planned.costs.compile
        allowed = XLA_SHARE * planned.seconds
        if studio.trainer.distributed:
            notes["XLA"] = "a distribution strategy does without"
        elif seconds > allowed:
            notes["XLA"] = f"it compiles for about {seconds:.0f} s, over {XLA_SHARE:.0%} of the run"
        else:
            worth.append({"xla": True})
    if free("steps_per_execution") and recipe.compute.steps_per_execution == 1:
        step = planned.costs.step
        several = 2 ** round(math.log2(max(2.0, EXECUTION / max(step, 1e-6))))
        if step > HEAVY:
            notes["steps per execution"] = f"a step of {1e3 * step:.0f} ms hides Keras' loop"
        elif studio.trainer.distributed or planned.steps < 20 * several:
            notes["steps per execution"] = "the run is too short for several"
        else:
            worth.append({"steps_per_execution": several})
    return worth, notes


def _precision_obstacle(studio: Studio, name: str) -> str | None:
    if studio.trainer.distributed:
        return "a distribution strategy does without"
    why = precision.obstacle(studio.problem.model)
    if why is not None:
        return why
    if name == "mixed_float16" and not backend.has_accelerator():
        return "needs an accelerator"
    if backend.has_accelerator():  # too fast to be told from the time of a call
        return None
    ratio = backend.convolution_ratio(name.removeprefix("mixed_"))
    if ratio >= 1.0 - GAIN:
        return f"a convolution is not faster in it here than in float32 ({ratio:.2f} of its time)"
    return None


@dataclasses.dataclass(frozen=True)
class _Duel:
    """A variant beside what there is: seconds of a step of both, measured in turn."""

    seconds: float
    incumbent: float
    compile_seconds: float
    steps: int
    note: str = ""

    @classmethod
    def of(cls, studio: Studio, incumbent: Recipe, tried: Recipe) -> _Duel:
        compile_seconds, steps = 0.0, 0
        mine: list[float] = []
        theirs: list[float] = []
        losses: list[np.ndarray[Any, Any]] = []
        for _ in range(2):
            for recipe, found in ((incumbent, theirs), (tried, mine)):
                with studio.at(recipe):
                    if not mine and recipe is tried:
                        try:
                            compile_seconds = studio.warm()
                        except backend.CANNOT_COMPILE as error:
                            return cls(math.nan, math.nan, 0.0, steps, _short(error))
                    pace = studio.pace(STEPS * recipe.compute.steps_per_execution)
                    found.append(pace.seconds)
                    losses.append(pace.losses[:STEPS])
                    steps += len(pace.losses)
        there, here = losses[0], losses[1]
        note = ""
        if not np.all(np.isfinite(here)) and np.all(np.isfinite(there)):
            note = "its loss does not stay finite"
        elif abs(here.mean() - there.mean()) > TOLERANCE * abs(there.mean()):
            note = f"its loss differs by more than {TOLERANCE:.0%}"
        return cls(min(mine), min(theirs), compile_seconds, steps, note)


def _curve(studio: Studio, own: int, multiples: Sequence[float]) -> Iterator[tuple[int, float]]:
    """Batch sizes and seconds of a step, of those that ran, in rising order."""
    sizes = sorted({own, *(max(1, round(own * multiple)) for multiple in multiples)})
    for size in sizes:
        seconds = studio.step_seconds(size, CURVE_STEPS + 1)
        if seconds is None:
            return
        yield size, seconds


def _row(recipe: Recipe, seconds: float, compile_seconds: float, note: str = "") -> dict[str, Any]:
    compute = recipe.compute
    return {
        "precision": compute.precision,
        "xla": compute.xla,
        "steps_per_execution": compute.steps_per_execution,
        "step_seconds": seconds,
        "compile_seconds": compile_seconds,
        "samples_per_second": compute.batch_size / seconds if seconds > 0 else math.nan,
        "note": note,
    }


def _named(recipe: Recipe) -> str:
    compute = recipe.compute
    words = "the model's own precision" if compute.precision == "own" else compute.precision
    words += " with XLA" if compute.xla else ""
    several = compute.steps_per_execution
    return words + (f" and {several} steps per execution" if several > 1 else "")


def _short(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return "it does not compile: " + text.splitlines()[0][:120]
