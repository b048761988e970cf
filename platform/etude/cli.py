"""The command line: `etude fit|tune|plan|report`, also `python -m etude`.

absl, Keras and TensorFlow are imported only when a command needs them.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude.errors import DataError, EtudeError, RunError

if TYPE_CHECKING:
    from etude.recipe import Recipe
    from etude.report import Plan, Report, Tuning

OK, INTERNAL, USER, INTERRUPTED = 0, 1, 2, 130

USAGE = """Étude studies a Keras vision model and its data, then trains it with what it learned.

  etude fit --data=fashion_mnist --model=resnet9 --time_budget=10m
                               study, train, report
  etude tune   [same flags]    study only; prints the recipe's evidence
  etude plan   [same flags]    inspect only; prints what a run would do and take
  etude report RUN_DIR         print a stored report; says where its page with figures is

Exit status: 0 done, 2 something for you to mend (nothing was trained), 130 interrupted (the
best weights so far are kept), 1 a fault of Étude itself.

Flags:"""

_TEXT, _INT, _FLOAT, _BOOL, _LIST = "string", "integer", "float", "boolean", "list"
_PLACES = {_TEXT: "=TEXT", _INT: "=N", _FLOAT: "=X", _BOOL: "", _LIST: "=A,B"}
_FLAGS: tuple[tuple[str, str, Any, str], ...] = (
    ("data", _TEXT, None, "fashion_mnist, tfds:NAME[SPLIT], FILE.npz, or a folder of images"),
    ("validation", _TEXT, None, "validation data, as --data; else a part is held out"),
    ("test", _TEXT, None, "test data, as --data; touched once, at the end"),
    ("unlabeled", _TEXT, None, "images without labels, as --data"),
    ("model", _TEXT, None, "a network by name, or a .keras file; by the labels when left out"),
    ("width", _INT, None, "channels of the network's first convolution"),
    ("task", _TEXT, None, "what the labels mean, when that is not plain: single_label, depth, …"),
    ("epochs", _FLOAT, None, "train for so many passes over the data"),
    ("time_budget", _TEXT, None, "study and train within this time: 90s, 10m, 1h30m"),
    ("recipe", _TEXT, None, "a recipe in YAML to start from"),
    ("keep", _LIST, [], "recipe groups or values that no study may change"),
    ("batch_size", _INT, None, "samples per update; fixes it"),
    ("augment", _TEXT, None, "an augmentation policy by name: standard_cifar, trivialaugment, …"),
    ("sampling", _TEXT, None, "a strategy of importance sampling: upper_bound, fast_selection, …"),
    ("class_weight", _TEXT, None, "balanced, or weights by class: 0:1,1:5"),
    ("validation_split", _FLOAT, 0.15, "the share held out when no validation data are given"),
    ("resize", _TEXT, None, "bring images to HEIGHTxWIDTH"),
    ("ignore_label", _INT, None, "the label of a mask that counts for nothing"),
    ("run_dir", _TEXT, None, "where the run stores itself, and goes on from when called again"),
    ("seed", _INT, 0, "the same seed gives the same run"),
    ("baseline", _BOOL, False, "then train the same network by plain Keras as long; compare"),
    ("verbose", _INT, 1, "0 nothing, 1 bars and tables, 2 one line per event"),
    ("json", _BOOL, False, "end with the result as one line of JSON"),
    ("help", _BOOL, False, "show this help"),
    ("version", _BOOL, False, "show the version"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        argv: The program's name and its arguments; `sys.argv` when left out.

    Returns:
        The exit status: 0, 2 for what the user can mend, 130 when interrupted. A fault of
        Étude itself is not caught here, and Python ends with 1 and a traceback.
    """
    arguments = list(sys.argv if argv is None else argv)[1:]
    try:
        return _run(arguments)
    except EtudeError as error:
        print(f"etude: {error}", file=sys.stderr)
        return USER
    except KeyboardInterrupt:
        print("etude: interrupted.", file=sys.stderr)
        return INTERRUPTED


def _run(arguments: list[str]) -> int:
    flags, words = _parse(arguments)
    if flags.version:
        import etude

        print(f"etude {etude.__version__}")
        return OK
    if flags.help or not words:
        print(_help())
        return OK if flags.help else USER
    command, *rest = words
    commands: dict[str, Callable[[Any], int]] = {"fit": _fit, "tune": _tune, "plan": _plan}
    if command == "report":
        return _report(flags, rest)
    if command not in commands or rest:
        raise RunError(
            "The command line is not understood.",
            required=f"one of {[*commands, 'report']}, then flags",
            received=" ".join(words),
            advice="see `etude --help`",
        )
    if flags.baseline and command != "fit":
        raise RunError(
            "--baseline compares trained networks.",
            required="--baseline with `etude fit`",
            received=f"--baseline with `etude {command}`",
            advice="leave it out",
        )
    _import_tensorflow()
    return commands[command](flags)


def _import_tensorflow() -> None:
    """Imports TensorFlow without its start-up messages, unless it fails.

    They are for its developers, and some are written past every setting for them, straight
    to the process's error stream.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as messages:
        os.dup2(messages.fileno(), 2)
        try:
            importlib.import_module("tensorflow")
        except BaseException:
            messages.seek(0)
            os.write(kept, messages.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


# -- flags -----------------------------------------------------------------------------


def _parse(arguments: list[str]) -> tuple[Any, list[str]]:
    from absl import flags as absl_flags

    # Values of our own: the process's global flags belong to whoever embeds Étude.
    values = absl_flags.FlagValues()
    values.set_gnu_getopt(True)  # flags may follow words
    for name, kind, default, text in _FLAGS:
        define = getattr(absl_flags, f"DEFINE_{kind}")
        define(name, default, text, flag_values=values)
    try:
        words = values(["etude", *arguments])[1:]
    except absl_flags.Error as error:
        raise RunError(
            "The command line is not understood.",
            required="flags as `etude --help` lists them",
            received=str(error),
            advice="mend that flag",
        ) from error
    return values, words


def _help() -> str:
    lines = [USAGE]
    for name, kind, default, text in _FLAGS:
        shown = f"--{name}{_PLACES[kind]}"
        default_text = "" if default in (None, False, []) else f" (default {default})"
        lines.append(f"  {shown:<22} {text}{default_text}")
    return "\n".join(lines)


def _resize(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    parts = text.lower().replace(",", "x").split("x")
    if len(parts) != 2 or not all(part.strip().isdigit() for part in parts):
        raise DataError(
            "--resize is not a size.",
            required="HEIGHTxWIDTH in pixels, such as 96x128",
            received=repr(text),
            advice="mend the flag",
        )
    return int(parts[0]), int(parts[1])


def _class_weight(text: str | None) -> Any:
    if text is None or ":" not in text:
        return text
    try:
        pairs = [item.split(":") for item in text.split(",")]
        return {int(label): float(weight) for label, weight in pairs}
    except ValueError as error:
        raise DataError(
            "--class_weight is not understood.",
            required="'balanced', or a weight for each class such as 0:1,1:5",
            received=repr(text),
            advice="mend the flag",
        ) from error


def _recipe(flags: Any) -> Recipe | None:
    """The recipe of `--recipe` with what other flags fix."""
    from etude.recipe import Recipe

    recipe = None
    if flags.recipe is not None:
        recipe = Recipe.load(flags.recipe)
    if flags.batch_size is not None:
        recipe = (recipe or Recipe()).give(compute={"batch_size": flags.batch_size})
    if flags.augment is not None:
        recipe = (recipe or Recipe()).give(augmentation={"policy": flags.augment})
    if flags.sampling is not None:
        recipe = (recipe or Recipe()).give(sampling={"strategy": flags.sampling})
    return recipe


# -- commands --------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Work:
    """What a command works on: the sets, a maker of the model, and options of the call."""

    sets: Any
    make_model: Callable[[], Any]
    options: dict[str, Any]


def _work(flags: Any) -> _Work:
    if flags.data is None:
        raise DataError(
            "There are no data to train on.",
            required="--data=fashion_mnist, tfds:NAME, FILE.npz or a folder",
            received="no --data",
            advice="add the flag",
        )
    # What costs nothing to check comes before data are read.
    recipe, class_weight, resize = (
        _recipe(flags),
        _class_weight(flags.class_weight),
        _resize(flags.resize),
    )
    from etude import _command_data as data

    sets = data.open_sets(flags.data, flags.validation, flags.test, flags.unlabeled, resize)
    make_model = data.model_maker(
        flags.model,
        sets.train,
        width=flags.width,
        seed=flags.seed,
        task=flags.task,
        ignore_label=flags.ignore_label,
    )
    options = {
        "unlabeled": sets.unlabeled,
        "task": flags.task,
        "recipe": recipe,
        "keep": tuple(flags.keep),
        "epochs": flags.epochs,
        "time_budget": flags.time_budget,
        "run_dir": flags.run_dir,
        "seed": flags.seed,
        "class_weight": class_weight,
        "validation_split": flags.validation_split,
        "ignore_label": flags.ignore_label,
        "verbose": flags.verbose,
    }
    return _Work(sets, make_model, options)


def _fit(flags: Any) -> int:
    from etude._fit import fit

    work = _work(flags)
    model = work.make_model()
    initial = model.get_weights() if flags.baseline else []
    start = time.monotonic()
    report = fit(model, work.sets.train, work.sets.validation, test=work.sets.test, **work.options)
    seconds = time.monotonic() - start
    if flags.verbose:
        report.summary()
        _say_page(report, flags.run_dir)
    result = report.to_dict()
    interrupted = not report.finished and "interrupt" in report.reason.lower()
    if flags.baseline and not interrupted:
        # A run that went on had its first seconds in another process.
        seconds = max(seconds, report.budget["seconds"])
        result["baseline"] = _baseline(flags, work, initial, report, seconds)
    if flags.json:
        print(json.dumps(result, allow_nan=False))
    return INTERRUPTED if interrupted else OK


def _baseline(
    flags: Any, work: _Work, initial: list[Any], report: Report, seconds: float
) -> dict[str, Any]:
    from etude import _baseline as baseline
    from etude.storage import plain

    model = work.make_model()
    model.set_weights(initial)
    same = {name: work.options[name] for name in ("task", "seed", "validation_split")}
    other = baseline.plain_fit(
        model,
        work.sets,
        seconds,
        **same,
        ignore_label=work.options["ignore_label"],
        verbose=flags.verbose,
    )
    if flags.verbose:
        baseline.show(report, seconds, other)
    result: dict[str, Any] = plain(dataclasses.asdict(other))
    return result


def _tune(flags: Any) -> int:
    from etude._fit import tune

    work = _work(flags)
    tuning = tune(work.make_model(), work.sets.train, work.sets.validation, **work.options)
    if flags.run_dir is not None:
        tuning.save(flags.run_dir)
    return _shown(flags, tuning, flags.run_dir)


def _plan(flags: Any) -> int:
    from etude._fit import plan

    work = _work(flags)
    sets, options = work.sets, dict(work.options)
    del options["run_dir"]  # a plan writes nothing
    return _shown(
        flags, plan(work.make_model(), sets.train, sets.validation, test=sets.test, **options)
    )


def _report(flags: Any, words: list[str]) -> int:
    if len(words) != 1:
        raise RunError(
            "`etude report` prints one stored report.",
            required="etude report RUN_DIR",
            received=" ".join(["etude report", *words]),
            advice="name the folder that --run_dir named",
        )
    from etude.report import Report

    return _shown(flags, Report.load(words[0]), words[0])


def _shown(flags: Any, result: Report | Tuning | Plan, folder: str | None = None) -> int:
    """Prints a result: the summary, where its page is, and JSON, as the flags say."""
    if flags.verbose:
        result.summary()
        _say_page(result, folder)
    if flags.json:
        print(json.dumps(result.to_dict(), allow_nan=False))
    return OK


def _say_page(result: Report | Tuning | Plan, folder: str | None) -> None:
    """Says where the page of a stored result is; writes it where there is none yet."""
    from etude import storage
    from etude.report import Plan

    if folder is None or isinstance(result, Plan):
        return
    page = Path(folder) / result.page_name
    try:
        if not page.exists():
            storage.write_atomic(page, result.to_html().encode())
        print(f"The same with figures: {page}")
    except OSError as error:
        # What may only be read can be printed all the same.
        print(f"There is no page with figures, and none could be written: {error}")
