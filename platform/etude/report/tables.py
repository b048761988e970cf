"""The parts of a report as rich renderables, made for 80 columns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

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


def ascii_only(console: Console) -> bool:
    """Whether the console cannot show block characters."""
    return not str(console.encoding).lower().startswith("utf")


def show(console: Console, title: str, parts: Iterable[Any]) -> None:
    """Prints a title and the parts below it; parts that are `None` are left out."""
    console.print()
    console.print(Rule(Text(title, "bold"), align="left", style="dim"))
    for part in parts:
        if part is not None:
            console.print(part)


def section(title: str, body: Any, remark: str = "") -> Group:
    """A heading, a remark in dim print, and what is under them."""
    heading = Text(f"\n{title}", "bold cyan")
    parts = [heading, Text(remark, "dim")] if remark else [heading]
    return Group(*parts, body)


def facts(title: str, values: Mapping[str, Any], remark: str = "") -> Group | None:
    """Names and values, two columns."""
    if not values:
        return None
    table = _table("", "")
    table.show_header = False
    for name, line in text.flat(values):
        table.add_row(Text(name, "dim"), Text(line))
    return section(title, table, remark)


def problem(values: Mapping[str, Any]) -> Group | None:
    """What matters of the problem's facts; all of them are in the stored report."""
    told = {name: _told(item) for name, item in values.items() if name not in UNTOLD}
    return facts("The problem", {k: v for k, v in told.items() if not _absent(v)})


def _told(item: Any) -> Any:
    if not isinstance(item, Mapping):
        return item
    return {k: v for k, v in item.items() if k not in UNTOLD and not _absent(v)}


def _absent(item: Any) -> bool:
    return item is None or item is False or (isinstance(item, Sequence | Mapping) and not item)


def lines(title: str, items: Sequence[str], remark: str = "") -> Group | None:
    """One bullet for each sentence."""
    if not items:
        return None
    table = Table.grid(padding=(0, 1))
    for item in items:
        table.add_row("•", Text(item))
    return section(title, Padding(table, (0, 0, 0, 1)), remark)


def decisions(recipe: Recipe) -> Group:
    """What was given or learned, row by row, and all else in one row."""
    table = _table("setting", "value", "where it came from")
    rest = []
    for path, item in recipe.values().items():
        name = path.split(".")[1]
        mark = recipe.mark(path)
        if mark.origin == "default":
            if item not in (None, "none"):
                rest.append(f"{text.words(name)} {text.value(item)}")
            continue
        style = "green" if mark.origin == "learned" else "yellow"
        origin = f"learned: {text.words(mark.by)}" if mark.by else mark.origin
        origin = SPOKEN.get(str(mark), origin)
        shown = "the model's own" if item is None else text.value(item)
        table.add_row(text.words(name), Text(shown), Text(origin, style))
    table.add_row(Text("all else", "dim"), Text(", ".join(rest), "dim"), Text("default", "dim"))
    return section("What was decided", table)


def findings(items: Sequence[Finding], *, plain_blocks: bool = False) -> Group | None:
    """Each study's result: what it changed, why, on what evidence, at what cost."""
    if not items:
        return None
    parts = []
    for item in items:
        table = Table.grid(padding=(0, 1))
        table.add_column(style="dim", no_wrap=True, width=9)
        table.add_column()
        changed = ", ".join(
            f"{text.words(name)} = {text.value(found)}" for name, found in item.changes.items()
        )
        if changed:
            table.add_row("found", Text(changed, "green"))
        table.add_row("why", Text(item.why))
        for row in _evidence(item.evidence, plain_blocks):
            table.add_row("evidence", row)
        if item.true.seconds or item.true.steps:
            table.add_row("cost", Text(_cost(item)))
        parts.append(Text(text.words(item.learner), "bold"))
        parts.append(Padding(table, (0, 0, 0, 1)))
    return section("What was studied", Padding(Group(*parts), (0, 0, 0, 1)))


def outcome(figures: Mapping[str, float]) -> Group | None:
    """Figures by set: rows are metrics, columns the sets they were measured on."""
    if not figures:
        return None
    split: dict[str, dict[str, float]] = {prefix: {} for prefix in LABELS}
    for key, figure in figures.items():
        prefix = next((p for p in ("val_", "test_") if key.startswith(p)), "")
        split[prefix][key.removeprefix(prefix)] = figure
    used = [prefix for prefix in LABELS if split[prefix]]
    table = _table("figure", *(LABELS[prefix] for prefix in used), right=True)
    for name in dict.fromkeys(name for prefix in used for name in split[prefix]):
        cells = [split[prefix].get(name) for prefix in used]
        table.add_row(text.words(name), *(_figure(cell) for cell in cells))
    return section("How good it is", table)


def course(history: Mapping[str, Sequence[float]], *, plain_blocks: bool = False) -> Group | None:
    """How each figure went, evaluation by evaluation."""
    rows = {k: values for k, values in history.items() if len(values) >= 2 and k != "epoch"}
    if not rows:
        return None
    table = _table("figure", "first", "last", "course", right=True)
    table.columns[-1].justify = "left"
    for name, values in rows.items():
        drawn = text.curve(list(values), 30, ascii_only=plain_blocks)
        label = text.words(name).replace("val ", "validation ", 1)
        table.add_row(label, _figure(values[0]), _figure(values[-1]), drawn)
    return section("How it went", table)


def ledger(
    rows: Sequence[Mapping[str, Any]], title: str = "Where the time went", remark: str = ""
) -> Group | None:
    """Predicted and true seconds by part, and their sums."""
    if not rows:
        return None
    measured = any(row.get("true") is not None for row in rows)
    columns = (
        ["part", "predicted", "true", "true / predicted"] if measured else ["part", "predicted"]
    )
    table = _table(*columns, right=True)
    for row in rows:
        predicted, true = row.get("predicted"), row.get("true")
        cells = [text.words(str(row["part"])), text.duration(predicted)]
        if measured:
            cells += [text.duration(true), _ratio([row])]
        table.add_row(*cells)
    table.add_section()
    if not measured:
        table.add_row("all", text.duration(_total(rows, "predicted")), style="bold")
        return section(title, table, remark)
    both = [row for row in rows if row.get("predicted") is not None and row.get("true") is not None]
    if _total(both, "predicted") and len(both) < len(rows):  # the ratio is of these alone
        sums = [text.duration(_total(both, key)) for key in ("predicted", "true")]
        table.add_row("predicted parts", *sums, _ratio(both))
    known = text.duration(_total(rows, "predicted")) if len(both) == len(rows) else text.MISSING
    ratio = _ratio(rows) if len(both) == len(rows) else text.MISSING
    table.add_row("all", known, text.duration(_total(rows, "true")), ratio, style="bold")
    return section(title, table, remark)


def _table(*columns: str, right: bool = False) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=True, header_style="dim")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if right and i else "left", overflow="fold")
    return table


def _total(rows: Sequence[Mapping[str, Any]], key: str) -> float | None:
    known = [row[key] for row in rows if row.get(key) is not None]
    return sum(known) if known else None


def _ratio(rows: Sequence[Mapping[str, Any]]) -> str:
    """True over predicted time, of the parts for which both are known."""
    both = [row for row in rows if row.get("predicted") is not None and row.get("true") is not None]
    predicted, true = _total(both, "predicted"), _total(both, "true")
    return f"{true / predicted:.2f}" if predicted and true is not None else text.MISSING


def _figure(figure: float | None) -> str:
    if figure is None:
        return text.MISSING
    if not math.isfinite(figure):
        return text.number(figure)
    return f"{figure:.4f}" if 1e-3 <= abs(figure) < 1e4 else f"{figure:.3g}"


def _cost(item: Finding) -> str:
    line = f"{text.duration(item.true.seconds)}, {item.true.steps:,} steps"
    if item.predicted.seconds or item.predicted.steps:
        line += f" (predicted {text.duration(item.predicted.seconds)}"
        line += f", {item.predicted.steps:,} steps)"
    return line


def _evidence(evidence: Mapping[str, Any], plain_blocks: bool) -> Iterable[Text]:
    """Numbers in one row, then a row for each axis and each curve; trial by trial."""
    for title, leaves in _trials(evidence):
        numbers = {name: item for name, item in leaves.items() if not text.is_curve(item)}
        if numbers:
            yield Text.assemble((title, "dim"), text.value(numbers))
        for name, item in leaves.items():
            if name in numbers:
                continue
            known = [x for x in item if x is not None and math.isfinite(x)]
            bounds = f"{text.number(min(known))} to {text.number(max(known))}"
            # An axis has no shape to look at, only ends.
            drawn = "" if text.is_axis(item) else text.curve(item, ascii_only=plain_blocks) + " "
            yield Text.assemble((f"{title}{text.words(name)} ", "dim"), drawn, (bounds, "dim"))


def _trials(evidence: Mapping[str, Any], title: str = "") -> Iterable[tuple[str, dict[str, Any]]]:
    """Evidence without nesting: what belongs to the whole, then each list's mappings in turn."""
    leaves: dict[str, Any] = {}
    trials: list[tuple[str, Mapping[str, Any]]] = []
    for name, item in evidence.items():
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
