"""One call of `fit`, `tune`, `plan` or `train`: its parts, in order, and what it stores."""

from __future__ import annotations

import dataclasses
import math
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import etude
from etude._class_weights import class_weights
from etude.budget import (
    LEAST_SHARE,
    Budget,
    CostModel,
    Schedule,
    schedule_epochs,
    schedule_time,
)
from etude.errors import BudgetError, RecipeError, RunError
from etude.findings import Cost, Finding
from etude.problem import Problem
from etude.recipe import Recipe
from etude.report import Plan, Report, Tuning
from etude.report.progress import Progress
from etude.training import snapshot
from etude.training.progress import INTERRUPTED, NOT_FINITE
from etude.training.run import Run
from etude.training.store import Store
from etude.training.studio import ENDLESS_EPOCH, Studio
from etude_metalearners import STUDY_SHARE, MetaLearner, Planned, learners

# Neither epochs nor time: so many epochs.
DEFAULT_EPOCHS = 20
# What is set aside for the report and other small things at the end, in seconds.
FINISH_SECONDS = 0.5
# The same for the figures and the page of a stored run.
PAGE_SECONDS = 2.5


class Session:
    """One call: problem, recipe, budget, and where they are stored."""

    def __init__(
        self,
        problem: Problem,
        recipe: Recipe,
        *,
        budget: Budget,
        epochs: float | None,
        seed: int,
        memory_budget: int,
        class_weight: str | Mapping[int, float] | None,
        run_dir: str | Path | None,
        shown: Progress,
    ) -> None:
        self.notes = list(problem.notes)
        if epochs is None:
            epochs = recipe.optimization.epochs
        if epochs is None and budget.seconds is None:
            epochs = DEFAULT_EPOCHS
            self.notes.append(
                f"Neither `epochs` nor `time_budget` was given: {epochs} epochs are trained."
            )
        if epochs is not None and not (math.isfinite(epochs) and epochs > 0):
            raise BudgetError(
                "The number of epochs is not one.",
                required="a positive number",
                received=repr(epochs),
                advice="write it as `epochs=10`",
            )
        if problem.train.endless:
            self.notes.append(
                f"The training data are endless: {ENDLESS_EPOCH:,} steps count as an epoch."
            )
        if budget.remaining() <= 0:
            raise BudgetError(
                "The time budget was over before anything could run.",
                required=f"more than the {budget.spent():.1f} s that the inspection took",
                received=f"{budget.seconds} s",
                advice="give more time",
            )
        _check_smoothing(problem, recipe)
        if isinstance(class_weight, Mapping):
            self.notes.append(f"Classes are weighted as given: {dict(class_weight)}.")
        self.problem, self.recipe, self.budget = problem, recipe, budget
        self.epochs, self.seed, self.shown = epochs, seed, shown
        self.findings: list[Finding] = []
        self.studied = Cost()  # by all studies so far
        self.ledger: list[dict[str, Any]] = []
        self.inspected = budget.spent()
        self.call = {
            "etude": etude.__version__,
            "problem": problem.fingerprint(),
            "recipe": recipe.to_dict(),
            "epochs": epochs,
            "time_budget": budget.seconds,
            "seed": seed,
            "class_weight": repr(class_weight),
        }
        self.store = None if run_dir is None else Store(run_dir)
        if self.store is not None:
            self.store.begin(self.call, problem.model)
        self.studio = Studio(
            problem,
            recipe,
            on_step=lambda: self.shown.advance(1),
            budget=budget,
            seed=seed,
            memory_budget=memory_budget,
            class_weights=class_weights(problem, recipe, class_weight),
        )

    # -- The three uses ------------------------------------------------------------------

    def perform(self, callbacks: Sequence[Any], *, study: bool) -> Report:
        """Studies if asked to, trains, and reports."""
        kept = self.store.state() if self.store is not None else None
        if kept is None:
            self._study(study)
            run = self._new_run(callbacks)
        else:
            run = self._old_run(callbacks, *kept)
            if run.progress.reason and (report := self._stored_report(run)) is not None:
                return report
        self._train(run)
        return self._report(run)

    def tune(self) -> Tuning:
        """Studies only."""
        self._study(True)
        return Tuning(
            problem=self._facts(),
            recipe=self.recipe,
            findings=tuple(self.findings),
            notes=(*self.notes, *self.studio.events),
            costs=self.ledger,
        )

    def plan(self) -> Plan:
        """Measures only."""
        self.shown.phase("measuring")
        costs = self.costs = self._measured()
        seconds = {"inspection": self.inspected, "measuring": self.budget.spent() - self.inspected}
        for learner in learners():
            expected = self._expected(learner, self._planned())
            if expected is not None:
                seconds[f"study: {learner.name.replace('_', ' ')}"] = expected.seconds
                self.studied += Cost(expected.seconds, expected.steps)
        schedule = self._schedule(costs, self.studied.seconds)
        self._say_what_is_late(schedule, costs)
        evaluations = math.ceil(schedule.total_steps / schedule.segment / schedule.evaluate_every)
        seconds |= {
            "training": schedule.total_steps * costs.step,
            "evaluation": evaluations * costs.evaluation,
            "finish": costs.finish,
        }
        return Plan(
            problem=self._facts(),
            recipe=self.recipe,
            steps=schedule.total_steps,
            epochs=schedule.epochs,
            seconds=seconds,
            notes=(*self.notes, *self.studio.events),
        )

    def _facts(self) -> dict[str, Any]:
        """What was found of the problem; the notes stand beside it."""
        return {**self.problem.facts, "fingerprint": self.problem.fingerprint()}

    # -- Parts ---------------------------------------------------------------------------

    def _study(self, study: bool) -> None:
        """Measures, then lets every meta-learner learn or say why it does not."""
        self.shown.phase("measuring")
        known = self._known_findings() if self.store is not None else None
        start = self.budget.spent()
        self.costs = self._measured()
        self.ledger += [
            {"part": "inspection", "predicted": None, "true": self.inspected},
            {"part": "measuring", "predicted": None, "true": self.budget.spent() - start},
        ]
        for learner in learners() if study else ():
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
                self.store.save_findings(self.findings, {"spent": self.budget.spent()})
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
        finding = learner.learn(self.studio, self.recipe, planned)
        return dataclasses.replace(finding, predicted=expected)

    def _expected(self, learner: MetaLearner, planned: Planned) -> Cost | None:
        """What a study will cost; `None` where it will not be begun."""
        if learner.obstacle(self.studio, self.recipe, planned) is not None:
            return None
        return self._cost(learner, planned)

    def _cost(self, learner: MetaLearner, planned: Planned) -> Cost:
        """What a study costs in seconds of this machine."""
        cost = learner.cost(self.studio, self.recipe, planned)
        return Cost(cost.seconds * self.costs.step / planned.costs.step, cost.steps)

    def _planned(self) -> Planned:
        """The run as planned now, with what studies have taken of it so far."""
        if self.budget.seconds is not None:
            # A plan counts studies that have not taken their time yet.
            ahead = 0.0 if self.ledger else self.studied.seconds
            steps = self._schedule(self.costs, ahead).total_steps
            whole = steps * self.costs.step + self.studied.seconds
            left = STUDY_SHARE * whole - self.studied.seconds
            return Planned(steps, left, self.costs, timed=True, findings=tuple(self.findings))
        steps = self._schedule(self.costs).total_steps
        # What comes out may not depend on a clock: costs count steps, and an evaluation is a
        # forward pass of as many batches.
        batches = self.problem.validation.count() / self.recipe.compute.batch_size
        costs = CostModel(step=1.0, evaluation=batches / 3.0)
        left = STUDY_SHARE * steps - self.studied.steps
        return Planned(steps, left, costs, findings=tuple(self.findings))

    def _take_over(self, finding: Finding) -> None:
        """Goes on by what was found; measures again where a step costs something else now."""
        before, changed = self.recipe, finding.apply(self.recipe)
        compute = dataclasses.replace(
            changed.compute, accumulate=self.studio.recipe.compute.accumulate
        )
        self.recipe = dataclasses.replace(changed, compute=compute)
        self.studio.build(self.recipe)
        same_optimizer = changed.optimization.optimizer == before.optimization.optimizer
        if changed.compute == before.compute and same_optimizer:
            return
        self.shown.phase("measuring")
        start = self.budget.spent()
        self.costs = self._measured()
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

    def _measured(self) -> CostModel:
        limit = 3.0 if self.budget.seconds is None else min(3.0, 0.03 * self.budget.seconds)
        costs = self.studio.measure(limit)
        size, test = self.problem.validation.size, self.problem.test
        share = (test.size or 0) / size if test is not None and size else 0.0
        finish = costs.evaluation * (1.0 + share)
        snapshot_seconds = self._snapshot_seconds()
        self.studio.costs = dataclasses.replace(
            costs,
            snapshot=snapshot_seconds,
            finish=finish
            + FINISH_SECONDS
            + (3.0 * snapshot_seconds + PAGE_SECONDS if self.store else 0.0),
        )
        return self.studio.costs

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

    def _schedule(self, costs: CostModel, reserved: float = 0.0) -> Schedule:
        """The schedule that epochs and time lead to, as of now.

        Args:
            costs: Measured costs.
            reserved: Seconds that something else will take before.
        """
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

    def _say_what_is_late(self, schedule: Schedule, costs: CostModel) -> None:
        """Notes that preparation left too little of the time, where it did."""
        need = schedule.total_steps * costs.step + costs.finish + costs.evaluation
        late = need - self.budget.remaining()
        if late > 0:
            self.notes.append(
                f"Preparation took {self.budget.spent():.0f} s of the {self.budget.seconds:.0f} s: "
                f"only {schedule.total_steps:,} steps are trained, and the run ends about "
                f"{math.ceil(late)} s late. Give more time."
            )

    def _new_run(self, callbacks: Sequence[Any]) -> Run:
        schedule = self._schedule(self.costs)
        self._say_what_is_late(schedule, self.costs)
        controls = self.studio.trainer.controls
        assert controls is not None
        controls.total.assign(float(schedule.total_steps))
        self.predicted = {
            "training": schedule.total_steps * self.costs.step,
            "evaluation": self.costs.evaluation
            * math.ceil(schedule.total_steps / schedule.segment / schedule.evaluate_every),
        }
        return self._run(schedule, self.costs, callbacks)

    def _old_run(
        self, callbacks: Sequence[Any], state: snapshot.State, meta: Mapping[str, Any]
    ) -> Run:
        """The run of the stored state, which tells recipe, findings and time spent."""
        self.findings = [Finding.from_dict(row) for row in meta["findings"]]
        self.recipe = Recipe.from_dict(meta["recipe"])
        self.ledger, self.predicted = meta["ledger"], meta["predicted"]
        # Memory may have run out since: as many micro-batches as then.
        accumulate = max(self.recipe.compute.accumulate, int(meta["progress"]["accumulate"]))
        compute = dataclasses.replace(self.recipe.compute, accumulate=accumulate)
        self.studio.build(dataclasses.replace(self.recipe, compute=compute))
        self.studio.warm()
        self.budget.resume(float(meta["progress"]["spent"]))
        run = self._run(
            Schedule.from_dict(meta["progress"]["schedule"]),
            CostModel.from_dict(meta["costs"]),
            callbacks,
        )
        run.resume(state, meta)
        return run

    def _run(self, schedule: Schedule, costs: CostModel, callbacks: Sequence[Any]) -> Run:
        done, total = -1, 0

        def listener(step: int, metrics: Mapping[str, float]) -> None:
            nonlocal done, total
            if run.progress.schedule.total_steps != total:
                total = run.progress.schedule.total_steps
                self.shown.total(total)
            further = 1 if done < 0 else max(0, step - done)
            self.shown.advance(further, **{k: float(v) for k, v in metrics.items()})
            done = step

        run = Run(
            self.studio,
            schedule,
            costs,
            budget=self.budget,
            store=self.store,
            callbacks=callbacks,
            listener=listener,
            extra={
                "recipe": self.recipe.to_dict(),
                "findings": [finding.to_dict() for finding in self.findings],
                "ledger": self.ledger,
                "predicted": self.predicted,
            },
        )
        return run

    def _train(self, run: Run) -> None:
        progress = run.progress
        self.shown.phase("training", progress.schedule.total_steps, done=progress.step)
        run.perform()
        self.recipe = self.studio.recipe  # with as many micro-batches as memory asked for
        for event in [*self.studio.events, *run.progress.events]:
            self.shown.say(event)
        if run.progress.reason == NOT_FINITE and run.progress.best is None:
            raise RunError(
                "The loss does not stay finite, and no evaluation was reached before.",
                required="a finite loss",
                received=" ".join(run.progress.events),
                advice="give a lower learning rate by `recipe`, or clip gradients: "
                "`etude.Recipe().give(regularization={'clip_norm': 1.0})`",
            )

    def _stored_report(self, run: Run) -> Report | None:
        """The report of a run that had ended before, with its weights in the model."""
        assert self.store is not None
        if not (self.store.folder / "report.json").exists():
            return None
        report = Report.load(self.store.folder)
        if (report.reason, report.budget["steps"]) != (run.progress.reason, run.progress.step):
            return None  # of an earlier end, which the run has gone beyond
        run.perform()
        return dataclasses.replace(
            report, model=self.problem.model, keras_history=run.keras_history
        )

    def _report(self, run: Run) -> Report:
        progress = run.progress
        self.shown.phase("evaluating")
        start = self.budget.spent()
        outcome: dict[str, float] = {}
        if progress.reason != INTERRUPTED:
            outcome = {f"val_{k}": v for k, v in self.studio.evaluate().items()}
            if self.problem.test is not None:
                tested = self.studio.evaluate(self.problem.test)
                outcome |= {f"test_{k}": v for k, v in tested.items()}
        elif progress.best is not None:
            outcome = {self.problem.monitor: progress.best[0]}
        spent = self.budget.spent()
        for part, seconds in progress.seconds.items():
            self.ledger.append(
                {"part": part, "predicted": self.predicted.get(part), "true": seconds}
            )
        self.ledger.append({"part": "last evaluation", "predicted": None, "true": spent - start})
        report = Report(
            problem=self._facts(),
            recipe=self.recipe,
            outcome=outcome,
            history=progress.history,
            notes=tuple(self.notes),
            findings=tuple(self.findings),
            costs=self.ledger,
            events=(*self.studio.events, *progress.events),
            budget={
                "time_budget": self.budget.seconds,
                "epochs": self.epochs,
                "seconds": spent,
                "steps": progress.step,
                "epochs_done": progress.step / progress.schedule.steps_per_epoch,
            },
            finished=run.finished,
            reason=progress.reason,
            seed=self.seed,
            versions=_versions(),
            run_dir=None if self.store is None else str(self.store.folder),
            model=self.problem.model,
            keras_history=run.keras_history,
        )
        if self.store is not None:
            report.save(self.store.folder)
        return report


def _check_smoothing(problem: Problem, recipe: Recipe) -> None:
    if recipe.regularization.label_smoothing and problem.user_loss:
        raise RecipeError(
            "Label smoothing would take the place of your own loss.",
            required="label_smoothing: 0 with a compiled loss",
            received=f"label_smoothing: {recipe.regularization.label_smoothing}",
            advice="give your loss its own label smoothing, or compile without a loss",
        )


def _versions() -> dict[str, str]:
    import keras
    import numpy
    import tensorflow

    return {
        "etude": etude.__version__,
        "keras": keras.__version__,
        "tensorflow": tensorflow.__version__,
        "numpy": numpy.__version__,
        "python": platform.python_version(),
    }
