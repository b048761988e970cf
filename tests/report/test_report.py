"""Reports say what they were given, fit 80 columns, and come back from disk."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from etude.errors import RunError
from etude.findings import Cost, Finding
from etude.recipe import Recipe
from etude.report import Plan, Report, Tuning, text
from etude.report.rows import LABELS

FINDING = Finding(
    learner="learning_rate",
    reads=("compute", "optimization"),
    writes="optimization",
    changes={"learning_rate": 0.412},
    why="Loss falls fastest at 0.41 and diverges at 1.3.",
    evidence={
        "rates": [10.0 ** (i / 10) for i in range(-40, 0)],
        "losses": [2.0 - i / 40 for i in range(39)] + [math.nan],
        "ramps": 3,
    },
    predicted=Cost(5.8, 150),
    true=Cost(6.4, 160),
    key="abc",
)
RECIPE = (
    Recipe()
    .give(compute={"batch_size": 128})
    .learn("learning_rate", optimization={"learning_rate": 0.412})
)
COSTS = (
    {"part": "inspection", "predicted": None, "true": 100.0},
    {"part": "study", "predicted": 5.0, "true": 6.0},
    {"part": "training", "predicted": 15.0, "true": 24.0},
)


class FakeModel:
    """Saves itself as Keras does."""

    def __init__(self, serializable: bool = True) -> None:
        self.serializable = serializable

    def save(self, path: Path) -> None:
        if not self.serializable:
            raise NotImplementedError("\nObject Net was created with arguments.\nMore text.")
        Path(path).write_bytes(b"whole model")

    def save_weights(self, path: Path) -> None:
        assert str(path).endswith(".weights.h5")
        Path(path).write_bytes(b"weights")


def a_report(**changes: Any) -> Report:
    fields: dict[str, Any] = {
        "problem": {
            "task": "single-label classification",
            "train": {"size": 8500, "image_shape": (28, 28, 1), "class_counts": [850] * 10},
        },
        "recipe": RECIPE,
        "outcome": {"loss": 0.02, "val_accuracy": 0.9273, "test_accuracy": 0.9214},
        "history": {"loss": [2.0, math.nan, 0.5], "val_accuracy": [0.1, 0.5, 0.9273]},
        "notes": ("15 % of the training data were held out.",),
        "findings": (FINDING,),
        "costs": COSTS,
        "events": ("Step 412: the loss was not finite [inf]; step 400 was put back.",),
        "budget": {"time_budget": 75.0, "seconds": 72.1, "steps": 803, "epochs_done": 12.5},
        "reason": "the schedule ended as planned",
        "seed": 0,
        "versions": {"keras": "3.15.1"},
        "run_dir": "runs/one",
    }
    return Report(**{**fields, **changes})


def printed(item: Report | Tuning | Plan, encoding: str = "utf-8", width: int = 80) -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
    item.summary(Console(file=stream, width=width))
    return raw.getvalue().decode(encoding)


def rows(page: str) -> list[list[str]]:
    """Cells of each line, cut where two or more spaces stand."""
    return [[c for c in line.strip().split("  ") if c] for line in page.splitlines()]


def cells(page: str, first: str) -> list[str]:
    return next([c.strip() for c in row] for row in rows(page) if row and row[0] == first)


def test_everything_is_printed_within_80_columns() -> None:
    page = printed(a_report())
    assert max(len(line) for line in page.splitlines()) <= 80
    for part in (
        "Finished: the schedule ended as planned.",
        "In 72.1 s of 75.0 s, 12.5 epochs, 803 steps.",
        "used for choosing",
        "touched once, at the end",
        "28 × 28 × 1",
        "10 × 850",
        "15 % of the training data were held out.",
        "Loss falls fastest at 0.41 and diverges at 1.3.",
        "6.40 s, 160 steps (predicted 5.80 s, 150 steps)",
        "not finite [inf]",
        "runs/one",
    ):
        assert part in page, part
    assert "\x1b" not in page


def test_outcome_stands_under_its_own_set() -> None:
    page = printed(a_report())
    header = next(line for line in page.splitlines() if "touched once" in line)
    line = next(line for line in page.splitlines() if line.strip().startswith("accuracy"))
    ends = {name: header.index(name) + len(name) for name in ("choosing)", "end)")}
    assert line.index("0.9273") + 6 == ends["choosing)"]
    assert line.index("0.9214") + 6 == ends["end)"]
    assert line.split()[1] == text.MISSING


def test_marks_of_decisions() -> None:
    page = printed(a_report())
    assert cells(page, "batch size") == ["batch size", "128", "given by you"]
    assert cells(page, "learning rate")[1:] == ["0.412", "learned: learning rate"]
    assert cells(page, "all else")[-1] == "default"


def test_the_ledger_compares_only_what_was_both_predicted_and_measured() -> None:
    page = printed(a_report())
    assert cells(page, "study") == ["study", "5.00 s", "6.00 s", "1.20"]
    assert cells(page, "inspection") == ["inspection", text.MISSING, "100.0 s", text.MISSING]
    # (6 + 24) / (5 + 15): a ratio stands beside the two sums that it is of.
    assert cells(page, "predicted parts") == ["predicted parts", "20.0 s", "30.0 s", "1.50"]
    assert cells(page, "all") == ["all", text.MISSING, "2 min 10 s", text.MISSING]


def test_a_console_without_block_characters_gets_none() -> None:
    page = printed(a_report(), "cp1252")
    assert not set(page) & set(text.BLOCKS)
    assert "#" in next(line for line in page.splitlines() if line.startswith(" validation acc"))


def test_not_finished_is_said() -> None:
    page = printed(a_report(finished=False, reason="interrupted by the keyboard"))
    assert "Not finished: interrupted by the keyboard." in page


def test_an_empty_report_prints() -> None:
    page = printed(Report(problem={}, recipe=Recipe()))
    assert "Finished." in page and "What was decided" in page
    assert "What happened" not in page


def test_json_is_strict_and_comes_back(tmp_path: Path) -> None:
    report = a_report(model=FakeModel(), outcome={"val_loss": math.inf, "loss": 0.1})
    report.save(tmp_path)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    stored = json.loads((tmp_path / "report.json").read_text(), parse_constant=refuse)
    assert stored["outcome"] == {"val_loss": None, "loss": 0.1}
    assert stored["findings"][0]["evidence"]["losses"][-1] is None
    assert stored == report.to_dict()

    again = Report.load(tmp_path)
    assert math.isnan(again.outcome["val_loss"]) and again.outcome["loss"] == 0.1
    assert math.isnan(again.history["loss"][1]) and again.history["loss"][2] == 0.5
    assert again.recipe == RECIPE and again.findings[0].true == FINDING.true
    assert again.to_dict() == stored
    same = ("notes", "events", "budget", "finished", "reason", "seed", "versions", "run_dir")
    assert all(getattr(again, name) == getattr(report, name) for name in same)
    assert again.model is None


def test_every_field_is_stored_but_the_live_objects() -> None:
    names = {field.name for field in dataclasses.fields(Report)}
    assert set(a_report().to_dict()) == names - {"model", "keras_history"} | {"etude_report"}


def test_files(tmp_path: Path) -> None:
    assert a_report(model=FakeModel()).save(tmp_path / "new") == tmp_path / "new"
    names = ["figures", "model.keras", "recipe.yaml", "report.html", "report.json"]
    assert sorted(os.listdir(tmp_path / "new")) == names
    assert (tmp_path / "new/model.keras").read_bytes() == b"whole model"
    assert Recipe.load(tmp_path / "new/recipe.yaml") == RECIPE


def test_a_model_with_functions_unknown_to_keras_says_how_to_load_it(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")

    def own_loss(y_true: Any, y_pred: Any) -> Any:
        return keras.ops.mean(y_pred, axis=-1)

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", own_loss)
    a_report(model=model).save(tmp_path)
    with pytest.raises(RunError, match="own_loss") as caught:
        Report.load(tmp_path, with_model=True)
    assert "compile=False" in str(caught.value)
    plain = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    assert plain.output_shape == (None, 1)
    with keras.saving.custom_object_scope({"own_loss": own_loss}):
        assert Report.load(tmp_path, with_model=True).model.loss is own_loss


def test_a_model_that_keras_cannot_serialize_is_stored_as_weights_and_said(tmp_path: Path) -> None:
    a_report(model=FakeModel()).save(tmp_path)
    a_report(model=FakeModel(serializable=False)).save(tmp_path)
    names = ["figures", "model.weights.h5", "recipe.yaml", "report.html", "report.json"]
    assert sorted(os.listdir(tmp_path)) == names
    assert (
        Report.load(tmp_path)
        .events[-1]
        .endswith("Object Net was created with arguments. More text.")
    )
    with pytest.raises(RunError, match="load_weights"):
        Report.load(tmp_path, with_model=True)


def test_a_real_model_comes_back(tmp_path: Path) -> None:
    import keras
    import numpy as np

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    a_report(model=model).save(tmp_path)
    again = Report.load(tmp_path, with_model=True).model
    assert again is not None
    np.testing.assert_array_equal(model.get_weights()[0], again.get_weights()[0])


@pytest.mark.parametrize("content", [{}, [], {"etude_report": 99}])
def test_what_is_no_report_is_refused(tmp_path: Path, content: Any) -> None:
    (tmp_path / "report.json").write_text(json.dumps(content))
    with pytest.raises(RunError, match="not a report"):
        Report.load(tmp_path)


def test_tuning(tmp_path: Path) -> None:
    tuning = Tuning(problem={"classes": 10}, recipe=RECIPE, findings=(FINDING,), costs=COSTS)
    page = printed(tuning)
    assert "learned: learning rate" in page and "Étude · tuning" in page
    tuning.save(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["figures", "recipe.yaml", "tuning.html", "tuning.json"]
    again = Tuning.load(tmp_path)
    assert again.to_dict() == tuning.to_dict()
    assert again.recipe == RECIPE
    (tmp_path / "tuning.json").write_text("{}")
    with pytest.raises(RunError, match="not a stored tuning"):
        Tuning.load(tmp_path)


def test_plan() -> None:
    plan = Plan(
        problem={"classes": 10},
        recipe=RECIPE,
        steps=1234,
        epochs=12.5,
        seconds={"study": 6.0, "training": 60.0},
    )
    page = printed(plan)
    assert "1,234 steps, 12.5 epochs." in page
    assert cells(page, "all") == ["all", "66.0 s"]
    assert "true" not in page
    assert plan.to_dict()["seconds"] == {"study": 6.0, "training": 60.0}
    json.dumps(plan.to_dict(), allow_nan=False)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_every_width(width: int) -> None:
    page = printed(a_report(), width=width)
    assert max(len(line) for line in page.splitlines()) <= width


def test_names_that_look_like_markup_are_printed_as_they_are() -> None:
    page = printed(a_report(notes=("a [bold]b[/bold] c",), reason="x [/] y"))
    assert "a [bold]b[/bold] c" in page and "x [/] y." in page


def test_labels_cover_the_prefixes() -> None:
    assert list(LABELS) == ["", "val_", "test_"]


def test_evidence_of_several_trials_is_drawn_trial_by_trial() -> None:
    found: dict[str, Any] = {
        "rate": 0.25,
        "why": "said elsewhere",
        "extend": "",
        "divergence": None,
    }
    trial: dict[str, Any] = {
        "rates": [1.0, 2.0, 4.0, 8.0, 16.0],
        "losses": [5.0, 1.0, 3.0, 2.0, 4.0],
    }
    trials = [{**trial, "found": found}, {**trial, "found": {**found, "rate": 0.5}}]
    for count in (1, 2):
        finding = dataclasses.replace(FINDING, evidence={"tests": trials[:count]})
        page = printed(a_report(findings=(finding,)))
        for index, rate in list(enumerate(("0.25", "0.5"), 1))[:count]:
            title = f"test {index}: " if count > 1 else ""
            assert any(f"{title}rate {rate}" in row[-1] for row in rows(page) if row)
            assert f"{title}rates 1 to 16" in page
            assert f"{title}losses █▁▅▃▆ 1 to 5" in page
    assert "said elsewhere" not in page and "extend" not in page and "divergence" not in page
