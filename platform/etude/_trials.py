"""Trials of what images without labels are for: each the whole in small, of the same time.

All labelled training of all arms shares one traced step, and all pre-training another: labels have
the form that a student's have, and samples are read anew for every batch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from etude._choice import PRETRAINED, STUDENT, Key, Outcome, most, pretrains, teaches
from etude._preparation import starting_batch
from etude._pretrain import Prepared, prepared
from etude._pupil import Pupil
from etude._session import Session
from etude.augment.policy import Policy
from etude.data._base import Arrays
from etude.data.arrays import ArraySource
from etude.data.splitting import held_out_indices
from etude.errors import EtudeError
from etude.inspection import compiled
from etude.problem import Problem
from etude.recipe import Recipe, Semisupervised
from etude.sampling.strategies import UNIFORM
from etude.training.backends.tensorflow import OUT_OF_MEMORY
from etude.training.isolation import isolated
from etude.training.studio import Studio

# Samples that judge: so many, or this share of all labels where these are few; and no more than
# the most, of a large validation set.
JUDGES, JUDGING_SHARE, MOST_JUDGES = 500, 1.0 / 3.0, 1024
# What pre-training takes of the time, and a teacher of what is left then.
PRETRAINING_SHARE, TEACHER_SHARE = 0.5, 0.5
# The share of a student's samples that labelled ones are at least.
LABELLED_SHARE = 0.1
# Steps that tell something: of a labelled training, and of a pre-training.
LEAST_STEPS, LEAST_PRETRAINING = 80, 100
# Seconds that labelled steps are timed for.
TIMED_SECONDS = 1.0
# Gives the images of one seed after those of another.
SEED = 7_000_003

Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True)
class Pace:
    """What things cost, in seconds; stored, so that trials after a kill are as those before it.

    Attributes:
        whole: Each arm has so many.
        step: Of labelled training.
        student: A student's step, whose batch may be larger.
        image: Labelling one.
        pretraining: A step of it; `None` where there is none.
        judging: The held-out samples.
    """

    whole: float
    step: float
    student: float
    image: float
    pretraining: float | None
    judging: float


def moved() -> Policy:
    """What all arms augment by: images are moved a little, which hardly any task minds."""
    policy = Policy.of("standard_cifar")
    return dataclasses.replace(
        policy, slots=tuple(slot for slot in policy.slots if slot.name == "crop")
    )


def trial_recipe(recipe: Recipe) -> Recipe:
    """What is tried by: the starting recipe, with a default augmentation where none is given."""
    augmentation = recipe.augmentation
    if not recipe.is_given("augmentation.policy"):
        augmentation = dataclasses.replace(augmentation, policy=moved())
    return dataclasses.replace(
        recipe,
        augmentation=augmentation,
        sampling=dataclasses.replace(recipe.sampling, strategy=UNIFORM),
        semisupervised=Semisupervised(),
    )


def parted(train: Arrays, held: Arrays, strata: Array, seed: int) -> tuple[Arrays, Arrays, int]:
    """What is trained on, what judges, and how much of the training set is withheld for that.

    Args:
        train: The labelled samples.
        held: The validation data.
        strata: `(samples,)` of the labelled samples.
        seed: Says which are withheld.
    """
    wanted = min(JUDGES, int(JUDGING_SHARE * (len(train) + len(held))))
    missing = wanted - len(held)
    if missing <= 0:
        return train, held, 0
    withheld = held_out_indices(len(train), missing / len(train), seed=seed, strata=strata)
    kept = np.setdiff1d(np.arange(len(train)), withheld, assume_unique=True)
    return train.take(kept), _together(held, train.take(withheld)), len(withheld)


def unseen(images: Array, judges: Array) -> Array:
    """Those images that are none of the judges, to the bit."""
    known = {_hash(image) for image in judges}
    return images[[_hash(image) not in known for image in images]]


class Trials:
    """Runs trials on the model of a session, and leaves no trace on it.

    Args:
        session: Whose problem and starting recipe.
        pupil: The same problem, in memory.

    Attributes:
        left_out: Why an arm cannot be tried.
        possible: What can.
        withheld: Labelled samples that do not train but judge.
        judges: All that judge.
        pace: What things cost.

    Raises:
        EtudeError: The problem cannot be tried on.
    """

    pace: Pace

    def __init__(self, session: Session, pupil: Pupil) -> None:
        self.session, self.pupil = session, pupil
        problem = session.problem
        self.clock, self.seed = session.budget.clock, session.seed
        self.initial = problem.model.get_weights()
        strata = problem.task.strata(np.asarray(pupil.train.labels))
        own, judges, self.withheld = parted(pupil.train, pupil.validation, strata, self.seed + SEED)
        self.judges = len(judges)
        assert pupil.unlabelled is not None
        self.others = unseen(pupil.unlabelled, judges.images)
        self.own = pupil.in_rows(own)
        self.left_out: dict[str, str] = {}
        self.possible = {PRETRAINED, STUDENT}
        self.pretraining: Prepared | None = None
        self._begun: dict[int, list[Array]] = {}
        train, held, options = pupil.lesson(self.own, judges)
        task = options.pop("task")
        self.problem = Problem.inspect(problem.model, train, held, None, task, **options)
        self.studio = Studio(
            self.problem,
            trial_recipe(session.prepared.recipe),
            budget=session.budget,
            seed=self.seed,
            memory_budget=0,
            class_weights=session.studio.class_weights,
            on_step=lambda: session.shown.advance(1),
        )
        recipe = self.studio.recipe
        self.batch = recipe.compute.batch_size
        self.student_batch = self.batch
        if not recipe.is_given("compute.batch_size"):
            size = len(self.own) + len(self.others)
            self.student_batch = max(self.batch, starting_batch(size))

    def close(self) -> None:
        """Gives the model back to its session, compiled as that has it."""
        self.studio.trainer.restore_rate()
        self.session.studio.trainer.claim_model()
        compiled.remember(self.session.problem.model, self.session.problem.compiled)

    # -- What it will cost -----------------------------------------------------------------

    def images(self) -> Array:
        """What a pre-training learns from: labelled images and the others."""
        return np.concatenate([self.own.images, self.others])

    def prepare(self) -> Pace:
        """Times everything, with an arm's seconds still unknown."""
        costs = self.studio.measure(TIMED_SECONDS)
        student = self.studio.step_seconds(self.student_batch)
        if student is None:  # it does not fit
            self.student_batch, student = self.batch, costs.step
        start = self.clock()
        with isolated(self.studio.trainer):
            self.studio.judged(MOST_JUDGES)
            middle = self.clock()
            self.studio.judged(MOST_JUDGES)
        judging = min(middle - start, self.clock() - middle)
        pretraining = None
        if PRETRAINED in self.possible:
            with self._leaving_out(PRETRAINED):
                self.pretraining = self.prepared(self.images())
                pretraining = self.pretraining.seconds_of_a_step(self.session.budget)
        image = costs.evaluation / max(1, self.judges)
        self.pace = Pace(0.0, costs.step, student, image, pretraining, judging)
        return self.pace

    def prepared(self, images: Array) -> Prepared:
        """A pre-training of the model, which can begin."""
        problem = self.session.problem
        if problem.task.name == "semantic_segmentation":
            raise _Unfit("what makes features of a model for masks is not known")
        made = prepared(
            problem.model,
            images,
            memory_budget=self.session.memory_budget,
            seed=self.seed,
            streamed=True,
        )
        if not made.backbone.trainable_variables:
            raise _Unfit("nothing before the model's head is trained")
        return made

    def settle(self, allowance: float) -> None:
        """Gives each arm equal time of what there is, and leaves out what that is too short for.

        Args:
            allowance: Seconds, of all trials together.
        """
        while self.possible:
            whole = allowance / most(self.possible) - self.pace.judging
            reason = self._too_short(whole)
            if reason is None:
                self.pace = dataclasses.replace(self.pace, whole=whole)
                return
            # What costs time to begin goes first.
            self.leave_out(PRETRAINED if PRETRAINED in self.possible else STUDENT, reason)

    def _too_short(self, whole: float) -> str | None:
        """Why trials of so many seconds tell nothing."""
        steps = int(whole / self.pace.step)
        if steps < LEAST_STEPS:
            return f"a trial of {max(0.0, whole):.1f} s has {max(0, steps)} steps"
        step = self.pace.pretraining
        if PRETRAINED in self.possible and step is not None:
            steps = int(PRETRAINING_SHARE * whole / step)
            if steps < LEAST_PRETRAINING:
                return f"a trial of {whole:.1f} s has {steps} steps of it"
        return None

    def leave_out(self, arm: str, reason: str) -> None:
        """Notes why an arm is not tried."""
        self.possible.discard(arm)
        self.left_out[arm] = reason

    def resume(self, pace: Pace, left_out: Mapping[str, str]) -> None:
        """Goes on with trials that were begun, at the pace that was measured then."""
        self.pace, self.left_out = pace, dict(left_out)
        self.possible -= set(left_out)
        if PRETRAINED in self.possible:
            with self._leaving_out(PRETRAINED):
                self.pretraining = self.prepared(self.images())

    @contextlib.contextmanager
    def _leaving_out(self, arm: str) -> Iterator[None]:
        """Leaves an arm out where it cannot be, and says why."""
        try:
            yield
        except EtudeError as error:
            self.leave_out(arm, _first_words(error))
        except OUT_OF_MEMORY:
            self.leave_out(arm, "the device's memory does not suffice for it")

    # -- A trial ---------------------------------------------------------------------------

    def attempt(self, key: Key) -> Outcome | str:
        """What came of a trial, or why there is none."""
        try:
            return self.run(*key)
        except EtudeError as error:
            return _first_words(error)
        except OUT_OF_MEMORY:
            return "the device's memory does not suffice for it"

    def run(self, arm: str, order: int) -> Outcome:
        """Trains the whole of an arm in small, and has it judged.

        Raises:
            EtudeError: It cannot be.
        """
        start, left = self.clock(), self.pace.whole
        weights, steps = self.initial, 0
        if pretrains(arm):
            weights, count = self._pretrained(order)
            left *= 1.0 - PRETRAINING_SHARE
            steps += count
        samples, batch, count = self.own, self.batch, self._steps(left, self.pace.step)
        if teaches(arm):
            teacher = self._steps(TEACHER_SHARE * left, self.pace.step)
            left *= 1.0 - TEACHER_SHARE
            batch, (count, images) = self.student_batch, self._student(left)
            samples = self._lessons(weights, teacher, images, order)
            steps += teacher
        with self._trained(samples, count, batch, order, weights):
            losses, metrics = self.studio.judged(MOST_JUDGES)
        score = metrics[self.problem.monitor.removeprefix("val_")]
        return Outcome(
            arm, order, tuple(losses.tolist()), float(score), self.clock() - start, steps + count
        )

    def _steps(self, seconds: float, step: float) -> int:
        return max(1, int(seconds / step))

    def _student(self, seconds: float) -> tuple[int, int]:
        """Steps of a student, and images that are labelled for it: no more than it will see."""
        step, batch, image = self.pace.student, self.student_batch, self.pace.image
        images = min(len(self.others), int(seconds / (step + batch * image)) * batch)
        images = max(images, min(len(self.others), batch))
        return self._steps(max(0.0, seconds - images * image), step), images

    def _pretrained(self, order: int) -> tuple[list[Array], int]:
        """The model's weights after a pre-training, which a student's trial uses again."""
        assert self.pretraining is not None and self.pace.pretraining is not None
        count = self._steps(PRETRAINING_SHARE * self.pace.whole, self.pace.pretraining)
        if order not in self._begun:
            trainer = self.pretraining.trainer
            with isolated(trainer):
                self.pretraining.steps(count, order)
                self._begun[order] = self.session.problem.model.get_weights()
        return self._begun[order], count

    @contextlib.contextmanager
    def _trained(
        self, samples: Arrays, steps: int, batch: int, order: int, weights: list[Array]
    ) -> Iterator[None]:
        source = ArraySource(samples)
        batch = min(batch, len(samples))
        with self.studio.trained_on(source, steps, batch=batch, order=order, weights=weights):
            yield

    def _lessons(self, weights: list[Array], steps: int, images: int, order: int) -> Arrays:
        """A student's samples, by a teacher that is trained for so many steps."""
        chosen = np.random.default_rng([self.seed, order]).permutation(len(self.others))[:images]
        others = self.others[chosen]
        with self._trained(self.own, steps, self.batch, order, weights):
            said = list(self.pupil.probabilities(self.session.problem.model, others))
        lessons = self.pupil.lessons(said, None)
        if not len(lessons.images):
            raise _Unfit(f"the teacher is sure of none of {images} images")
        joined = self.pupil.joined(lessons, LABELLED_SHARE, own=self.own, others=others)
        own = np.asarray(self.own.labels)
        return dataclasses.replace(joined, labels=np.asarray(joined.labels).astype(own.dtype))


class _Unfit(EtudeError):
    """An arm does not apply."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, required="", received="", advice="")


def _first_words(error: EtudeError) -> str:
    """What is wrong, as a part of a sentence."""
    first = error.what.rstrip(".")
    return first[:1].lower() + first[1:]


def _hash(image: Array) -> bytes:
    return hashlib.blake2b(image.tobytes(), digest_size=16).digest()


def _together(one: Arrays, two: Arrays) -> Arrays:
    weights = None
    if one.weights is not None or two.weights is not None:
        both = [
            np.ones(len(part), np.float32) if part.weights is None else part.weights
            for part in (one, two)
        ]
        weights = np.concatenate(both)
    return Arrays(
        np.concatenate([one.images, two.images]),
        np.concatenate([np.asarray(one.labels), np.asarray(two.labels)]),
        weights,
    )
