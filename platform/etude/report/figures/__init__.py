"""Pictures of findings, of the course of training and of the ledger.

Every function here is pure: evidence goes in, a `matplotlib.figure.Figure` comes out, and
no state of matplotlib's is left changed. A new kind of finding is one file and one row in
`FIGURES`. matplotlib is imported when the first figure is drawn.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude import storage
from etude.report import text
from etude.report.attempts import attempt
from etude.report.figures import (
    _canvas,
    augmentation,
    batch_size,
    compute,
    descent,
    epochs,
    learning_rate,
    ledger,
    length,
    optimizer,
    sampled,
    sampling,
    unlabeled,
    unlabeled_use,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from etude.findings import Finding

FIGURES: Mapping[str, Callable[[Finding], Figure | None]] = {
    "compute": compute.draw,
    "batch_size": batch_size.draw,
    "learning_rate": learning_rate.draw,
    "optimizer": optimizer.draw,
    "augmentation": augmentation.draw,
    "descent": descent.draw,
    "sampling": sampling.draw,
    "sampled": sampled.draw,
    "unlabeled": unlabeled.draw,
    "unlabeled_use": unlabeled_use.draw,
    "length": length.draw,
}
"""What draws a finding, by the name of its meta-learner."""

COURSE, COSTS = "course", "costs"

Drawing = Callable[[], "Figure | None"]


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure as files, and the sentence above it."""

    title: str
    svg: str
    png: bytes


def draw(finding: Finding) -> Figure | None:
    """The figure of a finding; `None` where its evidence is missing or of an unknown kind."""
    kind = FIGURES.get(finding.learner)
    if kind is None or not finding.evidence:
        return None
    with _canvas.style():
        return kind(finding)


def course(
    history: Mapping[str, Sequence[Any]],
    monitor: str | None = None,
    mode: str | None = None,
    returned: float | None = None,
) -> Figure | None:
    """Loss, monitored metric and learning rate against epochs; `None` without a history."""
    with _canvas.style():
        return epochs.draw(history, monitor, mode, returned)


def costs(rows: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Predicted and true seconds by part; `None` where there are none."""
    with _canvas.style():
        return ledger.draw(rows)


def names(findings: Sequence[Finding]) -> list[str]:
    """A name for each finding's figure: the meta-learner's, numbered from the second on."""
    learners = [finding.learner for finding in findings]
    counts = [learners[: i + 1].count(learner) for i, learner in enumerate(learners)]
    return [
        learner if count == 1 else f"{learner}_{count}"
        for learner, count in zip(learners, counts, strict=True)
    ]


def drawings(
    findings: Sequence[Finding],
    costs_rows: Sequence[Mapping[str, Any]],
    history: Mapping[str, Sequence[Any]] | None = None,
    problem: Mapping[str, Any] | None = None,
    returned: float | None = None,
) -> dict[str, Drawing]:
    """What may be drawn of a report, by name; nothing is drawn yet.

    Args:
        findings: What the studies found.
        costs_rows: The ledger.
        history: Each figure of the run, once per evaluation.
        problem: Its facts, which tell the monitored metric.
        returned: The epoch whose weights the model ends with.
    """
    known: dict[str, Drawing] = {
        name: functools.partial(draw, finding)
        for name, finding in zip(names(findings), findings, strict=True)
        if finding.learner in FIGURES
    }
    facts = problem or {}
    if history:
        known[COURSE] = functools.partial(
            course, history, facts.get("monitor"), facts.get("mode"), returned
        )
    known[COSTS] = functools.partial(costs, costs_rows)
    return known


def drawn(known: Mapping[str, Drawing]) -> dict[str, Figure]:
    """The figures of those drawings that have something to show."""
    figures = {name: drawing() for name, drawing in known.items()}
    return {name: figure for name, figure in figures.items() if figure is not None}


def pictures(
    known: Mapping[str, Drawing], *, raster: bool = True
) -> tuple[dict[str, Picture], list[str]]:
    """The drawings as files, and a sentence for each that could not be drawn.

    Args:
        known: From `drawings`.
        raster: Whether they are made as PNG too.
    """
    made: dict[str, Picture] = {}
    failures = []
    for name, drawing in known.items():
        failing = f"The figure of the {text.words(name)} could not be drawn"
        picture, sentence = attempt(failing, functools.partial(_picture, drawing, raster))
        failures += [sentence] if sentence else []
        if picture is not None:
            made[name] = picture
    return made, failures


def _picture(drawing: Drawing, raster: bool) -> Picture | None:
    figure = drawing()
    if figure is None:
        return None
    title = figure.texts[0].get_text().replace("\n", " ")
    return Picture(title, _canvas.svg(figure), _canvas.png(figure) if raster else b"")


def save(folder: Path, made: Mapping[str, Picture]) -> None:
    """Writes every picture as `<name>.png`, and removes those of an earlier report."""
    for name, picture in made.items():
        storage.write_atomic(folder / f"{name}.png", picture.png)
    for name in {*FIGURES, COURSE, COSTS} - set(made):
        (folder / f"{name}.png").unlink(missing_ok=True)
