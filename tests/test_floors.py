"""The floors of docs/architecture.md, and private names of Keras, read off the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = {
    ".".join(["etude", *path.relative_to(ROOT / "platform/etude").with_suffix("").parts]): path
    for path in sorted((ROOT / "platform/etude").rglob("*.py"))
} | {
    ".".join(path.relative_to(ROOT / "metalearners").with_suffix("").parts): path
    for path in sorted((ROOT / "metalearners").rglob("*.py"))
}

GROUND = (
    "etude.errors", "etude.recipe", "etude.findings", "etude.budget", "etude.storage",
    "etude.augment.names", "etude.augment.policy",
)  # fmt: skip
# What is private to Keras stands apart from the room it lies in.
KERAS = ("etude.training._keras_compat", "etude.training.values")
FLOORS: dict[str, int] = {
    **dict.fromkeys(GROUND, 0),
    **dict.fromkeys(KERAS, 1),
    "etude.optim": 2,
    "etude.augment": 2,
    "etude.sampling": 2,
    "etude.ssl": 2,
    "etude.tasks": 2,
    "etude.data": 2,
    "etude.models": 2,
    "etude.saving": 3,
    "etude.inspection": 4,
    "etude.problem": 4,
    "etude.report": 4,
    "etude.training": 5,
    "etude_metalearners": 6,
    "etude.metalearners": 7,
}
ROOF = ("etude.__init__", "etude.__main__", "etude._fit", "etude._session", "etude.cli",
        "etude._baseline", "etude._preparation", "etude._command_data",
        "etude._class_weights", "etude._pretrain", "etude._pupil",
        "etude._self_training", "etude._choice", "etude._trials", "etude._student",
        "etude._use")  # fmt: skip

# The problem is what its inspection gives: one room in two places.
TOGETHER = {"etude.problem": "inspection", "etude.inspection": "inspection"}
TOGETHER |= dict.fromkeys(GROUND, "ground") | dict.fromkeys(KERAS, "keras")


def room(module: str) -> str | None:
    """The room that a module lies in: the longest name that it begins with."""
    found = [name for name in FLOORS if f"{module}.".startswith(f"{name}.")]
    return max(found, key=len, default=None)


def imports(tree: ast.AST) -> Iterator[str]:
    """Full names of what is imported anywhere in a module, also within functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module is not None, "imports name their package"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def climbs(module: str, tree: ast.AST) -> list[str]:
    """Imports of a module that do not lead downwards."""
    own = room(module)
    assert own is not None
    wrong = []
    for name in imports(tree):
        if name.split(".")[0] not in ("etude", "etude_metalearners"):
            continue
        other = room(name)
        same = other is not None and TOGETHER.get(other, other) == TOGETHER.get(own, own)
        if not same and (other is None or FLOORS[other] >= FLOORS[own]):
            wrong.append(f"{module} imports {name}")
    return wrong


def parsed(module: str) -> ast.Module:
    return ast.parse(SOURCES[module].read_text(encoding="utf-8"))


BELOW = [name for name in SOURCES if name not in ROOF]


@pytest.mark.parametrize("module", BELOW)
def test_a_room_imports_only_from_lower_floors(module) -> None:
    assert climbs(module, parsed(module)) == []


def test_every_module_has_a_floor_or_is_the_roof() -> None:
    assert [name for name in BELOW if room(name) is None] == []
    assert set(ROOF) <= set(SOURCES) and len(BELOW) > 50


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("etude.tasks.binary", "from etude.training.trainer import Trainer"),
        ("etude.data.arrays", "from etude.tasks import Task"),
        ("etude.recipe", "def f():\n    import etude.data"),
        ("etude.training.run", "from etude._fit import fit"),
        ("etude_metalearners.range_test", "import etude"),
        ("etude.report.tables", "from etude.problem import Problem"),
    ],
)
def test_the_rule_can_fail(module, line) -> None:
    assert climbs(module, ast.parse(line))


def test_the_rule_knows_what_is_below() -> None:
    assert not climbs("etude_metalearners.range_test", ast.parse("from etude import training"))


def test_the_report_knows_neither_tensorflow_nor_keras() -> None:
    """But where a function loads a model, and for type checkers."""
    for module in SOURCES:
        if room(module) == "etude.report":
            at_once = ast.Module([n for n in parsed(module).body if not _waits(n)], [])
            heavy = {n for n in imports(at_once) if n.split(".")[0] in ("keras", "tensorflow")}
            assert heavy == set(), module


def _waits(node: ast.stmt) -> bool:
    checking = isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
    return checking or isinstance(node, ast.FunctionDef | ast.ClassDef)


# -- Private names ---------------------------------------------------------------------

COMPAT = "etude.training._keras_compat"
# Names by which a subclass answers Keras cannot be moved: `test_keras_compat` watches them.
ANSWERS = {
    "etude.training.trainer": {"_maybe_symbolic_build", "_distribute_strategy"},
    "etude.tasks._masked": {"_direction"},
    "etude.tasks._depth_measures": {"_direction"},
}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def attributes(tree: ast.AST) -> Iterator[tuple[str, bool]]:
    """Private attributes and methods that a module touches, and whether they are its own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            yield node.attr, isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
        elif isinstance(node, ast.FunctionDef) and is_private(node.name):
            yield node.name, True
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in (
            "getattr",
            "setattr",
            "hasattr",
        ):
            name = node.args[1]
            if isinstance(name, ast.Constant) and is_private(str(name.value)):
                yield str(name.value), False


KERAS_NAMES = {name for name, _ in attributes(parsed(COMPAT))} | {
    name for names in ANSWERS.values() for name in names
}


def trespasses(module: str, tree: ast.AST) -> set[str]:
    """Private names of others that a module touches."""
    found = {name for name, own in attributes(tree) if not own or name in KERAS_NAMES}
    found |= {n for n in imports(tree) if n.startswith(("keras.src", "tensorflow.python"))}
    return found - ANSWERS.get(module, set())


@pytest.mark.parametrize("module", [name for name in SOURCES if name != COMPAT])
def test_private_names_of_keras_are_in_one_place(module) -> None:
    assert trespasses(module, parsed(module)) == set()


def test_that_place_has_them() -> None:
    assert {"_compute_loss", "_keras_history", "_inbound_nodes", "_fn", "_seed"} <= KERAS_NAMES
    assert any(name.startswith("keras.src") for name in imports(parsed(COMPAT)))


@pytest.mark.parametrize(
    "line",
    [
        "model._compile_config",
        "getattr(layer, '_inbound_nodes')",
        "self._loss_tracker = None",
        "from keras.src.losses.loss import unscale_loss_for_distribution",
    ],
)
def test_the_watch_of_private_names_can_fail(line) -> None:
    assert trespasses("etude.training.run", ast.parse(line))
