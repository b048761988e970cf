"""The roof: `fit`, `tune`, `plan` and `train`. Only this module knows every floor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from etude import _use
from etude._preparation import starting_batch
from etude._session import Session
from etude._student import SessionOf
from etude.budget import Budget, Clock, parse_bytes, parse_duration
from etude.errors import RecipeError
from etude.optim._registry import COMPILED, check_name, has_free_rate
from etude.problem import Problem
from etude.recipe import Recipe
from etude.report import Plan, Report, Tuning
from etude.report.progress import Progress
from etude_metalearners import MetaLearner

# Keras' callbacks that set the learning rate: beside a schedule they would compound with it.
SCHEDULING = frozenset({"LearningRateScheduler", "ReduceLROnPlateau"})


def fit(
    model: Any,
    train: Any,
    validation: Any = None,
    *,
    unlabeled: Any = None,
    test: Any = None,
    task: str | None = None,
    recipe: Recipe | str | Path | None = None,
    keep: Iterable[str] = (),
    epochs: float | None = None,
    time_budget: str | float | None = None,
    run_dir: str | Path | None = None,
    seed: int = 0,
    callbacks: Sequence[Any] = (),
    class_weight: str | Mapping[int, float] | None = None,
    validation_split: float = 0.15,
    memory_budget: str | int = "4GiB",
    resize: Any = None,
    ignore_label: int | None = None,
    learners: Sequence[MetaLearner] = (),
    verbose: int = 1,
    clock: Clock | None = None,
) -> Report:
    """Studies the model and the data, trains within the time, and returns the evidence.

    The model that is passed in is the one that is trained; it holds the best weights at
    the end, compiled, so that `model.evaluate` gives what the report says.

    Args:
        model: A Keras model with one image in and one output out, or a `.keras` file.
        train: `(x, y)` or `(x, y, sample_weight)` arrays, a `tf.data.Dataset`, a
            `keras.utils.PyDataset`, `"tfds:NAME"`, an `.npz` file, or a folder of class
            folders. Labels stay as they are: integers, one-hot, multi-hot, masks
            or depth maps.
        validation: The same; used for choosing. Left out, a stratified share of the
            training data is held out.
        unlabeled: Images without labels, of any kind that `train` may be. Within a `time_budget`
            trials say whether they are for pre-training, for a student of a teacher, both or
            neither, and a study whether they count in the statistics of batch normalization; the
            recipe's group `semisupervised` says so instead, where it is given.
        test: The same as `train`; touched once, at the end.
        task: `"binary"`, `"single_label"`, `"multi_label"`, `"semantic_segmentation"` or
            `"depth"`; found from labels and outputs when left out. Depth in whole numbers, or
            from 0 to 1, has to be named, as it could be masks.
        recipe: What is decided already: a Recipe, or a YAML file of one. All that it states
            is kept; what it leaves at its default may be learned.
        keep: Names of recipe values or groups that no study may change.
        epochs: Passes over the training data.
        time_budget: Seconds of active work, or `"10m"`; study, training, evaluation and
            files included. With `epochs` too, whichever ends first.
        run_dir: A folder in which the run is stored as it goes; the same call goes on
            from there if it is killed.
        seed: Of the split, of the order of samples, and of all that Étude draws.
        callbacks: Keras callbacks.
        class_weight: `"balanced"`, or a weight per class.
        validation_split: The share held out without `validation`.
        memory_budget: Data up to this size become resident beside the model; bytes or
            text such as `"2GiB"`.
        resize: `(height, width)`, or a policy for images of mixed sizes.
        ignore_label: The value in masks or depth maps that counts for nothing.
        learners: Meta-learners that take the place of those of their kind, such as
            `etude.metalearners.Augmentation("pixels")`.
        verbose: 0 is silent, 1 shows bars on a terminal, 2 prints lines.
        clock: Returns seconds; for tests.

    Returns:
        The report. `report.model` is `model`.

    Raises:
        EtudeError: Anything that a user can mend, before the first step.

    Example:
        >>> report = etude.fit(model, (x, y), time_budget="10m")  # doctest: +SKIP
        >>> report.summary()  # doctest: +SKIP
    """
    budget = _budget(time_budget, clock)
    stated = _stated(recipe, keep, class_weight)
    with Progress(verbose) as shown:
        shown.phase("inspecting")
        problem = Problem.inspect(
            model,
            train,
            validation,
            unlabeled,
            task,
            test=test,
            seed=seed,
            validation_split=validation_split,
            memory_budget=parse_bytes(memory_budget),
            resize=resize,
            ignore_label=ignore_label,
        )
        session_of = _sessions(
            lambda problem: starting_recipe(problem, stated, callbacks),
            seed=seed,
            epochs=epochs,
            memory_budget=parse_bytes(memory_budget),
            class_weight=class_weight,
            learners=learners,
            shown=shown,
        )
        session = session_of(problem, budget, run_dir=run_dir)
        return _use.perform(session, session_of, callbacks, study=True)


def train(
    problem: Problem,
    recipe: Recipe,
    *,
    epochs: float | None = None,
    time_budget: str | float | None = None,
    run_dir: str | Path | None = None,
    seed: int = 0,
    callbacks: Sequence[Any] = (),
    class_weight: str | Mapping[int, float] | None = None,
    memory_budget: str | int = "4GiB",
    verbose: int = 1,
    clock: Clock | None = None,
) -> Report:
    """Performs a recipe as it stands, without study. Arguments as for `fit`.

    Args:
        problem: From `Problem.inspect`.
        recipe: For example `Tuning.recipe`.
    """
    budget = _budget(time_budget, clock)
    with Progress(verbose) as shown:
        stated = _stated(recipe, (), class_weight, fixed=False)
        session_of = _sessions(
            lambda problem: stated,
            seed=seed,
            epochs=epochs,
            memory_budget=parse_bytes(memory_budget),
            class_weight=class_weight,
            shown=shown,
        )
        session = session_of(problem, budget, run_dir=run_dir)
        return _use.perform(session, session_of, callbacks, study=False)


def tune(
    model: Any,
    train: Any,
    validation: Any = None,
    *,
    unlabeled: Any = None,
    task: str | None = None,
    recipe: Recipe | str | Path | None = None,
    keep: Iterable[str] = (),
    epochs: float | None = None,
    time_budget: str | float | None = None,
    run_dir: str | Path | None = None,
    seed: int = 0,
    class_weight: str | Mapping[int, float] | None = None,
    validation_split: float = 0.15,
    memory_budget: str | int = "4GiB",
    resize: Any = None,
    ignore_label: int | None = None,
    learners: Sequence[MetaLearner] = (),
    verbose: int = 1,
    clock: Clock | None = None,
) -> Tuning:
    """Studies only: the recipe for a run of this length, to hand to production.

    The model's weights, statistics and random state are afterwards as they were. Arguments
    as for `fit`; `epochs` or `time_budget` say how long the run will be that the recipe is
    for.
    """
    budget = _budget(time_budget, clock)
    stated = _stated(recipe, keep, class_weight)
    with Progress(verbose) as shown:
        shown.phase("inspecting")
        problem = Problem.inspect(
            model,
            train,
            validation,
            unlabeled,
            task,
            seed=seed,
            validation_split=validation_split,
            memory_budget=parse_bytes(memory_budget),
            resize=resize,
            ignore_label=ignore_label,
        )
        session = Session(
            problem,
            starting_recipe(problem, stated),
            budget=budget,
            epochs=epochs,
            seed=seed,
            memory_budget=parse_bytes(memory_budget),
            class_weight=class_weight,
            run_dir=run_dir,
            learners=learners,
            shown=shown,
        )
        return session.tune()


def plan(
    model: Any,
    train: Any,
    validation: Any = None,
    *,
    unlabeled: Any = None,
    test: Any = None,
    task: str | None = None,
    recipe: Recipe | str | Path | None = None,
    keep: Iterable[str] = (),
    epochs: float | None = None,
    time_budget: str | float | None = None,
    seed: int = 0,
    class_weight: str | Mapping[int, float] | None = None,
    validation_split: float = 0.15,
    memory_budget: str | int = "4GiB",
    resize: Any = None,
    ignore_label: int | None = None,
    learners: Sequence[MetaLearner] = (),
    verbose: int = 1,
    clock: Clock | None = None,
) -> Plan:
    """Checks everything and says what a run would do and how long it would take.

    A few steps are timed on the model and undone; nothing is studied, trained or written.
    Arguments as for `fit`.
    """
    budget = _budget(time_budget, clock)
    stated = _stated(recipe, keep, class_weight)
    with Progress(verbose) as shown:
        shown.phase("inspecting")
        problem = Problem.inspect(
            model,
            train,
            validation,
            unlabeled,
            task,
            test=test,
            seed=seed,
            validation_split=validation_split,
            memory_budget=parse_bytes(memory_budget),
            resize=resize,
            ignore_label=ignore_label,
        )
        session = Session(
            problem,
            starting_recipe(problem, stated),
            budget=budget,
            epochs=epochs,
            seed=seed,
            memory_budget=parse_bytes(memory_budget),
            class_weight=class_weight,
            run_dir=None,
            learners=learners,
            shown=shown,
        )
        return session.plan(_use.expected(session))


def starting_recipe(problem: Problem, stated: Recipe, callbacks: Sequence[Any] = ()) -> Recipe:
    """The recipe that studies begin with: what is stated, and sound starting choices.

    A one-cycle schedule that ends with the run, unless an optimizer or a callback brings a
    schedule of its own; the optimizer that the model was compiled with, Adam without one;
    and a batch that gives an epoch about a hundred steps.
    """
    optimization: dict[str, Any] = {"schedule": "one_cycle"}
    compiled = problem.compiled_optimizer
    if compiled is not None:
        optimization["optimizer"] = COMPILED
    own = compiled is not None and not has_free_rate(compiled)
    setting = {base.__name__ for callback in callbacks for base in type(callback).__mro__}
    if own or setting & SCHEDULING:
        del optimization["schedule"]
    if "LearningRateScheduler" in setting:  # it says what the rate is, from the first step on
        stated = stated.keep("learning_rate")
    size = None if problem.train.endless else problem.train.count()
    batch = starting_batch(size)
    if stated.compute.accumulate > batch:
        batch = stated.compute.accumulate
    return stated.learn("fit", optimization=optimization, compute={"batch_size": batch})


def _sessions(recipe_of: Callable[[Problem], Recipe], *, seed: int, **options: Any) -> SessionOf:
    """What makes the sessions of one call: its own, and that of a student.

    Args:
        recipe_of: The recipe that a problem begins with.
        seed: Of the call.
        **options: Of all sessions.
    """
    whole = seed

    def made(
        problem: Problem,
        budget: Budget,
        *,
        method: str | None = None,
        seed: int | None = None,
        run_dir: str | Path | None = None,
    ) -> Session:
        recipe = recipe_of(problem)
        return Session(
            problem,
            recipe if method is None else _use.told(recipe, method),
            budget=budget,
            seed=whole if seed is None else seed,
            run_dir=run_dir,
            **options,
        )

    return made


def _budget(time_budget: str | float | None, clock: Clock | None) -> Budget:
    return Budget(None if time_budget is None else parse_duration(time_budget), clock=clock)


def _stated(
    recipe: Recipe | str | Path | None,
    keep: Iterable[str],
    class_weight: str | Mapping[int, float] | None,
    *,
    fixed: bool = True,
) -> Recipe:
    """What the user decided, as a recipe with marks; `fixed` keeps all of it from studies."""
    if recipe is None:
        recipe = Recipe()
    elif isinstance(recipe, str | Path):
        recipe = Recipe.load(recipe)
    if not isinstance(recipe, Recipe):
        raise RecipeError(
            "The recipe is not a recipe.",
            required="an `etude.Recipe`, or the path of a YAML file",
            received=type(recipe).__name__,
            advice="start from `etude.Recipe().give(optimization={'learning_rate': 0.1})`",
        )
    if fixed:
        # What a recipe states is fixed, whoever found it; only defaults may be learned.
        defaults, values = Recipe().values(), recipe.values()
        marked = {path for path, _ in recipe.marks}
        stated = [path for path in values if path in marked or values[path] != defaults[path]]
        names = [keep] if isinstance(keep, str) else list(keep)
        recipe = recipe.keep([*names, *stated])
    if class_weight == "balanced":
        recipe = recipe.give(sampling={"class_weight": "balanced"})
    elif isinstance(class_weight, str):
        raise RecipeError(
            "The class weights are not known.",
            required="'balanced', or a weight per class such as {0: 1.0, 1: 5.0}",
            received=repr(class_weight),
            advice="mend the value",
        )
    check_name(recipe.optimization.optimizer)
    return recipe
