"""The report as one page: HTML with its figures in it, that needs nothing else to be read.

No scripts, no fonts, no addresses: it can be mailed, archived and opened without a network.
The same report gives the same page.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude import storage
from etude.findings import Finding
from etude.report import figures, rows, text
from etude.report.attempts import attempt
from etude.report.figures import Picture, _canvas

if TYPE_CHECKING:
    import jinja2
    from markupsafe import Markup

    from etude.report.report import Report
    from etude.report.study import Tuning

FIGURES = "figures"

# Colours of figures that follow the page's, light or dark.
_COLOURS = {
    _canvas.INK: "var(--ink)",
    _canvas.MUTED: "var(--muted)",
    _canvas.RULE: "var(--rule)",
    _canvas.PAPER: "var(--paper)",
    _canvas.IDLE: "var(--idle)",
    _canvas.BLUE: "var(--blue)",
}


def report(item: Report, pictures: Mapping[str, Picture]) -> str:
    """The page of a report, with the pictures that there are."""
    outcome = rows.outcome(item.outcome) if item.outcome else None
    return _rendered(
        "Étude · report",
        item,
        pictures,
        finished=item.finished,
        headline=rows.headline(item.finished, item.reason, item.budget),
        outcome=None if outcome is None else ([_label(set_) for set_ in outcome[0]], outcome[1]),
        events=item.events,
        footer=rows.origin(item.seed, item.versions, item.run_dir),
    )


def tuning(item: Tuning, pictures: Mapping[str, Picture]) -> str:
    """The page of a tuning, with the pictures that there are."""
    return _rendered("Étude · tuning", item, pictures)


def write(
    folder: Path,
    name: str,
    drawings: Mapping[str, figures.Drawing],
    render: Callable[[Mapping[str, Picture], Sequence[str]], str],
) -> list[str]:
    """Writes the figures and the page, and takes away those of an earlier report.

    Args:
        folder: Where the report is stored.
        name: The page's name.
        drawings: What may be drawn.
        render: Gives the page; is told the pictures, and sentences for those that failed.

    Returns:
        A sentence for each of them that could not be made.
    """
    pictures, failures = figures.pictures(drawings)
    figures.save(folder / FIGURES, pictures)
    html, failure = attempt("The page could not be made", lambda: render(pictures, failures))
    if html is None:
        (folder / name).unlink(missing_ok=True)
        return [*failures, failure]
    storage.write_atomic(folder / name, html.encode())
    return failures


def inline(svg: str, name: str, title: str) -> Markup:
    """An SVG of matplotlib's as a part of a page.

    Its colours become the page's, and its identifiers, which repeat from figure to figure,
    get the figure's name. Only tags are touched: text in figures stays as it is.

    Args:
        svg: What `_canvas.svg` gave.
        name: The figure's name, of letters and underscores.
        title: What it says, for those who hear the page.
    """
    from markupsafe import Markup, escape

    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg))

    def mended(tag: re.Match[str]) -> str:
        words = tag[0]
        for colour, variable in _COLOURS.items():
            words = words.replace(colour, variable)
        words = re.sub(r" font-family: [^;]*;", "", words)
        words = re.sub(r' transform="rotate\(-?0 [^)]*\)"', "", words)
        words = re.sub(r'xlink:href="#', f'href="#{name}-', words)
        words = re.sub(r"url\(#", f"url(#{name}-", words)
        keep = re.search(r' id="([^"]*)"', words)
        if keep is None:
            return words
        return words.replace(keep[0], f' id="{name}-{keep[1]}"' if keep[1] in used else "")

    body = svg[svg.index("<svg") :]
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>\s*", "", body, count=1, flags=re.DOTALL)
    body = re.sub(r"<[^>]*>", mended, body)
    size = re.search(r'viewBox="[^"]*"', body)
    start = f'<svg {size[0] if size else ""} role="img" aria-label="{escape(title)}">'
    body = re.sub(r"<svg[^>]*>", lambda _: start, body, count=1)
    return Markup(re.sub(r"\n\s*", "\n", body))


def _rendered(
    title: str,
    item: Report | Tuning,
    pictures: Mapping[str, Picture],
    *,
    finished: bool = True,
    headline: tuple[str, str, str] | None = None,
    outcome: tuple[list[tuple[str, str]], list[list[str]]] | None = None,
    events: Sequence[str] = (),
    footer: Mapping[str, str] | None = None,
) -> str:
    """The template, filled in; everything is escaped but the figures."""
    inlined = {name: inline(p.svg, name, p.title) for name, p in pictures.items()}
    decided, rest = rows.decisions(item.recipe)
    return _template().render(
        title=title,
        finished=finished,
        headline=headline,
        outcome=outcome,
        findings=[
            _finding(finding, inlined.get(name))
            for name, finding in zip(figures.names(item.findings), item.findings, strict=True)
        ],
        course=inlined.get(figures.COURSE),
        decisions=decided,
        rest=rest,
        problem=list(text.flat(rows.problem(item.problem))),
        notes=item.notes,
        events=events,
        ledger=rows.ledger(item.costs) if item.costs else None,
        costs=inlined.get(figures.COSTS),
        footer=footer or {},
        recipe=item.recipe.to_yaml(),
    )


def _finding(finding: Finding, picture: Markup | None) -> dict[str, Any]:
    """What the page says of a finding; its numbers in words where there is no picture."""
    lines = [] if picture else list(rows.evidence(finding.evidence, plain_blocks=False))
    return {
        "name": text.words(finding.learner),
        "changes": rows.changes(finding),
        "why": finding.why,
        "cost": rows.cost(finding),
        "picture": picture,
        "evidence": lines,
    }


def _label(name: str) -> tuple[str, str]:
    """A set's name, and what its figures are good for."""
    first, _, remark = name.partition("\n")
    return first, remark


@functools.cache
def _template() -> jinja2.Template:
    import jinja2

    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    source = resources.files("etude.report").joinpath("page.html.jinja")
    return environment.from_string(source.read_text(encoding="utf-8"))
