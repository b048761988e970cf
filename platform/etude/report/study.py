"""What comes before a run: the Plan, and the Tuning that studies lead to."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rich.console import Console

from etude import storage
from etude.errors import RunError
from etude.findings import Finding
from etude.recipe import Recipe
from etude.report import figures as gallery
from etude.report import page, tables, text
from etude.report.attempts import added

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TUNING, RECIPE = "tuning.json", "recipe.yaml"


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Tuning:
    """What the studies found, as a recipe to train with.

    Attributes:
        problem: Facts of model, data and task, ready for JSON.
        recipe: Every decision, each marked as given, learned or default.
        findings: What the studies found, in order.
        notes: What was said aloud while the problem was inspected.
        costs: Rows `{"part": …, "predicted": seconds or None, "true": seconds or None}`.
        page_name: What the page is called in a folder.
    """

    page_name: ClassVar[str] = "tuning.html"

    problem: Mapping[str, Any]
    recipe: Recipe
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    costs: Sequence[Mapping[str, Any]] = ()

    def summary(self, console: Console | None = None) -> None:
        """Prints the findings; to the standard output when no console is given."""
        console = console or Console()
        parts = [
            tables.problem(self.problem),
            tables.lines("To know", self.notes),
            tables.decisions(self.recipe),
            tables.findings(self.findings, plain_blocks=tables.ascii_only(console)),
            tables.ledger(self.costs),
        ]
        tables.show(console, "Étude · tuning", parts)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON, numbers that JSON does not have (NaN, ±infinity) as `None`."""
        return _to_dict(self, "etude_tuning")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Tuning:
        """The tuning of `to_dict`."""
        return cls(
            problem=data["problem"],
            recipe=Recipe.from_dict(data["recipe"]),
            findings=tuple(Finding.from_dict(item) for item in data["findings"]),
            notes=tuple(data["notes"]),
            costs=tuple(data["costs"]),
        )

    def figures(self) -> dict[str, Figure]:
        """Every figure that there is evidence for, by the meta-learners' names, and `"costs"`."""
        return gallery.drawn(_drawings(self))

    def to_html(self) -> str:
        """The tuning as one page of HTML, with its figures in it and nothing left outside."""
        stored = Tuning.from_dict(self.to_dict())
        return _page(stored, *gallery.pictures(_drawings(stored), raster=False))

    def save(self, folder: str | Path) -> Path:
        """Writes `tuning.json`, `recipe.yaml`, `tuning.html` and `figures/<name>.png`, atomically.

        `tuning.json` is the last. Its notes say if a figure or the page could not be made.

        Returns:
            The folder.
        """
        folder = Path(folder)
        storage.write_atomic(folder / RECIPE, self.recipe.to_yaml().encode())
        stored = Tuning.from_dict(self.to_dict())
        failures = page.write(
            folder, self.page_name, _drawings(stored), functools.partial(_page, stored)
        )
        final = dataclasses.replace(self, notes=added(self.notes, failures))
        storage.write_json(folder / TUNING, final.to_dict())
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Tuning:
        """Reads what `save` wrote.

        Raises:
            RunError: There is no tuning there.
        """
        data = storage.read_json(Path(folder) / TUNING)
        if not isinstance(data, Mapping) or "etude_tuning" not in data:
            raise RunError(
                "This is not a stored tuning.",
                required=f"{TUNING}, as `Tuning.save` writes it",
                received=str(Path(folder) / TUNING),
                advice="tune again",
            )
        return cls.from_dict(data)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Plan:
    """What a run would do, before it does it.

    Attributes:
        problem: Facts of model, data and task, ready for JSON.
        recipe: Every decision that stands before the studies.
        steps: Training steps.
        epochs: Passes over the training data.
        seconds: Predicted seconds by part: study, training, evaluation, …
        notes: What was said aloud while the problem was inspected.
    """

    problem: Mapping[str, Any]
    recipe: Recipe
    steps: int
    epochs: float
    seconds: Mapping[str, float]
    notes: tuple[str, ...] = ()

    def summary(self, console: Console | None = None) -> None:
        """Prints the plan; to the standard output when no console is given."""
        console = console or Console()
        rows = [{"part": part, "predicted": predicted} for part, predicted in self.seconds.items()]
        headline = f"{self.steps:,} steps, {text.number(float(self.epochs))} epochs."
        parts = [
            headline,
            tables.ledger(rows, "Where the time will go"),
            tables.problem(self.problem),
            tables.lines("To know", self.notes),
            tables.decisions(self.recipe),
        ]
        tables.show(console, "Étude · plan", parts)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON, numbers that JSON does not have (NaN, ±infinity) as `None`."""
        return _to_dict(self, "etude_plan")


def _drawings(tuning: Tuning) -> dict[str, gallery.Drawing]:
    return gallery.drawings(tuning.findings, tuning.costs)


def _page(tuning: Tuning, pictures: Mapping[str, gallery.Picture], failures: Sequence[str]) -> str:
    notes = added(tuning.notes, failures)
    return page.tuning(dataclasses.replace(tuning, notes=notes), pictures)


def _to_dict(item: Tuning | Plan, kind: str) -> dict[str, Any]:
    data: dict[str, Any] = {kind: 1}
    data |= {field.name: getattr(item, field.name) for field in dataclasses.fields(item)}
    data["recipe"] = item.recipe.to_dict()
    if isinstance(item, Tuning):
        data["findings"] = [finding.to_dict() for finding in item.findings]
    result: dict[str, Any] = storage.plain(data)
    return result
