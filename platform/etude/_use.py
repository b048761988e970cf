"""A call with images without labels: what they are for is chosen, and then done.

What they do in the statistics of batch normalization is not chosen here: a study of each training
does that, on top of what is.
"""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from etude import _choice
from etude._choice import NONE, PRETRAINED, STUDENT, Outcome, pretrains, teaches
from etude._pretrain import Prepared, prepared
from etude._session import Session
from etude._student import Kept, SessionOf, pupil_of, taught
from etude._trials import LEAST_STEPS, PRETRAINING_SHARE, Pace, Trials
from etude.budget import Budget
from etude.data._base import Arrays
from etude.data.arrays import ArraySource
from etude.data.feed import Feed
from etude.errors import EtudeError, RunError
from etude.findings import Cost, Finding, finding_key
from etude.recipe import Recipe
from etude.report import Report
from etude.training import snapshot
from etude.training.backends.tensorflow import OUT_OF_MEMORY
from etude.training.values import host

# The share of a time budget that trials may take, and how far beyond it they may be late.
SHARE, LATE = 1.0 / 3.0, 1.5
# Seconds that there must be, and samples that judge.
LEAST_SECONDS, LEAST_JUDGES = 60.0, 50
# What is traced for trials takes of what is traced for the run, and for a pre-training; a step with
# augmentation takes of one without. For a first look: it is timed then.
TRACE, PRETRAINING_TRACE, AUGMENTED = 4.0, 4.0, 1.5
# The share of what trials may take that may be spent before the first of them.
FIXED_SHARE = 0.6
LEARNER, GROUP, METHOD = "unlabeled_use", "semisupervised", "method"
TRIALS, PRETRAINING = "trials of images without labels", "pre-training"
WEIGHTS = "pretrained.npz"


def perform(
    session: Session, session_of: SessionOf, callbacks: Sequence[Any], *, study: bool
) -> Report:
    """Chooses what images without labels are for, if that is to be studied, and trains.

    Args:
        session: Of the call.
        session_of: Makes that of a student.
        callbacks: The user's.
        study: Whether it is to be studied.
    """
    if session.problem.unlabeled is None:
        return session.perform(callbacks, study=study)
    kept = Kept(session)
    ready: Prepared | None = None
    if session.begun():
        method = kept.method or session.prepared.recipe.semisupervised.method
    else:
        kept.begin(session)
        method, ready = _settled(session, kept, study=study)
    if pretrains(method):
        _pretrain(session, kept, ready)
    del ready
    gc.collect()
    if teaches(method):
        return taught(session, session_of, kept, method, callbacks, study=study)
    return session.perform(callbacks, study=study)


def told(recipe: Recipe, method: str) -> Recipe:
    """The recipe, with what was chosen."""
    return recipe.learn(LEARNER, **{GROUP: {METHOD: method}})


def obstacle(session: Session) -> str | None:
    """Why it cannot be chosen, in words; `None` where it may."""
    problem, limit = session.problem, session.memory_budget
    recipe = session.prepared.recipe
    if any(recipe.is_given(path) for path in recipe.values() if path.startswith(f"{GROUP}.")):
        return "what images without labels are for is fixed by you"
    if session.budget.seconds is None or session.epochs is not None:
        return "arms are compared at equal time, and what ends this run is its epochs"
    if session.budget.remaining() < LEAST_SECONDS:
        return f"trials take at least {LEAST_SECONDS:.0f} s of time budget"
    sets = [problem.train, problem.validation, problem.unlabeled]
    if any(part is None or part.endless or part.arrays(limit) is None for part in sets):
        return "the data are not held in memory"
    if session.studio.trainer.distributed:
        return "the model is trained by a distribution strategy"
    labels = problem.train.count() + problem.validation.count()
    if labels // 3 < LEAST_JUDGES and problem.validation.count() < LEAST_JUDGES:
        return f"{labels} labelled samples are too few to tell trials apart"
    return None


def expected(session: Session) -> dict[str, float]:
    """Seconds that trials may take, by name; empty where there are none."""
    if session.problem.unlabeled is None or obstacle(session) is not None:
        return {}
    return {TRIALS: SHARE * session.budget.remaining()}


# -- The choice -------------------------------------------------------------------------------


def _settled(session: Session, kept: Kept, *, study: bool) -> tuple[str, Prepared | None]:
    """What is done with them, and a pre-training that is ready for it where one was tried."""
    recipe = session.prepared.recipe
    if not study:
        return recipe.semisupervised.method, None
    if kept.method is not None:
        session.adopt(Finding.from_dict(kept.values["finding"]), kept.values["rows"])
        return kept.method, None
    reason = obstacle(session)
    if reason is not None:
        method = recipe.semisupervised.method
        _adopt(session, kept, method, _finding(session, NONE, f"Not tried: {reason}."), [])
        return method, None
    session.prepared.begin()
    start = session.budget.spent()
    allowance = SHARE * session.budget.remaining()
    if "allowance" in kept.values:
        allowance = float(kept.values["allowance"])
        start -= float(kept.values["taken"])
    done, trials, reason = _tried(session, kept, start, allowance)
    taken = session.budget.spent() - start
    if reason is not None or trials is None:
        finding, method = _finding(session, NONE, f"Not tried: {reason}.", taken=taken), NONE
    else:
        method = _choice.pick(done)
        found = {
            **_choice.evidence(done, trials.left_out),
            "monitor": session.problem.monitor.removeprefix("val_"),
            "seconds_each": trials.pace.whole,
            "judges": trials.judges,
            "withheld": trials.withheld,
            "then": "whether they count in the statistics of batch normalization is studied by "
            "each training on top of it",
        }
        why = _choice.why(done, trials.left_out)
        finding = _finding(
            session, method, why, found, (allowance, taken), sum(one.steps for one in done.values())
        )
    row = {"part": TRIALS, "predicted": allowance, "true": taken}
    _adopt(session, kept, method, finding, [row] if taken > 0.0 else [])
    return method, None if trials is None else trials.pretraining


def _adopt(
    session: Session, kept: Kept, method: str, finding: Finding, rows: list[dict[str, Any]]
) -> None:
    kept.put(method=method, finding=finding.to_dict(), rows=rows)
    session.adopt(finding, rows)


def _finding(
    session: Session,
    method: str,
    why: str,
    evidence: Mapping[str, Any] | None = None,
    seconds: tuple[float, float] = (0.0, 0.0),
    steps: int = 0,
    *,
    taken: float = 0.0,
) -> Finding:
    """The finding; `seconds` are those that were expected, and those that it took."""
    recipe = session.prepared.recipe
    mark = f"{LEARNER} {session.problem.fingerprint()} {session.seed}"
    return Finding(
        learner=LEARNER,
        reads=(GROUP,),
        writes=GROUP,
        changes={} if method == NONE else {METHOD: method},
        why=why,
        evidence=evidence or {},
        predicted=Cost(seconds[0]),
        true=Cost(taken or seconds[1], steps),
        key=finding_key(recipe, (GROUP,), GROUP, mark, (METHOD,)),
    )


def _tried(
    session: Session, kept: Kept, start: float, allowance: float
) -> tuple[dict[_choice.Key, Outcome], Trials | None, str | None]:
    """All trials that the decision takes; or why there are none."""
    costs = session.prepared.costs
    fixed = TRACE * costs.compile
    steps = int((allowance - fixed) / _choice.most([STUDENT]) / (AUGMENTED * costs.step))
    if "pace" not in kept.values and (fixed > FIXED_SHARE * allowance or steps < LEAST_STEPS):
        return {}, None, (
            f"of the {allowance:.0f} s that trials may take tracing them would take about "
            f"{fixed:.0f} s, and the rest is for {max(0, steps)} steps each"
        )  # fmt: skip
    session.shown.phase("trying what images without labels are for")
    trials = None
    try:
        trials = Trials(session, pupil_of(session))
        done = _run(trials, session, kept, start, allowance)
    except EtudeError as error:
        return {}, None, error.what[:1].lower() + error.what[1:].rstrip(".")
    except OUT_OF_MEMORY:
        return {}, None, "the device's memory does not suffice for it"
    finally:
        if trials is not None:
            trials.close()
    if not done:
        return {}, None, "; ".join(
            f"{_choice.WORDS[arm]}: {reason}" for arm, reason in trials.left_out.items()
        )  # fmt: skip
    return done, trials, None


def _run(
    trials: Trials, session: Session, kept: Kept, start: float, allowance: float
) -> dict[_choice.Key, Outcome]:
    """Runs one trial after the other for as long as the decision waits for one."""
    budget, costs = session.budget, session.prepared.costs
    done = kept.trials
    if "pace" in kept.values:
        trials.resume(Pace(**kept.values["pace"]), kept.values["left_out"])
    else:
        if not len(trials.others):
            for arm in (PRETRAINED, STUDENT):
                trials.leave_out(arm, "there are no images beyond those that judge")
            return {}
        fixed = (TRACE + PRETRAINING_TRACE) * costs.compile
        if fixed > FIXED_SHARE * allowance:
            trials.leave_out(
                PRETRAINED, f"tracing it takes about {PRETRAINING_TRACE * costs.compile:.0f} s"
            )
        trials.prepare()
        trials.settle(allowance - (budget.spent() - start))
    pace = dataclasses.asdict(trials.pace)
    while (key := _choice.following(done, trials.possible)) is not None:
        arm, order = key
        taken = budget.spent() - start
        late = taken + trials.pace.whole + trials.pace.judging > LATE * allowance
        reason = "trials took longer than was expected" if late else trials.attempt(key)
        if isinstance(reason, str):
            trials.leave_out(arm, reason)
            trials.possible -= {PRETRAINED} if arm == PRETRAINED else {STUDENT}
            if order or arm == NONE:  # then nothing is confirmed
                break
            continue
        done[key] = reason
        session.shown.say(
            f"{_choice.WORDS[arm]}: loss {reason.loss:.4f} of held-out samples, "
            f"{reason.seconds:.1f} s"
        )
        kept.put(
            pace=pace,
            left_out=trials.left_out,
            allowance=allowance,
            taken=budget.spent() - start,
            trials=[dataclasses.asdict(one) for one in done.values()],
        )
    return done


# -- What follows -----------------------------------------------------------------------------


def _pretrain(session: Session, kept: Kept, ready: Prepared | None) -> None:
    """Pre-trains the model's backbone on all images, for a half of the time that is left."""
    budget, model = session.budget, session.problem.model
    path = None if session.store is None else session.store.folder / WEIGHTS
    if path is not None and kept.values.get("pretrained"):
        state, _ = snapshot.read(path)
        for index, variable in enumerate(model.variables):
            variable.assign(state[f"model/{index}"])
        session.notes += kept.values.get("notes", [])
        return
    start = budget.spent()
    session.shown.phase("pre-training on images without labels")
    images = _images(session)
    if ready is None:
        ready = prepared(
            model, images, memory_budget=session.memory_budget, seed=session.seed, streamed=True
        )
    else:  # of the trials, whose trace it keeps
        ready = dataclasses.replace(ready, feed=Feed(ArraySource(Arrays(images)), 0))
    epochs = None if session.epochs is None else max(1, round(session.epochs))
    seconds = None
    if budget.seconds is not None:
        seconds = PRETRAINING_SHARE * budget.remaining()
    try:
        found = ready.within(Budget(seconds, clock=budget.clock), epochs)
        notes = found.notes
        said = f"{found.objective}, {len(found.history['loss'])} passes over {len(images):,} images"
    except RunError as error:  # the weights are those of before
        said = f"{error.what[:1].lower()}{error.what[1:].rstrip('.')}, {error.received}"
        notes = (f"Training began without it: {said}.",)
    session.notes += notes
    row = {"part": PRETRAINING, "predicted": seconds, "true": budget.spent() - start}
    session.prepared.ledger.append(row)
    session.shown.say(f"pre-training: {said}")
    if path is not None:
        state = {f"model/{i}": host(v) for i, v in enumerate(model.variables)}
        snapshot.write(path, state, {})
        rows = [*kept.values.get("rows", []), row]
        kept.put(pretrained=True, notes=list(notes), rows=rows)


def _images(session: Session) -> Any:
    """Labelled images and those without labels."""
    pupil = pupil_of(session)
    assert pupil.unlabelled is not None
    return np.concatenate([pupil.train.images, pupil.unlabelled])
