"""The command line calls the API with what its flags say, and ends with an honest status."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etude import _command_data, cli, models
from etude import _fit as REAL
from etude.data import open_source
from etude.errors import DataError, ModelError, RunError
from etude.recipe import Recipe
from etude.report import Plan, Report, Tuning

RNG = np.random.default_rng(0)


@dataclasses.dataclass
class Calls:
    """What the API was called with, and what it does."""

    got: dict[str, Any] = dataclasses.field(default_factory=dict)
    error: BaseException | None = None
    report: Report = dataclasses.field(
        default_factory=lambda: Report(
            problem={"task": "single_label"}, recipe=Recipe(), outcome={"val_accuracy": 0.9}
        )
    )

    def fit(self, model: Any, train: Any, validation: Any = None, **options: Any) -> Report:
        self.got = {"model": model, "train": train, "validation": validation, **options}
        if self.error is not None:
            raise self.error
        return self.report

    def tune(self, model: Any, train: Any, validation: Any = None, **options: Any) -> Tuning:
        self.fit(model, train, validation, **options)
        return Tuning(problem={}, recipe=Recipe().learn("x", compute={"batch_size": 64}))

    def plan(self, model: Any, train: Any, validation: Any = None, **options: Any) -> Plan:
        self.fit(model, train, validation, **options)
        return Plan(problem={}, recipe=Recipe(), steps=7, epochs=1.0, seconds={"training": 3.0})


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    made = Calls()
    fake = types.ModuleType("etude._fit")
    for name in ("fit", "tune", "plan"):
        setattr(fake, name, getattr(made, name))
    monkeypatch.setitem(sys.modules, "etude._fit", fake)
    return made


@pytest.fixture
def npz(tmp_path: Path) -> str:
    path = tmp_path / "set.npz"
    images = RNG.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(12) % 4
    np.savez(path, x_train=images, y_train=labels, x_test=images[:5], y_test=labels[:5])
    return str(path)


def run(*arguments: str) -> int:
    return cli.main(["etude", *arguments])


def test_fit_passes_data_model_and_options(calls: Calls, npz: str, tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("optimization: {learning_rate: 0.25}")
    status = run(
        "fit", f"--data={npz}", "--model=small_cnn", "--width=4", "--epochs=2.5",
        "--time_budget=90s", f"--recipe={recipe}", "--keep=sampling,optimizer", "--seed=3",
        f"--run_dir={tmp_path}/run", "--task=single_label", "--class_weight=0:1,3:2.5",
        "--validation_split=0.25", "--batch_size=6", "--ignore_label=255", "--verbose=0",
    )  # fmt: skip
    assert status == 0
    got = calls.got
    assert got["model"].name == "small_cnn"
    assert got["model"].input_shape == (None, 8, 8, 3)
    assert got["model"].output_shape == (None, 4)
    assert (got["train"].size, got["validation"], got["test"].size) == (12, None, 5)
    assert got["recipe"].optimization.learning_rate == 0.25
    assert got["recipe"].is_given("optimization.learning_rate")
    assert got["recipe"].compute.batch_size == 6 and got["recipe"].is_given("compute.batch_size")
    expected = {
        "epochs": 2.5,
        "time_budget": "90s",
        "keep": ("sampling", "optimizer"),
        "seed": 3,
        "run_dir": f"{tmp_path}/run",
        "task": "single_label",
        "class_weight": {0: 1.0, 3: 2.5},
        "validation_split": 0.25,
        "ignore_label": 255,
        "verbose": 0,
        "unlabeled": None,
    }
    assert {name: got[name] for name in expected} == expected


def test_what_is_not_asked_for_is_left_to_the_api(calls: Calls, npz: str) -> None:
    assert run("fit", f"--data={npz}", "--model=small_cnn", "--verbose=0") == 0
    for name in ("epochs", "time_budget", "recipe", "run_dir", "task", "class_weight"):
        assert calls.got[name] is None, name
    assert calls.got["keep"] == () and calls.got["seed"] == 0


def test_what_is_passed_is_what_the_real_functions_take(calls: Calls, npz: str) -> None:
    """The fake takes anything; the real functions' signatures say what is right."""
    for command in ("fit", "tune", "plan"):
        assert run(command, f"--data={npz}", "--model=small_cnn", "--verbose=0") == 0
        taken = inspect.signature(getattr(REAL, command)).parameters
        assert set(calls.got) <= set(taken), command
        # All that can be asked for on the command line is passed on.
        unasked = {"callbacks", "memory_budget", "resize", "clock", "learners"}
        assert set(taken) - unasked <= set(calls.got), command


def test_the_packaged_set_brings_its_test_part(calls: Calls) -> None:
    assert run("fit", "--data=fashion_mnist", "--model=small_cnn", "--verbose=0") == 0
    assert (calls.got["train"].size, calls.got["test"].size) == (10000, 5000)
    assert calls.got["model"].output_shape == (None, 10)


def test_the_same_seed_gives_the_same_initial_weights(calls: Calls, npz: str) -> None:
    weights = []
    for seed in (1, 1, 2):
        assert run("plan", f"--data={npz}", "--model=small_cnn", f"--seed={seed}") == 0
        weights.append(calls.got["model"].get_weights()[0])
    np.testing.assert_array_equal(weights[0], weights[1])
    assert np.abs(weights[0] - weights[2]).min() > 0


def test_json_is_the_last_line(calls: Calls, npz: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fit", f"--data={npz}", "--model=small_cnn", "--json") == 0
    lines = capsys.readouterr().out.splitlines()
    assert json.loads(lines[-1]) == calls.report.to_dict()
    assert any("Étude · report" in line for line in lines)
    assert run("fit", f"--data={npz}", "--model=small_cnn", "--json", "--verbose=0") == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_tune_prints_and_stores(
    calls: Calls, npz: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "tuned"
    assert run("tune", f"--data={npz}", "--model=small_cnn", f"--run_dir={folder}") == 0
    assert "test" not in calls.got
    out = capsys.readouterr().out
    assert "learned: x" in out
    assert out.splitlines()[-1] == f"The same with figures: {folder / 'tuning.html'}"
    assert Recipe.load(folder / "recipe.yaml").compute.batch_size == 64


def test_plan_prints(calls: Calls, npz: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("plan", f"--data={npz}", "--model=small_cnn") == 0
    assert "7 steps, 1 epochs." in capsys.readouterr().out


def test_report_prints_what_is_stored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Report(problem={}, recipe=Recipe(), outcome={"val_accuracy": 0.875}).save(tmp_path)
    assert run("report", str(tmp_path), "--json") == 0
    out = capsys.readouterr().out
    assert "0.8750" in out
    assert json.loads(out.splitlines()[-1])["outcome"] == {"val_accuracy": 0.875}


def test_report_says_where_the_page_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Report(problem={}, recipe=Recipe(), outcome={"val_accuracy": 0.875}).save(tmp_path)
    page = tmp_path / "report.html"
    written = page.read_bytes()
    page.write_bytes(b"as it is")
    assert run("report", str(tmp_path)) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"The same with figures: {page}"
    assert page.read_bytes() == b"as it is"
    page.unlink()  # of a run from before there were pages
    assert run("report", str(tmp_path)) == 0
    assert page.read_bytes() == written
    page.unlink()
    assert run("report", str(tmp_path), "--verbose=0") == 0
    assert not page.exists()
    capsys.readouterr()

    def refuse(path: Path, content: bytes) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("etude.storage.write_atomic", refuse)
    assert run("report", str(tmp_path)) == 0
    out = capsys.readouterr().out
    assert "0.8750" in out and "none could be written: [Errno 13] Permission denied" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fitt"], "one of ['fit', 'tune', 'plan', 'report']"),
        (["fit", "and", "more"], "fit and more"),
        (["fit"], "no --data"),
        (["fit", "--data=nowhere.npz"], "There are no data called 'nowhere.npz'"),
        (["fit", "--data=fashion_mnist", "--widht=3"], "widht"),
        (["fit", "--data=fashion_mnist", "--width=three"], "three"),
        (["fit", "--data=fashion_mnist", "--recipe=none.yaml"], "The recipe cannot be read"),
        (["fit", "--data=fashion_mnist", "--resize=64"], "HEIGHTxWIDTH"),
        (["fit", "--data=fashion_mnist", "--class_weight=a:b"], "--class_weight"),
        (["fit", "--data=fashion_mnist", "--batch_size=0"], "batch_size"),
        (["fit", "--data=fashion_mnist", "--model=resnet8"], "resnet8"),
        (["fit", "--data=fashion_mnist", "--model=no.keras"], "The model is not there"),
        (["tune", "--data=fashion_mnist", "--baseline"], "--baseline"),
        (["report"], "etude report RUN_DIR"),
        (["report", "/nowhere"], "report.json is not there"),
    ],
)
def test_mistakes_end_with_2_and_no_traceback(
    calls: Calls, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.startswith("etude: ")
    assert "What to do:" in captured.err and "Traceback" not in captured.err
    assert calls.got == {}


def test_an_error_of_the_api_that_the_user_can_mend_ends_with_2(calls: Calls, npz: str) -> None:
    calls.error = RunError("It is so.", required="a", received="b", advice="c")
    assert run("fit", f"--data={npz}", "--model=small_cnn") == 2


def test_any_other_error_is_ours_and_shows(calls: Calls, npz: str) -> None:
    calls.error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        run("fit", f"--data={npz}", "--model=small_cnn")


def test_interruptions_end_with_130(calls: Calls, npz: str) -> None:
    calls.report = dataclasses.replace(calls.report, finished=False, reason="interrupted")
    assert run("fit", f"--data={npz}", "--model=small_cnn", "--baseline") == 130
    calls.report = dataclasses.replace(calls.report, finished=False, reason="out of time")
    assert run("fit", f"--data={npz}", "--model=small_cnn") == 0
    calls.error = KeyboardInterrupt()
    assert run("fit", f"--data={npz}", "--model=small_cnn") == 130


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    page = capsys.readouterr().out
    assert all(f"--{name}" in page for name, *_ in cli._FLAGS)
    assert max(len(line) for line in page.splitlines()) <= 100
    assert run("--version") == 0
    assert capsys.readouterr().out.startswith("etude 0.")
    assert run() == 2


def test_tensorflow_is_imported_without_its_messages() -> None:
    code = "from etude import cli; cli._import_tensorflow(); import sys; sys.stderr.write('end')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "end"


def test_a_failing_import_shows_what_was_written(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(name: str) -> None:
        os.write(2, b"a library is missing")
        raise ImportError(name)

    monkeypatch.setattr("importlib.import_module", fail)
    with pytest.raises(ImportError):
        cli._import_tensorflow()
    assert capfd.readouterr().err == "a library is missing"


def test_status_reaches_the_shell() -> None:
    command = [sys.executable, "-m", "etude", "report", "/nowhere"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr


def test_a_stored_model_is_loaded_as_it_is(tmp_path: Path) -> None:
    model = models.build("small_cnn", (8, 8, 3), 4, width=4)
    path = str(tmp_path / "m.keras")
    model.save(path)
    source = open_source((np.zeros((3, 8, 8, 3), np.uint8), np.arange(3)))
    again = _command_data.model_maker(path, source)()
    np.testing.assert_array_equal(model.get_weights()[0], again.get_weights()[0])
    with pytest.raises(ModelError, match="--width"):
        _command_data.model_maker(path, source, width=3)
    (tmp_path / "bad.keras").write_bytes(b"no model")
    with pytest.raises(ModelError, match="Keras cannot load"):
        _command_data.model_maker(str(tmp_path / "bad.keras"), source)()


IMAGES = np.zeros((4, 16, 16, 1), np.uint8)


@pytest.mark.parametrize(
    ("labels", "task", "ignore", "outputs"),
    [
        (np.array([0, 2, 1, 5]), None, None, (None, 6)),
        (np.array([0, 1, 1, 0]), "binary", None, (None, 1)),
        (np.array([[0], [2], [1], [1]]), None, None, (None, 3)),
        (np.eye(4, 7), None, None, (None, 7)),
        (np.pad(np.full((4, 14, 14), 2), ((0, 0), (1, 1), (1, 1))), None, None,
         (None, 16, 16, 3)),
        (np.where(np.eye(16)[None].repeat(4, 0) > 0, 255, 1), None, 255, (None, 16, 16, 2)),
    ],
)  # fmt: skip
def test_outputs_follow_from_the_labels(
    labels: Any, task: str | None, ignore: int | None, outputs: tuple[int | None, ...]
) -> None:
    source = open_source((IMAGES, labels))
    make = _command_data.model_maker(None, source, width=2, task=task, ignore_label=ignore)
    model = make()
    assert model.output_shape == outputs
    assert model.name == ("unet" if len(outputs) == 4 else "resnet9")


def test_depth_that_nobody_named_is_no_thousands_of_classes() -> None:
    millimetres = np.full((4, 16, 16), 4000, np.uint16)
    with pytest.raises(DataError, match="--task=depth"):
        _command_data.count_outputs(open_source((IMAGES, millimetres)))
    assert _command_data.count_outputs(open_source((IMAGES, millimetres)), 4000) == 1


METRES = np.random.default_rng(0).uniform(0.8, 4.0, (4, 16, 16))


@pytest.mark.parametrize(
    ("labels", "name", "task", "ends"),
    [
        (METRES, None, None, (0.72, 4.4)),
        (np.where(METRES < 2, np.nan, METRES).astype(np.float32), None, "depth", (1.8, 4.4)),
        (np.round(1000 * METRES).astype(np.uint16), None, "depth", (720, 4400)),
        (np.round(1000 * METRES).astype(np.uint16), "dispnet", None, (720, 4400)),
        (METRES, "unet", "depth", None),
    ],
)
def test_a_network_of_depth_has_the_range_of_the_labels(
    labels: Any, name: str | None, task: str | None, ends: tuple[float, float] | None
) -> None:
    images = np.zeros((4, 16, 16, 1), np.uint8)
    source = open_source((images, labels))
    if ends is None:
        model = _command_data.model_maker(name, source, width=2, task=task)()
        assert model.name == "unet" and model.output_shape == (None, 16, 16, 1)
        return
    found = _command_data.depth_range(source)
    known = labels[np.isfinite(labels)]
    assert found == pytest.approx({"nearest": 0.9 * known.min(), "farthest": 1.1 * known.max()})
    assert tuple(found.values()) == pytest.approx(ends, rel=0.01)
    model = _command_data.model_maker(name, source, width=2, task=task, seed=0)()
    assert model.name == "dispnet" and model.output_shape == (None, 16, 16, 1)
    assert model.layers[-1].nearest == pytest.approx(found["nearest"])
    with pytest.raises(DataError, match="no depth"):
        _command_data.depth_range(open_source((images, 0.0 * METRES)))


def test_masks_in_black_and_white_are_no_256_classes() -> None:
    masks = np.where(np.eye(16)[None].repeat(4, 0) > 0, 255, 0)
    with pytest.raises(DataError, match="divide the masks by 255"):
        _command_data.count_outputs(open_source((IMAGES, masks)))
    assert _command_data.count_outputs(open_source((IMAGES, masks)), 255) == 1
    assert _command_data.count_outputs(open_source((IMAGES, masks // 255))) == 2
    masks[3, 2, 1] = 7
    assert _command_data.count_outputs(open_source((IMAGES, masks))) == 256
    assert _command_data.count_outputs(open_source((IMAGES, np.array([0, 255, 0, 255])))) == 256


def test_the_parts_of_a_file_in_the_home_folder_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    y = np.arange(4)
    np.savez(tmp_path / "set.npz", x_train=IMAGES, y_train=y, x_test=IMAGES[:3], y_test=y[:3])
    sets = _command_data.open_sets("~/set.npz")
    assert sets.test is not None and (sets.train.size, sets.test.size) == (4, 3)


def test_without_labels_no_network_can_be_chosen() -> None:
    with pytest.raises(DataError, match="no labels"):
        _command_data.count_outputs(open_source((IMAGES,), labelled=False))
