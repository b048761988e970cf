"""The parts of a report as rich renderables, made for 80 columns."""

from __future__ import annotations

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
from etude.report import rows, text


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
    """What matters of the problem's facts."""
    return facts("The problem", rows.problem(values))


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
    found, rest = rows.decisions(recipe)
    for item in found:
        style = "green" if item.mark == "learned" else "yellow"
        table.add_row(item.name, Text(item.value), Text(item.source, style))
    table.add_row(Text("all else", "dim"), Text(rest, "dim"), Text("default", "dim"))
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
        if changed := rows.changes(item):
            table.add_row("found", Text(changed, "green"))
        table.add_row("why", Text(item.why))
        for label, value, bounds in rows.evidence(item.evidence, plain_blocks=plain_blocks):
            table.add_row("evidence", Text.assemble((label, "dim"), value, (bounds, "dim")))
        if cost := rows.cost(item):
            table.add_row("cost", Text(cost))
        parts.append(Text(text.words(item.learner), "bold"))
        parts.append(Padding(table, (0, 0, 0, 1)))
    return section("What was studied", Padding(Group(*parts), (0, 0, 0, 1)))


def outcome(figures: Mapping[str, float]) -> Group | None:
    """Figures by set: rows are metrics, columns the sets they were measured on."""
    if not figures:
        return None
    sets, lines = rows.outcome(figures)
    table = _table("figure", *sets, right=True)
    for line in lines:
        table.add_row(*line)
    return section("How good it is", table)


def course(history: Mapping[str, Sequence[float]], *, plain_blocks: bool = False) -> Group | None:
    """How each figure went, evaluation by evaluation."""
    drawable = {k: values for k, values in history.items() if len(values) >= 2 and k != "epoch"}
    if not drawable:
        return None
    table = _table("figure", "first", "last", "course", right=True)
    table.columns[-1].justify = "left"
    for name, values in drawable.items():
        drawn = text.curve(list(values), 30, ascii_only=plain_blocks)
        label = text.words(name).replace("val ", "validation ", 1)
        table.add_row(label, rows.figure(values[0]), rows.figure(values[-1]), drawn)
    return section("How it went", table)


def ledger(
    costs: Sequence[Mapping[str, Any]], title: str = "Where the time went", remark: str = ""
) -> Group | None:
    """Predicted and true seconds by part, and their sums."""
    if not costs:
        return None
    found = rows.ledger(costs)
    table = _table(*found.columns, right=True)
    for part in found.parts:
        table.add_row(*part)
    table.add_section()
    for line in found.sums:
        table.add_row(*line, style="bold" if line is found.sums[-1] else None)
    return section(title, table, remark)


def _table(*columns: str, right: bool = False) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=True, header_style="dim")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if right and i else "left", overflow="fold")
    return table
