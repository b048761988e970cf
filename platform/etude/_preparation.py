"""What comes before a run: measuring, studying, and the schedule that follows."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from etude.budget import (
    LEAST_SHARE,
    Budget,
    CostModel,
    Schedule,
    schedule_epochs,
    schedule_time,
)
from etude.findings import Cost, Finding
from etude.recipe import Recipe
from etude.report.progress import Progress
from etude.sampling.strategies import UNIFORM
from etude.training import snapshot
from etude.training.backends.tensorflow import OUT_OF_MEMORY
from etude.training.sampled import SCORED
from etude.training.store import Store
from etude.training.studio import Studio
from etude_metalearners import STUDY_SHARE, MetaLearner, Planned

# What is set aside for the report and other small things at the end, in seconds.
FINISH_SECONDS = 0.5
# The same for the figures and the page of a stored run.
PAGE_SECONDS = 2.5
# Seconds and share of the budget that steps are timed for, and the part of that which will do
# where only the batch changed.
MEASURE_SECONDS, MEASURE_SHARE, AGAIN = 3.0, 0.03, 1.0 / 3.0

# The largest batch that is chosen without a study, and how many steps an epoch should have.
LARGEST_BATCH, STEPS_WANTED = 64, 100


def starting_batch(size: int | None) -> int:
    """The batch that studies begin with, of a training set of so many samples or of no end."""
    if size is None:
        return LARGEST_BATCH
    wanted = max(1, size // STEPS_WANTED)
    return min(size, LARGEST_BATCH, max(16, 2 ** int(math.log2(wanted))))


class Preparation:
    """Measures and studies until a run can begin.

    Args:
        studio: Where it is measured and studied.
        recipe: What the studies begin with.
        epochs: Passes over the training data; `None` where only time binds.
        budget: Time.
        store: Where findings go, and from where those of a killed call come; or `None`.
        learners: Those that study, in their order.
        shown: Told of what is going on.
        inspected: Seconds that the inspection took.

    Attributes:
        recipe: With everything that was found so far.
        findings: Of all studies so far, in order.
        studied: What these took.
        ledger: Rows of parts, with predicted and true seconds.
        costs: As measured last.
    """

    def __init__(
        self,
        studio: Studio,
        recipe: Recipe,
        *,
        epochs: float | None,
        budget: Budget,
        store: Store | None,
        learners: Sequence[MetaLearner],
        shown: Progress,
        inspected: float,
    ) -> None:
        self.studio, self.recipe, self.epochs = studio, recipe, epochs
        self.budget, self.store, self.shown = budget, store, shown
        self.inspected, self.learners = inspected, learners
        self.findings: list[Finding] = []
        self.studied = Cost()
        self.ledger: list[dict[str, Any]] = []
        self.costs: CostModel
        self._begun = False

    def begin(self) -> None:
        """Measures, the first time that it is asked to."""
        if self._begun:
            return
        self._begun = True
        start = self.budget.spent()
        self.measure()
        self.recipe = self.studio.recipe  # with as many micro-batches as memory asked for
        self.ledger += [
            {"part": "inspection", "predicted": None, "true": self.inspected},
            {"part": "measuring", "predicted": None, "true": self.budget.spent() - start},
        ]

    def study(self, study: bool) -> None:
        """Measures, then lets every meta-learner learn or say why it does not, if asked to."""
        known = self._known_findings() if self.store is not None else None
        self.begin()
        for learner in self.learners if study else ():
            finding = self._reusable(known, learner.key(self.studio, self.recipe))
            if finding is None:
                finding = self._learned(learner)
            self.findings.append(finding)
            self.shown.finding(finding)
            self.ledger.append(
                {
                    "part": f"study: {finding.learner.replace('_', ' ')}",
                    "predicted": finding.predicted.seconds,
                    "true": finding.true.seconds,
                }
            )
            if self.store is not None:
                # With those of an earlier, killed call that were not reached yet.
                done = {finding.key for finding in self.findings}
                later = [finding for finding in known or () if finding.key not in done]
                meta = {"spent": self.budget.spent()}
                self.store.save_findings([*self.findings, *later], meta)
            self.studied += finding.true
            self._take_over(finding)
        self.studio.forget_others()

    def _learned(self, learner: MetaLearner) -> Finding:
        """What a meta-learner finds, or why it does not look."""
        planned = self._planned()
        obstacle = learner.obstacle(self.studio, self.recipe, planned)
        if obstacle is not None:
            return learner.skipped(self.studio, self.recipe, obstacle)
        expected = self._cost(learner, planned)
        self.shown.phase(f"studying the {learner.name.replace('_', ' ')}", expected.steps)
        try:
            finding = learner.learn(self.studio, self.recipe, planned)
        except OUT_OF_MEMORY:
            self.studio.build(self.recipe)
            self.studio.forget_others()
            why = "the device's memory does not suffice for it"
            return learner.skipped(self.studio, self.recipe, why)
        return dataclasses.replace(finding, predicted=expected)

    def expected(self) -> dict[str, float]:
        """Seconds that each study will take that will be begun; nothing is studied."""
        found: dict[str, float] = {}
        for learner in self.learners:
            planned = self._planned()
            if learner.obstacle(self.studio, self.recipe, planned) is None:
                cost = self._cost(learner, planned)
                found[learner.name] = cost.seconds
                self.studied += cost
        return found

    def _cost(self, learner: MetaLearner, planned: Planned) -> Cost:
        """What a study costs in seconds of this machine."""
        cost = learner.cost(self.studio, self.recipe, planned)
        return Cost(cost.seconds * self.costs.step / planned.costs.step, cost.steps)

    def _planned(self) -> Planned:
        """The run as planned now, with what studies have taken of it so far."""
        if self._is_timed():
            # A plan counts studies that have not taken their time yet.
            ahead = 0.0 if self.ledger else self.studied.seconds
            steps = self.schedule(ahead).total_steps
            whole = steps * self.costs.step + self.studied.seconds
            left = STUDY_SHARE * whole - self.studied.seconds
            return Planned(steps, left, self.costs, timed=True, findings=tuple(self.findings))
        steps = self.schedule().total_steps
        # What comes out may not depend on a clock: costs count steps, and an evaluation is a
        # forward pass of as many batches.
        batches = self.studio.problem.validation.count() / self.recipe.compute.batch_size
        costs = CostModel(step=1.0, evaluation=batches / 3.0)
        left = STUDY_SHARE * steps - self.studied.steps
        return Planned(steps, left, costs, findings=tuple(self.findings))

    def _is_timed(self) -> bool:
        """Whether time ends the run, and not epochs within it."""
        if self.budget.seconds is None:
            return False
        if self.epochs is None:
            return True
        schedule = self.schedule()
        return schedule.most is None or schedule.total_steps < schedule.most

    def _take_over(self, finding: Finding) -> None:
        """Goes on by what was found; measures again where a step costs something else now."""
        before, changed = self.recipe, finding.apply(self.recipe)
        compute = dataclasses.replace(
            changed.compute, accumulate=self.studio.recipe.compute.accumulate
        )
        self.recipe = dataclasses.replace(changed, compute=compute)
        self.studio.build(self.recipe)
        same_optimizer = changed.optimization.optimizer == before.optimization.optimizer
        same_images = changed.augmentation == before.augmentation
        if changed.compute == before.compute and same_optimizer and same_images:
            return
        start = self.budget.spent()
        trace = dataclasses.replace(changed.compute, batch_size=before.compute.batch_size)
        self.measure(AGAIN if trace == before.compute and same_optimizer else 1.0)
        self.recipe = self.studio.recipe
        spent = self.budget.spent() - start
        self.studied += Cost(spent, 0)
        self.ledger.append({"part": "measuring again", "predicted": None, "true": spent})

    def _known_findings(self) -> list[Finding]:
        assert self.store is not None
        self.budget.resume(float(self.store.findings_meta().get("spent", 0.0)))
        return self.store.findings()

    @staticmethod
    def _reusable(known: Sequence[Finding] | None, key: str) -> Finding | None:
        return next((finding for finding in known or () if finding.key == key), None)

    def measure(self, share: float = 1.0) -> CostModel:
        """Measures steps, an evaluation and a snapshot on the running model.

        Args:
            share: Of the usual time; less will do where little has changed.
        """
        self.shown.phase("measuring")
        limit = MEASURE_SECONDS
        if self.budget.seconds is not None:
            limit = min(limit, MEASURE_SHARE * self.budget.seconds)
        costs = self.studio.measure(share * limit)
        problem = self.studio.problem
        size, test = problem.validation.size, problem.test
        tested = (test.size or 0) / size if test is not None and size else 0.0
        seconds = self._snapshot_seconds()
        files = 3.0 * seconds + PAGE_SECONDS if self.store else 0.0
        # The best weights need no last evaluation: they had one when they were found.
        last = 0.0 if self.recipe.regularization.best_weights else 1.0
        if self.recipe.sampling.strategy != UNIFORM and size:
            last += SCORED / size  # of what is told of it in the report
        self.costs = self.studio.costs = dataclasses.replace(
            costs,
            snapshot=seconds,
            finish=costs.evaluation * (last + tested) + FINISH_SECONDS + files,
        )
        return self.costs

    def _snapshot_seconds(self) -> float:
        """How long it takes to keep a state, on disk where there is a store."""
        clock = self.budget.clock
        start = clock()
        state = snapshot.capture(self.studio.trainer)
        if self.store is not None:
            trial = self.store.folder / "trial.npz"
            snapshot.write(trial, state, {})
            trial.unlink()
        return clock() - start

    def schedule(self, reserved: float = 0.0) -> Schedule:
        """The schedule that epochs and time lead to, as of now.

        Args:
            reserved: Seconds that something else will take before.
        """
        costs = self.costs
        multiple = self.recipe.compute.steps_per_execution
        per_epoch = self.studio.steps_per_epoch
        if self.budget.seconds is None:
            assert self.epochs is not None
            return schedule_epochs(self.epochs, per_epoch, multiple)
        most = None
        if self.epochs is not None:
            most = schedule_epochs(self.epochs, per_epoch, multiple).total_steps
        least = LEAST_SHARE * (self.budget.seconds or 0.0) / costs.step
        return schedule_time(
            self.budget.remaining() - reserved,
            costs,
            per_epoch,
            multiple=multiple,
            most=most,
            least=math.ceil(least),
        )

    def late(self, schedule: Schedule) -> str | None:
        """That preparation left too little of the time, in words, where it did."""
        need = schedule.total_steps * self.costs.step + self.costs.finish + self.costs.evaluation
        late = need - self.budget.remaining()
        if late <= 0:
            return None
        return (
            f"Preparation took {self.budget.spent():.0f} s of the {self.budget.seconds:.0f} s: "
            f"only {schedule.total_steps:,} steps are trained, and the run ends about "
            f"{math.ceil(late)} s late. Give more time."
        )
