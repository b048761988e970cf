"""The Report: what a run did, why, how well, and at what cost."""

from __future__ import annotations

import dataclasses
import functools
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rich.console import Console
from rich.markup import escape

from etude import storage
from etude.errors import RunError
from etude.findings import Finding
from etude.recipe import Recipe
from etude.report import figures as gallery
from etude.report import page, rows, tables
from etude.report.attempts import added

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure

VERSION = 1
REPORT, RECIPE, MODEL, WEIGHTS = "report.json", "recipe.yaml", "model.keras", "model.weights.h5"


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Report:
    """What a run did, why, how well, and at what cost.

    Attributes:
        problem: Facts of model, data and task, ready for JSON.
        recipe: Every decision, each marked as given, learned or default.
        outcome: Figures of the weights that the model ends with. `val_` figures were used
            for choosing among weights; `test_` figures were touched once, at the end.
        history: Each figure, once per evaluation, by Keras' names.
        notes: What was said aloud while the problem was inspected.
        findings: What the studies found, in order.
        costs: Rows `{"part": …, "predicted": seconds or None, "true": seconds or None}`.
        events: What happened on the way: recoveries, changes of plan, resumptions.
        budget: What was asked for and what was used: `time_budget` and `epochs` (`None`
            where not asked for), `seconds`, `steps` and `epochs_done`; and
            `epoch_returned`, how far the run was with the weights that the model ends with.
        finished: Whether the schedule was finished (as planned, or by early stopping).
        reason: Why it ended, in words.
        seed: The run's seed.
        versions: Versions of what the run depended on.
        run_dir: Where the run stored itself; `None` when nowhere.
        model: The user's model, trained. Not part of `to_dict`.
        keras_history: The `keras.callbacks.History`. Not part of `to_dict`.
        page_name: What the page is called in a folder.
    """

    page_name: ClassVar[str] = "report.html"

    problem: Mapping[str, Any]
    recipe: Recipe
    outcome: Mapping[str, float] = dataclasses.field(default_factory=dict)
    history: Mapping[str, Sequence[float]] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    costs: Sequence[Mapping[str, Any]] = ()
    events: tuple[str, ...] = ()
    budget: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    finished: bool = True
    reason: str = ""
    seed: int | None = None
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    run_dir: str | None = None
    model: keras.Model | None = dataclasses.field(default=None, repr=False)
    keras_history: Any = dataclasses.field(default=None, repr=False)

    def summary(self, console: Console | None = None) -> None:
        """Prints the report.

        Args:
            console: Where to; the standard output when left out.
        """
        console = console or Console()
        plain = tables.ascii_only(console)
        parts = [
            self._headline(),
            tables.outcome(self.outcome),
            tables.problem(self.problem),
            tables.lines("To know", self.notes),
            tables.decisions(self.recipe),
            tables.findings(self.findings, plain_blocks=plain),
            tables.course(self.history, plain_blocks=plain),
            tables.ledger(self.costs),
            tables.lines("What happened on the way", self.events),
            tables.facts("To repeat it", rows.origin(self.seed, self.versions, self.run_dir)),
        ]
        tables.show(console, "Étude · report", parts)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON, numbers that JSON does not have (NaN, ±infinity) as `None`."""
        names = [field.name for field in dataclasses.fields(self)]
        data = {name: getattr(self, name) for name in names}
        del data["model"], data["keras_history"]
        data["recipe"] = self.recipe.to_dict()
        data["findings"] = [finding.to_dict() for finding in self.findings]
        result: dict[str, Any] = storage.plain({"etude_report": VERSION, **data})
        return result

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Report:
        """The report of `to_dict`, without model; `None` among figures reads as NaN.

        Raises:
            RunError: It is not a report, or one of another version.
        """
        if not isinstance(data, Mapping) or data.get("etude_report") != VERSION:
            found = data.get("etude_report") if isinstance(data, Mapping) else type(data).__name__
            raise RunError(
                "This is not a report that this version of Étude can read.",
                required=f"etude_report: {VERSION}",
                received=f"etude_report: {found}",
                advice="read it with the version of Étude that wrote it",
            )
        fields = {name: item for name, item in data.items() if name != "etude_report"}
        fields["recipe"] = Recipe.from_dict(fields["recipe"])
        fields["findings"] = tuple(Finding.from_dict(item) for item in fields["findings"])
        fields["outcome"] = {name: _figure(item) for name, item in fields["outcome"].items()}
        fields["history"] = {
            name: [_figure(item) for item in items] for name, items in fields["history"].items()
        }
        for name in ("notes", "events", "costs"):
            fields[name] = tuple(fields[name])
        return cls(**fields)

    def figures(self) -> dict[str, Figure]:
        """Every figure that there is evidence for, drawn anew.

        Returns:
            matplotlib's figures, by the meta-learners' names, and `"course"` and `"costs"`.
        """
        return gallery.drawn(_drawings(self))

    def to_html(self) -> str:
        """The report as one page of HTML, with its figures in it and nothing left outside."""
        # What is shown is what is stored: a report that is loaded again gives the same page.
        stored = Report.from_dict(self.to_dict())
        return _page(stored, *gallery.pictures(_drawings(stored), raster=False))

    def save(self, folder: str | Path) -> Path:
        """Writes the report, the recipe, the page, the figures and, if there is one, the model.

        These are `report.json`, `recipe.yaml`, `report.html`, `figures/<name>.png` and
        `model.keras`. Every file is written atomically, and `report.json` last: where it is,
        all is. A model that Keras cannot serialize (a subclass without `get_config`) is stored
        as `model.weights.h5` instead, and the stored report says so; it says too if a figure
        or the page could not be made.

        Returns:
            The folder.
        """
        folder = Path(folder)
        storage.write_atomic(folder / RECIPE, self.recipe.to_yaml().encode())
        events = self.events
        if self.model is not None:
            events += _save_model(self.model, folder)
        stored = Report.from_dict(dataclasses.replace(self, events=events).to_dict())
        failures = page.write(
            folder, self.page_name, _drawings(stored), functools.partial(_page, stored)
        )
        final = dataclasses.replace(self, events=added(events, failures))
        storage.write_json(folder / REPORT, final.to_dict())
        return folder

    @classmethod
    def load(cls, folder: str | Path, *, with_model: bool = False) -> Report:
        """Reads a report that `save` wrote.

        Args:
            folder: The folder given to `save`.
            with_model: Also loads `model.keras`, which takes TensorFlow and some seconds.

        Raises:
            RunError: There is no report there, or no model when one is asked for.
        """
        report = cls.from_dict(storage.read_json(Path(folder) / REPORT))
        return dataclasses.replace(report, model=_load_model(folder)) if with_model else report

    def _headline(self) -> str:
        state, reason, used = rows.headline(self.finished, self.reason, self.budget)
        colour = "green" if self.finished else "yellow"
        line = f"[bold {colour}]{state}[/]" + (f": {escape(reason)}." if reason else ".")
        return f"{line}\n{used}" if used else line


def _drawings(report: Report) -> dict[str, gallery.Drawing]:
    returned = report.budget.get("epoch_returned")
    return gallery.drawings(report.findings, report.costs, report.history, report.problem, returned)


def _page(report: Report, pictures: Mapping[str, gallery.Picture], failures: Sequence[str]) -> str:
    events = added(report.events, failures)
    return page.report(dataclasses.replace(report, events=events), pictures)


def _figure(item: float | None) -> float:
    return math.nan if item is None else float(item)


def _save_model(model: keras.Model, folder: Path) -> tuple[str, ...]:
    """Stores the model; sentences for the report when it could not be stored whole."""
    try:
        storage.write_atomic_by(folder / MODEL, model.save)
    except (NotImplementedError, TypeError) as error:
        storage.write_atomic_by(folder / WEIGHTS, model.save_weights)
        # A whole model of an earlier run would belong to other weights.
        (folder / MODEL).unlink(missing_ok=True)
        reason = textwrap.shorten(str(error) or type(error).__name__, 200, placeholder=" …")
        return (
            f"Keras could not serialize the model, so {WEIGHTS} holds its weights alone: "
            f"build the model and call load_weights. Keras said: {reason}",
        )
    return ()


def _load_model(folder: str | Path) -> keras.Model:
    path = Path(folder) / MODEL
    if not path.exists():
        raise RunError(
            "There is no stored model.",
            required=str(path),
            received="no such file",
            advice=f"if {WEIGHTS} is there, build the model and call `load_weights`",
        )
    from etude.saving import load_model

    try:
        return load_model(path)
    except (TypeError, ValueError) as error:
        raise RunError(
            "The stored model cannot be loaded as it was compiled.",
            required="that your own classes and functions are known to Keras",
            received=textwrap.shorten(str(error), 200, placeholder=" …"),
            advice="decorate them with `keras.saving.register_keras_serializable()`, or load "
            f"the model alone: `keras.saving.load_model({str(path)!r}, compile=False)`",
        ) from error
