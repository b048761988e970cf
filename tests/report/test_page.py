"""The page holds the report, whole and escaped, and is the same for the same report."""

from __future__ import annotations

import dataclasses
import html
import json
import math
import os
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from etude.findings import Cost
from etude.report import Report, Tuning, figures, page, rows
from etude.report.attempts import added, attempt
from etude.report.figures import _canvas

from ..fresh import modules_after
from . import evidence

EVIL = '<script>alert("1")</script> & <b>bold</b> {{ 7 * 6 }}'
VOID = {"meta", "br", "hr", "img", "link", "input"}


class Parsed(HTMLParser):
    """A page's text, tags, identifiers and references; refuses tags that do not match."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.ids: list[str] = []
        self.references: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            self.attributes.add(name)
            if name == "id":
                self.ids.append(str(value))
            if name in ("href", "src"):
                assert str(value).startswith("#"), value
                self.references.add(str(value)[1:])
            self.references |= set(re.findall(r"url\(#([^)]*)\)", str(value)))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def whole() -> str:
    """The page of a report with findings of all kinds."""
    return evidence.report().to_html()


def short(**changes: Any) -> Report:
    """A report that is drawn in a fifth of the time."""
    return evidence.report(**{"findings": (evidence.learning_rate(),), "history": {}, **changes})


def an_evil_report() -> Report:
    """Names, notes and sentences that a page must not take for its own."""
    report = evidence.report()
    finding = dataclasses.replace(evidence.compute(), why=EVIL)
    finding.evidence["variants"][0]["note"] = EVIL
    finding.evidence["variants"][1]["precision"] = EVIL
    unknown = dataclasses.replace(finding, learner=EVIL, evidence={EVIL: [1.0, 2.0, 4.0, 3.0, 9.0]})
    history = {**evidence.history(), EVIL: [0.5] * 24, f"val_{EVIL}": [0.25] * 24}
    return dataclasses.replace(
        report,
        problem={"class_names": [EVIL, "b"], "monitor": f"val_{EVIL}", EVIL: 1},
        outcome={EVIL: 0.5},
        notes=(EVIL,),
        events=(EVIL,),
        reason=EVIL,
        findings=(finding, unknown),
        costs=({"part": EVIL, "predicted": None, "true": 1.0},),
        history=history,
        run_dir=EVIL,
    )


def test_the_page_says_what_the_report_says(whole: str) -> None:
    report = evidence.report()
    parsed = Parsed(whole)
    for sentence in (
        "Finished: schedule finished.",
        "In 9 min 48 s of 10 min 0 s, 30.9 epochs, 4,100 steps.",
        "validation (used for choosing)",
        "touched once, at the end",
        "0.9273",
        "0.9214",
        "15 % of the training data were held out.",
        "Step 412: the loss was not finite; step 400 was put back.",
        "given by you",
        "learned: learning rate",
        "cost: 6.40 s, 160 steps (predicted 5.80 s, 150 steps); expected to be worth 20%",
        "9 min 12 s",
        "etude 0.1.0, keras 3.15.1",
        "runs/first",
        "etude_recipe: 1",
        *(finding.why for finding in report.findings),
        *(rows.changes(finding) for finding in report.findings),
        *(figure.texts[0].get_text().replace("\n", " ") for figure in report.figures().values()),
    ):
        assert sentence in parsed.text, sentence
    assert html.escape(report.findings[2].why) in whole
    assert parsed.tags.count("svg") == parsed.tags.count("figure") == 13


def test_every_figure_stands_beside_its_finding(whole: str) -> None:
    articles = re.findall(r"<article.*?</article>", whole, re.DOTALL)
    for article, finding in zip(articles, evidence.findings(), strict=True):
        drawn = figures.draw(finding)
        assert drawn is not None
        assert f'aria-label="{drawn.texts[0].get_text()}"' in article
        assert finding.why in article


def test_it_needs_nothing_else_and_runs_nothing(whole: str) -> None:
    parsed = Parsed(whole)
    assert len(whole.encode()) < 1_500_000
    for word in ("<script", "javascript:", "http", "@import", "<link", "<iframe", "<?xml"):
        assert word not in whole.lower(), word
    assert not any(name.startswith("on") for name in parsed.attributes)
    assert "prefers-color-scheme: dark" in whole


def test_identifiers_are_unique_and_references_have_their_end(whole: str) -> None:
    twice = short(findings=(evidence.learning_rate(), evidence.learning_rate_twice()))
    for source in (whole, twice.to_html()):
        parsed = Parsed(source)
        assert len(parsed.ids) == len(set(parsed.ids)) > 0
        assert parsed.references == set(parsed.ids)
    assert list(twice.figures()) == ["learning_rate", "learning_rate_2", "costs"]


def test_figures_take_the_pages_colours(whole: str) -> None:
    body = whole[whole.index("<body") :]
    for colour in (_canvas.INK, _canvas.MUTED, _canvas.RULE, _canvas.PAPER, _canvas.BLUE):
        assert colour in whole and colour not in body
    assert "var(--ink)" in body and _canvas.VERMILLION in body


def test_everything_is_escaped() -> None:
    source = an_evil_report().to_html()
    parsed = Parsed(source)
    assert "<script" not in source and "<b>bold" not in source
    assert "script" not in parsed.tags
    # Reason, class name, fact, note, why, learner, label, figure, part, event, folder.
    assert parsed.text.count(EVIL) >= 12
    assert "42" not in parsed.text.replace("142", "")


def test_the_same_report_gives_the_same_bytes_and_so_does_the_stored_one(tmp_path: Path) -> None:
    report = short(
        outcome={"val_loss": math.inf, "loss": 0.1},
        history={**evidence.history(), "loss": [math.nan, *evidence.history()["loss"][1:]]},
    )
    report.save(tmp_path)
    written = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert report.to_html() == written
    assert Report.load(tmp_path).to_html() == written
    before = {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()}
    Report.load(tmp_path).save(tmp_path)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == written
    after = {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()}
    assert before == after


def test_the_files_of_a_report(tmp_path: Path) -> None:
    evidence.report().save(tmp_path)
    names = ["figures", "recipe.yaml", "report.html", "report.json"]
    assert sorted(os.listdir(tmp_path)) == names
    drawn = sorted([*figures.FIGURES, "course", "costs"])
    assert sorted(os.listdir(tmp_path / "figures")) == [f"{name}.png" for name in drawn]
    assert sorted(evidence.report().figures()) == drawn
    # A later report in the same folder leaves none of the earlier one's.
    short(findings=()).save(tmp_path)
    assert os.listdir(tmp_path / "figures") == ["costs.png"]


def test_a_tuning_has_a_page_too(tmp_path: Path) -> None:
    tuning = Tuning(
        problem={"classes": 10},
        recipe=evidence.report().recipe,
        findings=(evidence.learning_rate(),),
        notes=(EVIL,),
        costs=evidence.COSTS,
    )
    assert list(tuning.figures()) == ["learning_rate", "costs"]
    tuning.save(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["figures", "recipe.yaml", "tuning.html", "tuning.json"]
    assert sorted(os.listdir(tmp_path / "figures")) == ["costs.png", "learning_rate.png"]
    source = (tmp_path / "tuning.html").read_text(encoding="utf-8")
    parsed = Parsed(source)
    assert EVIL in parsed.text and "<script" not in source
    assert evidence.learning_rate().why in parsed.text and "Étude · tuning" in parsed.text
    assert Tuning.load(tmp_path).to_html() == source
    assert "Finished" not in parsed.text


def test_an_empty_report_has_a_page(tmp_path: Path) -> None:
    parsed = Parsed(dataclasses.replace(evidence.report(), **EMPTY).to_html())
    assert "Not finished." in parsed.text and "What was studied" not in parsed.text
    assert "svg" not in parsed.tags


EMPTY: dict[str, Any] = {
    "problem": {}, "outcome": {}, "history": {}, "notes": (), "findings": (), "costs": (),
    "events": (), "budget": {}, "finished": False, "reason": "", "seed": None, "versions": {},
    "run_dir": None,
}  # fmt: skip


def test_a_finding_without_a_picture_tells_its_numbers() -> None:
    skipped = dataclasses.replace(
        evidence.learning_rate(), evidence={}, true=Cost(), why="The rate is given."
    )
    other = evidence.finding("unheard_of", {"tries": 7, "ramp": [1.0, 3.0, 2.0, 5.0, 4.0]})
    source = short(findings=(skipped, other), costs=()).to_html()
    text = Parsed(source).text
    assert "The rate is given." in text and "tries 7" in text and "1 to 5" in text
    assert text.count("cost:") == 1 and "<svg" not in source


# -- Faults ----------------------------------------------------------------------------


def fails(*arguments: Any) -> Any:
    raise ZeroDivisionError("a rate of 0.")


def test_a_figure_that_cannot_be_drawn_is_said_and_all_else_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        figures, "FIGURES", {**figures.FIGURES, "batch_size": fails, "descent": fails}
    )
    sentences = [
        f"The figure of the {name} could not be drawn: ZeroDivisionError: a rate of 0."
        for name in ("batch size", "descent")
    ]
    three = (evidence.learning_rate(), evidence.batch_size(), evidence.descent())
    short(findings=three).save(tmp_path)
    again = Report.load(tmp_path)
    assert list(again.events) == [*evidence.report().events, *sentences]
    parsed = Parsed((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert all(sentence in parsed.text for sentence in sentences)
    assert sorted(os.listdir(tmp_path / "figures")) == ["costs.png", "learning_rate.png"]
    assert parsed.tags.count("svg") == 2
    assert "gradient 0.02" in parsed.text  # the evidence in words, where it has no picture
    # Nothing is swallowed where the figures themselves are asked for.
    with pytest.raises(ZeroDivisionError):
        again.figures()
    # Said once, however often it is stored.
    again.save(tmp_path)
    assert Report.load(tmp_path).events == again.events

    tuning = Tuning(problem={}, recipe=again.recipe, findings=(evidence.batch_size(),))
    tuning.save(tmp_path)
    assert Tuning.load(tmp_path).notes == (sentences[0],)


def test_evidence_of_the_wrong_shape_costs_no_more_than_its_figure(tmp_path: Path) -> None:
    broken = evidence.finding("length", {"shares": [1, 2, 3]})
    short(findings=(broken,)).save(tmp_path)
    (sentence,) = Report.load(tmp_path).events[1:]
    assert sentence.startswith("The figure of the length could not be drawn: AttributeError")


def test_a_page_that_cannot_be_made_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short(findings=()).save(tmp_path)
    assert (tmp_path / "report.html").exists()
    monkeypatch.setattr(page, "_template", fails)
    short(findings=()).save(tmp_path)
    stored = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert stored["events"][-1] == "The page could not be made: ZeroDivisionError: a rate of 0."
    assert not (tmp_path / "report.html").exists()  # that of the other report


def test_attempts_hold_back_errors_but_no_interruption() -> None:
    assert attempt("It failed", lambda: 3) == (3, "")
    assert attempt("It failed", fails) == (None, "It failed: ZeroDivisionError: a rate of 0.")

    def silent() -> None:
        raise ValueError

    assert attempt("It failed", silent) == (None, "It failed: ValueError.")

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attempt("It failed", stop)
    assert added(("a", "a"), ["b", "a"]) == ("a", "a", "b")


# -- Time ------------------------------------------------------------------------------


def test_figures_and_page_are_quick(tmp_path: Path) -> None:
    evidence.report().save(tmp_path)  # imports
    start = time.process_time()
    evidence.report().save(tmp_path)
    # About 1.4 s where this was written; the rest is for slower machines.
    assert time.process_time() - start < 4.0


def test_a_stored_report_is_read_without_what_draws(tmp_path: Path) -> None:
    short().save(tmp_path)
    code = f"from etude.report import Report; report = Report.load({str(tmp_path)!r})"
    heavy = {"matplotlib", "jinja2", "numpy", "tensorflow", "keras"}
    assert modules_after(f"{code}; report.summary()") & heavy == set()
    assert "matplotlib" in modules_after(f"{code}; report.figures()")
