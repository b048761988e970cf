"""The parts of a report as rows of text: what the terminal's tables and the page have in common."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from etude.findings import Finding
from etude.recipe import Recipe
from etude.report import text

LABELS = {
    "": "training\n(last pass)",
    "val_": "validation\n(used for choosing)",
    "test_": "test\n(touched once, at the end)",
}
"""What each set's figures are good for, by the prefix of their names."""


SPOKEN = {"given": "given by you", "learned by fit": "Étude's start"}
"""Marks in words that need no explanation."""


UNTOLD = frozenset(
    {"activation_seen", "checked", "fingerprint", "input_shape", "kind", "layers", "mean"}
    | {"metrics", "mode", "output_shape", "std", "user_loss", "user_metrics"}
)
"""Facts of a problem that are for files and tools rather than for people."""


DRAWN = frozenset(("config", "distances", "draws", "groups", "least", "most", "pictures", "scores"))
"""Evidence that is looked at in figures; there is too much of it for lines of text."""


def headline(finished: bool, reason: str, budget: Mapping[str, Any]) -> tuple[str, str, str]:
    """Whether it finished, why it ended, and what it used; the last two may be empty."""
    used = text.duration(budget["seconds"]) if budget.get("seconds") is not None else ""
    if used and budget.get("time_budget") is not None:
        used += f" of {text.duration(budget['time_budget'])}"
    figures = [
        f"in {used}" if used else "",
        f"{text.number(budget['epochs_done'])} epochs" if budget.get("epochs_done") else "",
        f"{text.number(budget['steps'])} steps" if budget.get("steps") else "",
    ]
    returned = budget.get("epoch_returned")
    if returned is not None and returned != budget.get("epochs_done"):
        figures.append(f"with the weights of epoch {text.number(returned)}")
    rest = ", ".join(figure for figure in figures if figure)
    state = "Finished" if finished else "Not finished"
    return state, reason.rstrip("."), f"{rest[:1].upper()}{rest[1:]}." if rest else ""


def problem(values: Mapping[str, Any]) -> dict[str, Any]:
    """What matters of the problem's facts; all of them are in the stored report."""
    told = {name: _told(item) for name, item in values.items() if name not in UNTOLD}
    return {k: v for k, v in told.items() if not _absent(v)}


def _told(item: Any) -> Any:
    if not isinstance(item, Mapping):
        return item
    return {k: v for k, v in item.items() if k not in UNTOLD and not _absent(v)}


def _absent(item: Any) -> bool:
    return item is None or item is False or (isinstance(item, Sequence | Mapping) and not item)


@dataclasses.dataclass(frozen=True)
class Decision:
    """One value of a recipe: its name, the value, where it came from, in words and as a mark."""

    name: str
    value: str
    source: str
    mark: str


def decisions(recipe: Recipe) -> tuple[list[Decision], str]:
    """What was given or learned, row by row, and all else in one line."""
    found, rest = [], []
    for path, item in recipe.values().items():
        name = text.words(path.split(".")[1])
        mark = recipe.mark(path)
        if mark.origin == "default":
            if str(item) not in ("None", "none"):
                rest.append(f"{name} {text.value(item)}")
            continue
        source = f"learned: {text.words(mark.by)}" if mark.by else mark.origin
        shown = "the model's own" if item is None else text.value(item)
        found.append(Decision(name, shown, SPOKEN.get(str(mark), source), mark.origin))
    return found, ", ".join(rest)


def changes(finding: Finding) -> str:
    """What a finding changed, `batch size = 256`; empty if nothing."""
    return ", ".join(
        f"{text.words(name)} = {text.value(found)}" for name, found in finding.changes.items()
    )


def cost(finding: Finding) -> str:
    """What a study cost, what was predicted of cost and gain; empty if it cost nothing."""
    if not (finding.true.seconds or finding.true.steps):
        return ""
    line = f"{text.duration(finding.true.seconds)}, {finding.true.steps:,} steps"
    if finding.predicted.seconds or finding.predicted.steps:
        line += f" (predicted {text.duration(finding.predicted.seconds)}"
        line += f", {finding.predicted.steps:,} steps)"
    if 0.0 < finding.gain < 1.0:  # one that a run cannot do without is worth all of it
        line += f"; expected to be worth {finding.gain:.0%} of the training"
    return line


def evidence(found: Mapping[str, Any], *, plain_blocks: bool) -> Iterable[tuple[str, str, str]]:
    """Rows `(label, value, bounds)`: numbers in one row, then one for each axis and curve."""
    for title, leaves in _trials(found):
        numbers = {name: item for name, item in leaves.items() if not text.is_curve(item)}
        if numbers:
            yield title, text.value(numbers), ""
        for name, item in leaves.items():
            if name in numbers:
                continue
            known = [x for x in item if x is not None and math.isfinite(x)]
            bounds = f"{text.number(min(known))} to {text.number(max(known))}"
            # An axis has no shape to look at, only ends.
            drawn = "" if text.is_axis(item) else text.curve(item, ascii_only=plain_blocks) + " "
            yield f"{title}{text.words(name)} ", drawn, bounds


def _trials(found: Mapping[str, Any], title: str = "") -> Iterable[tuple[str, dict[str, Any]]]:
    """Evidence without nesting: what belongs to the whole, then each list's mappings in turn."""
    leaves: dict[str, Any] = {}
    trials: list[tuple[str, Mapping[str, Any]]] = []
    for name, item in found.items():
        if name in DRAWN:
            continue
        if isinstance(item, Mapping):
            for _, inner in _trials(item):
                leaves |= inner
        elif isinstance(item, Sequence) and item and all(isinstance(x, Mapping) for x in item):
            each = text.words(name).removesuffix("s")
            many = len(item) > 1
            trials += [(f"{each} {i}: " if many else "", x) for i, x in enumerate(item, 1)]
        elif item is not None and item != "" and name != "why":  # the finding says why
            leaves[name] = item
    if leaves:
        yield title, leaves
    for name, trial in trials:
        yield from _trials(trial, title + name)


def outcome(figures: Mapping[str, float]) -> tuple[list[str], list[list[str]]]:
    """Figures by set: the sets they were measured on, and a row for each metric."""
    split: dict[str, dict[str, float]] = {prefix: {} for prefix in LABELS}
    for key, number in figures.items():
        prefix = next((p for p in ("val_", "test_") if key.startswith(p)), "")
        split[prefix][key.removeprefix(prefix)] = number
    used = [prefix for prefix in LABELS if split[prefix]]
    names = dict.fromkeys(name for prefix in used for name in split[prefix])
    lines = [
        [text.words(name), *(figure(split[prefix].get(name)) for prefix in used)] for name in names
    ]
    return [LABELS[prefix] for prefix in used], lines


@dataclasses.dataclass(frozen=True)
class Ledger:
    """Seconds by part: the columns' names, a row for each part, and rows of sums."""

    columns: list[str]
    parts: list[list[str]]
    sums: list[list[str]]


def ledger(rows: Sequence[Mapping[str, Any]]) -> Ledger:
    """Predicted and true seconds by part, and their sums; without any true one, predicted."""
    both = [row for row in rows if row.get("predicted") is not None and row.get("true") is not None]
    if not any(row.get("true") is not None for row in rows):
        parts = [[_part(row), text.duration(row.get("predicted"))] for row in rows]
        all_ = ["all", text.duration(_total(rows, "predicted"))]
        return Ledger(["part", "predicted"], parts, [all_])
    parts = [
        [_part(row), *(text.duration(row.get(key)) for key in ("predicted", "true")), _ratio([row])]
        for row in rows
    ]
    sums = []
    if _total(both, "predicted") and len(both) < len(rows):  # the ratio is of these alone
        durations = [text.duration(_total(both, key)) for key in ("predicted", "true")]
        sums.append(["predicted parts", *durations, _ratio(both)])
    known = text.duration(_total(rows, "predicted")) if len(both) == len(rows) else text.MISSING
    ratio = _ratio(rows) if len(both) == len(rows) else text.MISSING
    sums.append(["all", known, text.duration(_total(rows, "true")), ratio])
    return Ledger(["part", "predicted", "true", "true / predicted"], parts, sums)


def _part(row: Mapping[str, Any]) -> str:
    return text.words(str(row["part"]))


def _total(rows: Sequence[Mapping[str, Any]], key: str) -> float | None:
    known = [row[key] for row in rows if row.get(key) is not None]
    return sum(known) if known else None


def _ratio(rows: Sequence[Mapping[str, Any]]) -> str:
    """True over predicted time, of the parts for which both are known."""
    both = [row for row in rows if row.get("predicted") is not None and row.get("true") is not None]
    predicted, true = _total(both, "predicted"), _total(both, "true")
    return f"{true / predicted:.2f}" if predicted and true is not None else text.MISSING


def origin(seed: int | None, versions: Mapping[str, str], run_dir: str | None) -> dict[str, str]:
    """What it takes to repeat a run."""
    found = {}
    if seed is not None:
        found["seed"] = str(seed)
    if versions:
        found["versions"] = text.value(dict(versions))
    if run_dir is not None:
        found["stored in"] = str(run_dir)
    return found


def figure(number: float | None) -> str:
    """A figure of the outcome: four decimals, or three digits where those say little."""
    if number is None:
        return text.MISSING
    if not math.isfinite(number):
        return text.number(number)
    return f"{number:.4f}" if 1e-3 <= abs(number) < 1e4 else f"{number:.3g}"
