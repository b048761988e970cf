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
from etude._preparation import Preparation
from etude.budget import (
    Budget,
    CostModel,
    Schedule,
)
from etude.data.shuffle import seed_number
from etude.errors import BudgetError, RecipeError, RunError
from etude.findings import Finding
from etude.problem import Problem
from etude.recipe import Recipe
from etude.report import Plan, Report, Tuning
from etude.report.progress import Progress
from etude.training import sampled, snapshot, unlabelled
from etude.training.best_evaluation import Best
from etude.training.checks import check_smooths, is_crossentropy, softens
from etude.training.progress import INTERRUPTED, NOT_FINITE
from etude.training.run import Run
from etude.training.store import Store
from etude.training.studio import ENDLESS_EPOCH, Studio
from etude.training.unsupervised_batch_norm import OFF
from etude_metalearners import MetaLearner
from etude_metalearners import learners as all_learners

# Neither epochs nor time: so many epochs.
DEFAULT_EPOCHS = 20


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
        learners: Sequence[MetaLearner] = (),
        shown: Progress,
    ) -> None:
        studying = all_learners(learners)
        self.notes = list(problem.notes)
        if epochs is None and budget.seconds is None:
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
        counted = recipe.semisupervised.batch_norm != OFF or recipe.semisupervised.method != "none"
        if problem.unlabeled is None and counted:
            raise unlabelled.missing(recipe)
        if isinstance(class_weight, Mapping):
            self.notes.append(f"Classes are weighted as given: {dict(class_weight)}.")
        self.problem, self.budget, self.memory_budget = problem, budget, memory_budget
        seed = seed_number(seed)
        self.epochs, self.seed, self.shown = epochs, seed, shown
        inspected = budget.spent()
        self.call = {
            "etude": etude.__version__,
            "problem": problem.fingerprint(),
            "recipe": recipe.to_dict(),
            "epochs": epochs,
            "time_budget": budget.seconds,
            "seed": seed,
            "class_weight": repr(class_weight),
            "learners": [learner.identity() for learner in learners],
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
        self.prepared = Preparation(
            self.studio,
            recipe,
            epochs=epochs,
            budget=budget,
            store=self.store,
            learners=studying,
            shown=shown,
            inspected=inspected,
        )

    def begun(self) -> bool:
        """Whether training has begun in an earlier call, which goes on."""
        return self.store is not None and self.store.begun()

    def adopt(self, finding: Finding, rows: Sequence[Mapping[str, Any]]) -> None:
        """Takes over what was found before all studies.

        Args:
            finding: What.
            rows: What it cost, for the ledger.
        """
        prepared = self.prepared
        prepared.findings.append(finding)
        prepared.ledger += [dict(row) for row in rows]
        self.shown.finding(finding)
        prepared.recipe = finding.apply(prepared.recipe)
        self.studio.build(prepared.recipe)

    # -- The three uses ------------------------------------------------------------------

    def perform(self, callbacks: Sequence[Any], *, study: bool) -> Report:
        """Studies if asked to, trains, and reports."""
        kept = self.store.state() if self.store is not None else None
        if kept is None:
            self.prepared.study(study)
            run = self._new_run(callbacks)
        else:
            run = self._old_run(callbacks, *kept)
            if run.progress.reason and (report := self._stored_report(run)) is not None:
                return report
        self._train(run)
        return self._report(run)

    def tune(self) -> Tuning:
        """Studies only."""
        self.prepared.study(True)
        if self.problem.unlabeled is not None:
            self.notes.append(
                "Whether images without labels are for pre-training or for a student is tried by "
                "`fit` alone: here they are studied for the statistics of batch normalization."
            )
        return Tuning(
            problem=self.facts(),
            recipe=self.prepared.recipe,
            findings=tuple(self.prepared.findings),
            notes=(*self.notes, *self.studio.events),
            costs=self.prepared.ledger,
        )

    def plan(self, ahead: Mapping[str, float]) -> Plan:
        """Measures only.

        Args:
            ahead: Seconds of what comes before the studies, by name.
        """
        prepared = self.prepared
        costs = prepared.measure()
        measuring = self.budget.spent() - prepared.inspected
        seconds = {"inspection": prepared.inspected, "measuring": measuring}
        seconds |= ahead
        expected = prepared.expected()
        seconds |= {f"study: {name.replace('_', ' ')}": part for name, part in expected.items()}
        schedule = self._schedule(sum(expected.values()) + sum(ahead.values()))
        evaluations = math.ceil(schedule.total_steps / schedule.segment / schedule.evaluate_every)
        seconds |= {
            "training": schedule.total_steps * costs.step,
            "evaluation": evaluations * costs.evaluation,
            "finish": costs.finish,
        }
        return Plan(
            problem=self.facts(),
            recipe=self.prepared.recipe,
            steps=schedule.total_steps,
            epochs=schedule.epochs,
            seconds=seconds,
            notes=(*self.notes, *self.studio.events),
        )

    def facts(self) -> dict[str, Any]:
        """What was found of the problem; the notes stand beside it."""
        return {**self.problem.facts, "fingerprint": self.problem.fingerprint()}

    # -- Parts ---------------------------------------------------------------------------

    def _schedule(self, reserved: float = 0.0) -> Schedule:
        """The schedule as of now, with a note where it leaves too little time."""
        schedule = self.prepared.schedule(reserved)
        late = self.prepared.late(schedule)
        if late is not None:
            self.notes.append(late)
        return schedule

    def _new_run(self, callbacks: Sequence[Any]) -> Run:
        schedule, costs = self._schedule(), self.prepared.costs
        controls = self.studio.trainer.controls
        assert controls is not None
        controls.total.assign(float(schedule.total_steps))
        self.predicted = {
            "training": schedule.total_steps * costs.step,
            "evaluation": costs.evaluation
            * math.ceil(schedule.total_steps / schedule.segment / schedule.evaluate_every),
        }
        return self._run(schedule, costs, callbacks)

    def _old_run(
        self, callbacks: Sequence[Any], state: snapshot.State, meta: Mapping[str, Any]
    ) -> Run:
        """The run of the stored state, which tells recipe, findings and time spent."""
        self.prepared.findings = [Finding.from_dict(row) for row in meta["findings"]]
        self.prepared.recipe = Recipe.from_dict(meta["recipe"])
        self.prepared.ledger, self.predicted = meta["ledger"], meta["predicted"]
        # Memory may have run out since: as many micro-batches as then.
        accumulate = max(
            self.prepared.recipe.compute.accumulate, int(meta["progress"]["accumulate"])
        )
        compute = dataclasses.replace(self.prepared.recipe.compute, accumulate=accumulate)
        self.studio.build(dataclasses.replace(self.prepared.recipe, compute=compute))
        self.studio.warm()
        self.studio.forget_others()
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
                "recipe": self.prepared.recipe.to_dict(),
                "findings": [finding.to_dict() for finding in self.prepared.findings],
                "ledger": self.prepared.ledger,
                "predicted": self.predicted,
            },
        )
        return run

    def _train(self, run: Run) -> None:
        progress = run.progress
        self.shown.phase("training", progress.schedule.total_steps, done=progress.step)
        run.perform()
        # With as many micro-batches as memory asked for.
        self.prepared.recipe = self.studio.recipe
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

    def _figures_of_best(self, run: Run) -> dict[str, float]:
        """The validation figures of the weights that the model was given back, if it was."""
        best = self._best(run)
        if best is None:
            return {}
        history = run.progress.history
        return {k: v[best.row] for k, v in history.items() if k.startswith("val_")}

    def _best(self, run: Run) -> Best | None:
        """The evaluation whose weights the model was given back, if it was."""
        return run.progress.best if self.studio.recipe.regularization.best_weights else None

    def _promised(self) -> float | None:
        """The speed-up that choosing samples was adopted for, if a study did."""
        for finding in self.prepared.findings:
            if finding.learner == "sampling" and finding.changes:
                return float(finding.evidence["speed_ups"][str(finding.evidence["presample"])])
        return None

    def _report(self, run: Run) -> Report:
        progress = run.progress
        self.shown.phase("evaluating")
        start = self.budget.spent()
        # The best weights were evaluated as they were found; the latest ones maybe not.
        outcome, best = self._figures_of_best(run), self._best(run)
        if progress.reason != INTERRUPTED:
            outcome = outcome or {f"val_{k}": v for k, v in self.studio.evaluate().items()}
            if self.problem.test is not None:
                tested = self.studio.evaluate(self.problem.test)
                outcome |= {f"test_{k}": v for k, v in tested.items()}
        findings = list(self.prepared.findings)
        if progress.reason != INTERRUPTED:
            found = sampled.finding(self.studio, progress.history, self._promised())
            findings += [] if found is None else [found]
        spent = self.budget.spent()
        for part, seconds in progress.seconds.items():
            self.prepared.ledger.append(
                {"part": part, "predicted": self.predicted.get(part), "true": seconds}
            )
        self.prepared.ledger.append(
            {"part": "last evaluation", "predicted": None, "true": spent - start}
        )
        done = progress.step / progress.schedule.steps_per_epoch
        report = Report(
            problem=self.facts(),
            recipe=self.prepared.recipe,
            outcome=outcome,
            history=progress.history,
            notes=tuple(self.notes),
            findings=tuple(findings),
            costs=self.prepared.ledger,
            events=(*self.studio.events, *progress.events),
            budget={
                "time_budget": self.budget.seconds,
                "epochs": self.epochs,
                "seconds": spent,
                "steps": progress.step,
                "epochs_done": done,
                "epoch_returned": done if best is None else progress.history["epoch"][best.row],
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
    check_smooths(recipe, problem.task)
    own = problem.user_loss and not is_crossentropy(problem.loss, problem.task)
    if softens(recipe) and own:
        raise RecipeError(
            "Label smoothing or mixing would take the place of your own loss.",
            required="neither of them, or the cross-entropy of the task",
            received=f"label_smoothing: {recipe.regularization.label_smoothing}, augmentation: "
            f"{recipe.augmentation.policy}",
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
