"""Augmentation: groups of transforms by Fréchet distance, and a search over the groups."""

from __future__ import annotations

import dataclasses
import functools
import math
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from etude.augment.names import INDEX, possible
from etude.augment.policy import Policy
from etude.findings import Cost, Finding, paths
from etude.optim._registry import COMPILED
from etude.optim.momentum import numbers
from etude.training import dropout
from etude.training.studio import EVALUATION_FACTOR
from etude_metalearners import beam, candidates, distances, features, pairs, pictures
from etude_metalearners._base import MetaLearner, Planned, scoring_seconds

if TYPE_CHECKING:
    from etude.recipe import Recipe
    from etude.training.studio import Studio

# Steps of a branch, and how many branches there must be time for, those of the second heat among
# them: longer ones tell candidates apart by less, shorter ones let more be tried.
LENGTHS = {240: 32, 160: 28, 120: 24, 80: 20, 60: 16, 40: 6, 30: 5}
# Steps before the branches as a share of theirs, and samples of a batch in both.
WARM, BATCH = 0.5, 64
# Passes over the part that trials see, where the run makes as many. With 15 of them a set that is
# learned fast is not yet known by heart, and augmentation seems to harm where it helps long runs.
PASSES = 30.0
# Samples of that part, at least: fewer say nothing of the others.
LEAST_PART = 128
# From so many branches on the search goes on with `WIDTH`, not with the best alone, and those of
# the second heat are twice as long.
MANY = 12
# Samples that branches are scored on (of more the order of training makes the larger difference):
# validation's, and where these are fewer, training samples that trials do not see. And how many of
# validation there must be.
SAMPLES, LEAST_SAMPLES = 1024, 100
# The share of the loss by which a candidate must be better that is to take the place of the usual.
# A miniature makes fewer passes than most runs and so favours less: on Fashion images that are
# moved alone are better than those that are mirrored too by 3 to 5 % and end worse, on digits by 12
# to 17 %.
MARGIN = 0.1
# Images whose distances are measured, at least and at most, the share of the study for that, and
# how many where it is for the picture alone, as little can be tried and it comes to no group.
FEWEST, MOST, DISTANCES, FEW = 32, 128, 0.15, 16
# Groups of distances, and how many configurations the search goes on with.
GROUPS, WIDTH = 5, 2
# Forward passes as a share of a step; seconds that transforming takes for a pixel, and at least for
# a batch, however small; how many times as long a step takes with augmentation; and seconds that a
# branch takes beside its steps.
FORWARD, PER_PIXEL, PER_BATCH, SLOWER, AROUND = 0.4, 1.5e-7, 6e-3, 1.2, 0.35
# Images that are transformed at once where batches have fewer. Kernels are compiled for each batch
# size, so that larger batches stay as they are.
AT_ONCE = 16
# Seconds that tracing and compiling the augmenting step takes beyond the step's own (a run that
# adopts a policy needs them in any case), and the share of the run that it may take; less where the
# run makes fewer than so many passes over the data, and augmentation is worth less.
COMPILING, COMPILING_SHARE, WORTHWHILE = 6.0, 0.2, 15.0


class Augmentation(MetaLearner):
    """Learns a policy of augmentation, label smoothing, and the strength of decay and dropout.

    How far each transform takes images at each magnitude is told by the Fréchet distance between
    features, and transforms of like distances are one group: the search is over few groups, not
    over many transforms and magnitudes. It is a beam search that begins with what an expert
    would: mirrored and moved images, and TrivialAugment.

    Candidates are compared in a miniature of the run: as many passes as the run will make, over a
    part of the training set that is as small as a trial is short. There the network comes to
    fit the part by heart as the run will fit all of it, which is where augmentation pays; a
    short trial on all data would see none of that. All candidates branch from one warm state
    of that miniature, with the same order of samples, anneal, and are compared on each
    validation sample.

    A candidate is adopted where its loss is lower beyond 2.8 standard errors of the paired
    difference; one with a group less or a weaker one, where it is not higher by more than one;
    mirror and moving, once they are on, stay unless it is better without them beyond 2.8 and by a
    tenth of the loss. The best must be better than no augmentation again, by one, from a branch
    with another order of samples, and beyond 2.8 in both together; and so than mirror and moving.

    Where there are few validation samples, training samples that the miniature leaves out are
    scored beside them, if the loss of the two is the same as far as can be told: not where the
    model knows the training set already, or where validation is of another kind.

    Args:
        used: The features: `"model"`, those of the problem's model in its warm state; `"pixels"`,
            statistics of pixels; or a function or Keras model of a batch of images.
        full: Whether distances are taken with full covariances; else with diagonal ones.
    """

    name: ClassVar[str] = "augmentation"
    reads: ClassVar[tuple[str, ...]] = (
        "compute",
        "optimization.optimizer",
        "optimization.learning_rate",
        "optimization.schedule",
        "optimization.weight_decay",
        "regularization.clip_norm",
        "regularization.decay",
        "regularization.ema_decay",
        "sampling",
    )
    writes: ClassVar[str] = "augmentation"
    sets: ClassVar[tuple[str, ...]] = (
        "policy",
        "regularization.label_smoothing",
        "regularization.dropout",
        "optimization.weight_decay",
    )
    share: ClassVar[float] = 0.75

    def __init__(self, used: features.Features = "model", *, full: bool = False) -> None:
        self.used, self.full = used, full
        self._mark = uuid.uuid4().hex

    def options(self) -> str:
        """Which features and covariances it uses; functions of a module by their names."""
        name = self.used if isinstance(self.used, str) else _called(self.used)
        return f"{name} full" if self.full else name

    def mark(self) -> str:
        """Of this instance alone, where the features may be other ones under the same name.

        In another process a model or a lambda may be: a run that was killed goes on by the same
        options, but no finding by the one is taken for one by the other.
        """
        named = isinstance(self.used, str) or "<" not in _called(self.used)
        return "" if named else self._mark

    def cost(self, studio: Studio, recipe: Recipe, planned: Planned) -> Cost:
        """Compilation, distances, the warm state, and as many branches as there is time for."""
        plan = _plan(self.allowance(planned), studio, planned)
        return Cost(plan.seconds + plan.compiling, plan.warm + plan.trials * plan.steps)

    def obstacle(self, studio: Studio, recipe: Recipe, planned: Planned) -> str | None:
        """As for every meta-learner; also where there is nothing to try, or to tell it by."""
        if recipe.is_given("augmentation.policy"):
            return "the policy is fixed by you"
        shape = getattr(studio.problem.model, "input_shape", None)
        if not isinstance(shape, tuple) or len(shape) != 4 or None in shape[1:]:
            return "images are augmented in batches of one size"
        if studio.trainer.distributed:
            return "it is not studied on several devices"
        if studio.problem.validation.count() < LEAST_SAMPLES:
            return "too few validation samples tell policies apart"
        plan = _plan(self.allowance(planned), studio, planned)
        if studio.train.size is None:
            return "of data without an end no sample is seen twice, as far as is known"
        if studio.train.varies:
            return "the data are other ones in every pass, so they are augmented already"
        if studio.train.most_in_part < LEAST_PART:
            return "too few samples of the stream fit the memory that data may take"
        share = COMPILING_SHARE * min(1.0, plan.passes / WORTHWHILE)
        if plan.compiling > share * planned.seconds:
            return (
                f"the step with augmentation takes {plan.compiling:.1f} s to compile, over "
                f"{share:.0%} of the run, which sees every sample {plan.passes:.1f} times"
            )
        return super().obstacle(studio, recipe, planned)

    def needed_anyway(self, studio: Studio, planned: Planned) -> float:
        """Compilation: a run that augments needs the step too."""
        return _plan(self.allowance(planned), studio, planned).compiling

    def learn(self, studio: Studio, recipe: Recipe, planned: Planned) -> Finding:
        """Measures distances, groups them, searches, and tries the best again."""
        plan = _plan(self.allowance(planned), studio, planned)
        branches = _Branches(studio, recipe, plan, planned.timed)
        transformer = self._transformer(studio, plan)
        compiling = transformer.prepare()
        off = _changed(recipe, {"augmentation.policy": Policy()})
        with studio.warmed(off, plan.warm, batch=plan.batch, part=plan.part):
            compiling.join()
            branches.begin()
            images = _images(studio, plan.images)
            slow = self._too_slow(transformer, images, plan, planned)
            if slow:
                return self.finding(
                    studio, recipe, changes={}, why=slow, evidence={}, cost=branches.cost()
                )
            able = [name for name in INDEX if possible(name, images.shape[-1])]
            ladders = distances.measure(
                transformer, images, names=able, magnitudes=plan.magnitudes, full=self.full
            )
            measured = studio.budget.clock()
            groups = candidates.grouped(ladders, GROUPS)
            stages = self._stages(studio, recipe, ladders, groups)
            nodes, best, heat = branches.search(stages)
            won = heat is not None and heat.won
            changes = candidates.changes(nodes[best if won else 0].config, stages)
            shown = pictures.made(ladders, transformer, changes["augmentation.policy"], images)
        return self.finding(
            studio,
            recipe,
            changes={path.removeprefix("augmentation."): v for path, v in changes.items()},
            why=_why(nodes, best, heat, stages),
            evidence={
                "trials": [_row(node, stages) for node in nodes],
                "chosen": best if won else 0,
                "second_heat": None if heat is None else [heat.second.mean, heat.second.error],
                "both_heats": None if heat is None else [heat.both.mean, heat.both.error],
                "distances": {
                    "names": list(ladders.names),
                    "magnitudes": list(ladders.magnitudes),
                    "values": ladders.distances.tolist(),
                },
                "groups": [dataclasses.asdict(group) for group in groups],
                "plan": dataclasses.asdict(plan),
                "seconds": {
                    "until compiled and warm": branches.ready - branches.start,
                    "distances": measured - branches.ready,
                },
                "pictures": shown,
            },
            cost=branches.cost(),
        )

    def _too_slow(
        self,
        transformer: distances.Transformer,
        images: npt.NDArray[Any],
        plan: Plan,
        planned: Planned,
    ) -> str:
        """Why distances by features of the user's own would take too long; empty if not.

        What they cost is known of none but the problem's model and pixels, and so measured.
        """
        if isinstance(self.used, str) or not planned.timed:
            return ""
        each = transformer.seconds(images[0])
        passes = len(images) * len(INDEX) * (len(plan.magnitudes) - 1)
        if each * passes <= max(DISTANCES * self.allowance(planned), plan.distances):
            return ""
        return (
            f"Not searched: the features that were given take {1e3 * each:.1f} ms an image, and "
            f"the {passes:,} images whose distances would be measured {each * passes:.0f} s."
        )

    def _transformer(self, studio: Studio, plan: Plan) -> distances.Transformer:
        shape = studio.problem.model.input_shape[1:]
        value_range = studio.problem.value_range
        extract = features.of(self.used, studio.problem.model, value_range)
        return distances.Transformer(
            extract, shape, value_range, batch=_at_once(plan.batch), seed=studio.seed
        )

    def _stages(
        self,
        studio: Studio,
        recipe: Recipe,
        ladders: distances.Ladders,
        groups: Sequence[candidates.Group],
    ) -> list[candidates.Stage]:
        free = [path for path in paths(self.writes, self.sets) if not recipe.is_given(path)]
        return candidates.stages(
            groups,
            ladders,
            soft=studio.open_to(_changed(recipe, {"augmentation.policy": Policy()})) == "any",
            decay=_decay(studio, recipe),
            dropout=bool(dropout.layers_of(studio.problem.model)),
            free=free,
        )


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a search is done.

    Attributes:
        steps: Of a branch.
        trials: Branches, those of the second heat among them.
        warm: Steps before the branches.
        batch: Samples in a batch.
        passes: Over the training set, that the run makes.
        part: Samples of the training set that trials see.
        beyond: Samples of the others that are scored.
        images: Whose distances are measured.
        magnitudes: At which.
        compiling: Seconds until there is a compiled step.
        each: Seconds of a branch.
        warming: Seconds of the steps before them.
        distances: Seconds of measuring distances.
        seconds: What all but compiling takes.
    """

    steps: int
    trials: int
    warm: int
    batch: int
    passes: float
    part: int
    beyond: int
    images: int
    magnitudes: tuple[float, ...]
    compiling: float
    each: float
    warming: float
    distances: float
    seconds: float


@dataclasses.dataclass(frozen=True)
class Heat:
    """How one candidate fared against another with another order of samples.

    Attributes:
        second: The difference of that heat.
        both: That of the sums of both heats' losses. An order makes a difference that the
            samples' spread does not show; half of it is gone here.
        failed: Index of a candidate that was best, and not better than the usual again.
    """

    second: pairs.Difference
    both: pairs.Difference
    failed: int | None = None

    @property
    def won(self) -> bool:
        """Whether it was better again by a standard error, and is beyond doubt in both."""
        return self.second.mean < -self.second.error and self.both.better


class _Branches:
    """Runs branches, and knows how many more there is time for."""

    def __init__(self, studio: Studio, recipe: Recipe, plan: Plan, timed: bool) -> None:
        self.studio, self.recipe, self.plan, self.timed = studio, recipe, plan, timed
        self.clock = studio.budget.clock
        self.start = self.ready = self.second = self.clock()
        self.done, self.steps = 0, plan.warm
        self.beyond = plan.beyond

    def begin(self) -> None:
        """Says that all is compiled, however long it took, and the search's own time begins."""
        self.ready = self.clock()

    def search(
        self, stages: Sequence[candidates.Stage]
    ) -> tuple[list[beam.Node], int, Heat | None]:
        """All that was tried, the index of the best, and how it fared in a second heat."""
        times, width = (2, WIDTH) if self.plan.trials >= MANY else (1, 1)

        def score(config: beam.Config) -> beam.Floats:
            return self.score(config, stages)

        usual = [k for k, stage in enumerate(stages) if stage.name in candidates.USUAL]
        first = candidates.first(stages)

        def rival(nodes: Sequence[beam.Node]) -> int:
            """The usual, which is tried first, where it was adopted and is not the best; else 0."""
            begun = bool(first) and len(nodes) > 1 and nodes[1].adopted
            return int(begun and beam.chosen(nodes, usual) > 1)

        nodes = beam.search(
            [len(stage.options) for stage in stages],
            score,
            first=first,
            usual=usual,
            margin=MARGIN,
            width=width,
            # Once all is compiled the likeliest to help are tried, late or not.
            enough=lambda nodes: (
                len(nodes) > len(first) and self.late(1 + times * (2 + rival(nodes)))
            ),
        )
        best, other = beam.chosen(nodes, usual), rival(nodes)
        if not best:
            return nodes, best, None
        again = functools.cache(lambda k: self.score(nodes[k].config, stages, 1, times))

        def heat(one: int, other: int, failed: int | None = None) -> Heat:
            summed = (nodes[k].scores + again(k) for k in (one, other))
            second = pairs.difference(again(one), again(other))
            return Heat(second, pairs.difference(*summed), failed)

        if not other or heat(best, other).won:
            return nodes, best, heat(best, 0)
        return nodes, other, heat(other, 0, failed=best)

    def score(
        self,
        config: beam.Config,
        stages: Sequence[candidates.Stage],
        order: int = 0,
        times: int = 1,
    ) -> beam.Floats:
        """Losses after a branch, so many times as long as planned."""
        steps = times * self.plan.steps
        if self.done == 1:
            self.second = self.clock()
        self.done, self.steps = self.done + times, self.steps + steps
        found = self.studio.branch(
            _changed(self.recipe, candidates.changes(config, stages)),
            steps,
            batch=self.plan.batch,
            part=self.plan.part,
            samples=SAMPLES,
            order=order,
            beyond=self.beyond,
        )
        if self.done == 1 and self.beyond and not _alike(found, self.beyond):
            found, self.beyond = found[: -self.beyond], 0
        return found

    def late(self, further: int) -> bool:
        """Whether so many branches more would take longer than is left."""
        if not self.timed:  # no clock may have a say
            return self.done + further > self.plan.trials
        now = self.clock()
        # The first branch traces how samples are scored; what it took says nothing of others.
        each = self.plan.each
        if self.done > 1:
            each = (now - self.second) / (self.done - 1)
        return now + further * each > self.ready + self.plan.seconds - self.plan.warming

    def cost(self) -> Cost:
        """What it took so far."""
        return Cost(self.clock() - self.start, self.steps)


def _plan(allowance: float, studio: Studio, planned: Planned) -> Plan:
    """What can be tried in so many seconds: the longest branches of which there can be enough."""
    costs, problem = planned.costs, studio.problem
    whole = studio.recipe.compute.batch_size
    # XLA compiles whole steps anew for another batch, which takes longer than large ones.
    batch = whole if studio.recipe.compute.xla else min(BATCH, whole)
    step = costs.step * batch / whole
    per_image = FORWARD * step / batch  # of one transform at one magnitude
    if planned.timed:
        pixels = math.prod(problem.model.input_shape[1:3])
        per_image += max(PER_PIXEL * pixels, PER_BATCH / _at_once(batch))
    per_image *= len(INDEX)
    able = DISTANCES * allowance / per_image
    ladders = (distances.LADDER, distances.FEWER)
    magnitudes = next((one for one in ladders if able > MOST * (len(one) - 1)), ladders[-1])
    per_image *= len(magnitudes) - 1
    size = 2**31 if studio.train.size is None else studio.train.size
    images = min(size, int(np.clip(able / (len(magnitudes) - 1), FEWEST, MOST)))
    passes = planned.steps * whole / size
    seldom = max(min(PASSES, passes), 1e-9)
    most = min(size, studio.train.most_in_part)
    scoring = scoring_seconds(studio, planned, SAMPLES)
    count = problem.validation.count()
    # Samples beside those of validation are as many at most, so that they do not outvote these;
    # where not even the shortest branches fit, there are none.
    plans = [(*row, min(SAMPLES - count, count)) for row in LENGTHS.items()]
    for steps, least, others in (*plans, (*plans[-1][:2], 0)):
        warm = math.ceil(WARM * steps)
        warming = warm * step
        shown = images if least >= MANY else min(images, FEW)
        fixed = warming + shown * per_image
        part = int(np.clip((warm + steps) * batch / seldom, min(LEAST_PART, most), most))
        beyond = studio.beyond(part, others)
        each = steps * step + scoring * (1.0 + beyond / min(SAMPLES, count))
        if planned.timed:
            each += (SLOWER - 1.0) * steps * step + AROUND
        trials = int((allowance - fixed) / each)
        if trials >= least:
            break
    trials = max(trials, least)
    return Plan(
        steps=steps,
        trials=trials,
        warm=warm,
        batch=batch,
        passes=passes,
        part=part,
        beyond=beyond,
        images=shown,
        magnitudes=magnitudes,
        compiling=costs.compile + COMPILING if planned.timed else 0.0,
        each=each,
        warming=warming,
        distances=shown * per_image,
        seconds=fixed + trials * each,
    )


def _called(given: Any) -> str:
    """Module and name of a function; with `<` for what has none, or one that others have too."""
    name = getattr(given, "__qualname__", f"<{type(given).__qualname__}>")
    return f"{getattr(given, '__module__', '')}.{name}"


def _alike(losses: npt.NDArray[np.float64], last: int) -> bool:
    """Whether the last losses have the mean of those before, as far as chance lets one tell."""
    one, other = losses[:-last], losses[-last:]
    error = math.hypot(*(part.std() / math.sqrt(len(part)) for part in (one, other)))
    return bool(abs(other.mean() - one.mean()) <= pairs.BOUND * error)


def _at_once(batch: int) -> int:
    """Images that are transformed at a time: no more than evaluation has the memory for."""
    return max(batch, min(AT_ONCE, EVALUATION_FACTOR * batch))


def _changed(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    """The recipe with values by their paths, as the search's."""
    groups: dict[str, dict[str, Any]] = {}
    for path, value in changes.items():
        group, name = path.split(".")
        groups.setdefault(group, {})[name] = value
    return recipe.learn("augmentation", **groups)


def _decay(studio: Studio, recipe: Recipe) -> float:
    """The weight decay that there is to be raised and cut; 0 for none, and for its owner's."""
    if recipe.regularization.decay != "constant" or recipe.optimization.optimizer == COMPILED:
        return 0.0
    return float(numbers(studio.trainer.optimizer)["weight_decay"] or 0.0)


def _images(studio: Studio, count: int) -> npt.NDArray[Any]:
    """Training images, the same for the same seed; as many as there are, at most."""
    size = studio.train.size
    count = min(count, size or count)
    batch = next(iter(studio.problem.train.shuffled(count, seed=studio.seed)))
    return np.asarray(batch[0])


def _row(node: beam.Node, stages: Sequence[candidates.Stage]) -> dict[str, Any]:
    difference = node.difference
    return {
        "config": list(node.config),
        "told": candidates.told(node.config, stages),
        "score": node.mean if math.isfinite(node.mean) else None,
        "base": node.base,
        "difference": None if difference is None else difference.mean,
        "error": None if difference is None else difference.error,
        "adopted": node.adopted,
    }


def _why(
    nodes: Sequence[beam.Node],
    best: int,
    heat: Heat | None,
    stages: Sequence[candidates.Stage],
) -> str:
    tried = len(nodes) - 1
    if heat is None:
        return (
            f"None of {tried} candidates lowers the validation loss of a short branch beyond "
            f"{pairs.BOUND:g} standard errors."
        )
    told = candidates.told(nodes[best].config, stages)
    if not heat.won:
        return (
            f"Of {tried} candidates {told} was best, but not better again with another order of "
            "samples, or not beyond chance in both together."
        )
    sure = -heat.both.mean / max(heat.both.error, 1e-12)
    failed = ""
    if heat.failed is not None:
        other = candidates.told(nodes[heat.failed].config, stages)
        failed = f" {other[0].upper()}{other[1:]} was better than that, but not again."
    return (
        f"Of {tried} candidates {told} is best: in a miniature of the run it lowers the validation "
        f"loss from {nodes[0].mean:.3g} to {nodes[best].mean:.3g}, and with another order of "
        f"samples again by {-heat.second.mean:.3g}; both together are {sure:.1f} standard "
        f"errors.{failed}"
    )
