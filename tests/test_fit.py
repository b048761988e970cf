"""`fit`, `tune` and `plan` as a user calls them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import etude
from etude._fit import starting_recipe
from etude.errors import BudgetError, RecipeError
from etude.recipe import Recipe

from .training import helpers


def _fit(model: Any = None, data: Any = None, **options: Any) -> Any:
    options = {"epochs": 2, "verbose": 0} | options
    return etude.fit(model or helpers.functional(), data or helpers.images(), **options)


def found(result: Any, learner: str) -> Any:
    """What one study found."""
    return next(finding for finding in result.findings if finding.learner == learner)


@pytest.mark.slow
def test_the_report_says_what_evaluate_gives_with_test_data_apart() -> None:
    model = helpers.functional()
    x, y = helpers.images(80, seed=5)
    report = _fit(model, test=(x, y), epochs=6)
    values = model.evaluate(x, y, verbose=0, return_dict=True)
    assert report.outcome["test_accuracy"] == pytest.approx(values["accuracy"], abs=1e-6)
    assert report.outcome["test_loss"] == pytest.approx(values["loss"], rel=1e-4)
    assert report.model is model
    assert report.outcome["test_accuracy"] > 0.3  # four classes: chance is a quarter


def test_own_loss_metrics_and_optimizer_are_honoured() -> None:
    def own_loss(y_true: Any, y_pred: Any) -> Any:
        return keras.losses.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True) * 2

    def own_metric(y_true: Any, y_pred: Any) -> Any:
        return keras.ops.mean(y_pred)

    model = helpers.functional()
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9)
    model.compile(optimizer, own_loss, metrics=["accuracy", own_metric])
    report = _fit(model)
    assert model.optimizer is optimizer
    assert report.recipe.optimization.optimizer == "compiled"
    assert {"loss", "accuracy", "own_metric", "val_own_metric"} <= set(report.history)
    # At the start the loss is about twice ln 4.
    assert report.history["loss"][0] > 1.5 * np.log(4)
    assert float(optimizer.learning_rate) == pytest.approx(0.05)  # and not what the schedule left


def test_what_is_kept_or_stated_is_not_changed() -> None:
    problem = helpers.problem()
    stated = Recipe().give(compute={"batch_size": 20}, optimization={"schedule": "cosine"})
    recipe = starting_recipe(problem, stated)
    assert recipe.compute.batch_size == 20
    assert recipe.optimization.schedule == "cosine"
    report = _fit(recipe=stated, keep="optimization")
    assert report.recipe.optimization == stated.optimization
    assert "fixed by you" in found(report, "learning_rate").why
    # A recipe that was learned elsewhere is a recipe all the same.
    learned = Recipe().learn("learning_rate", optimization={"learning_rate": 0.01})
    report = _fit(recipe=learned)
    assert report.recipe.optimization.learning_rate == 0.01


def test_a_callback_with_a_schedule_is_obeyed() -> None:
    rates = [0.004, 0.002, 0.001]
    seen = []

    class Look(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch == 3:
                seen.append(float(self.model.optimizer.learning_rate))

    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch: rates[epoch])
    report = _fit(epochs=3, callbacks=[scheduler, Look()])
    assert report.recipe.optimization.schedule == "constant"
    assert seen == pytest.approx(rates, rel=1e-5)


def test_an_optimizer_with_its_own_schedule_keeps_it() -> None:
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([5], [0.1, 0.01])
    model = helpers.functional()
    model.compile(keras.optimizers.SGD(schedule), helpers.loss())
    report = _fit(model)
    assert report.recipe.optimization.schedule == "constant"
    assert "schedule of its own" in found(report, "learning_rate").why
    assert report.history["learning_rate"][-1] == pytest.approx(0.01)


def test_callbacks_know_how_many_segments_there_are() -> None:
    seen = []

    class Look(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            seen.append(self.params["epochs"])

    _fit(epochs=3, callbacks=[Look()])
    assert seen == [3, 3, 3]


def test_class_weights_of_any_integer_kind_and_nothing_else() -> None:
    weights = {np.int64(0): 1.0, 3: 2}
    assert _fit(class_weight=weights).finished
    for wrong in ({7: 1.0}, {"a": 1.0}, {0: -1.0}, {0: float("nan")}, {0.5: 1.0}):
        with pytest.raises(RecipeError, match="class weight"):
            _fit(class_weight=wrong)
    with pytest.raises(RecipeError, match="class weights"):
        _fit(class_weight="even")


def test_balanced_classes_weigh_alike() -> None:
    x, y = helpers.images(160)
    keep = np.concatenate([np.flatnonzero(y > 0), np.flatnonzero(y == 0)[:10]])
    report = _fit(data=(x[keep], y[keep]), class_weight="balanced")
    assert report.recipe.sampling.class_weight == "balanced"
    assert any("class" in note and "unbalanced" in note.lower() for note in report.notes)


def test_label_smoothing_beside_an_own_loss_is_refused() -> None:
    def own(labels: Any, outputs: Any) -> Any:
        return keras.losses.sparse_categorical_crossentropy(labels, outputs, from_logits=True)

    model = helpers.functional()
    model.compile("adam", own)
    with pytest.raises(RecipeError, match="your own loss"):
        _fit(model, recipe=Recipe().give(regularization={"label_smoothing": 0.1}))


@pytest.mark.parametrize("epochs", [0, -1, float("nan"), float("inf")])
def test_no_epochs_are_refused(epochs: float) -> None:
    with pytest.raises(BudgetError, match="number of epochs"):
        _fit(epochs=epochs)


def test_too_little_time_says_what_was_left() -> None:
    with pytest.raises(BudgetError, match="over before anything could run"):
        _fit(epochs=None, time_budget=0.01)


def test_a_meta_learner_of_ones_own_studies_in_the_place_of_its_kind() -> None:
    class Own(etude.metalearners.Length):
        def obstacle(self, studio: Any, recipe: Any, planned: Any) -> str | None:
            return "there is another way"

    tuning = etude.tune(
        helpers.functional(),
        helpers.images(),
        recipe=etude.Recipe().give(optimization={"learning_rate": 0.01}),
        keep=["compute", "optimization.optimizer", "regularization", "augmentation"],
        epochs=1,
        learners=[Own()],
        verbose=0,
    )
    found = {finding.learner: finding.why for finding in tuning.findings}
    assert "there is another way" in found["length"]
    assert len(found) == len(etude.metalearners.learners())


def test_plan_changes_nothing_and_predicts_all_parts() -> None:
    model = helpers.functional()
    before = helpers.weights(model)
    plan = etude.plan(model, helpers.images(), epochs=3, verbose=0)
    assert helpers.difference(before, helpers.weights(model)) == 0.0
    assert plan.steps == 26
    assert plan.epochs == pytest.approx(3.0, abs=0.1)
    assert {"training", "evaluation", "finish"} <= set(plan.seconds)
    assert all(np.isfinite(value) and value >= 0 for value in plan.seconds.values())


@pytest.mark.slow
def test_tune_then_train_in_one_process() -> None:
    model = helpers.functional()
    before = helpers.weights(model)
    tuning = etude.tune(model, helpers.images(480), epochs=30, verbose=0)
    assert helpers.difference(before, helpers.weights(model)) == 0.0
    assert [finding.learner for finding in tuning.findings] == [
        "compute", "optimizer", "batch_size", "learning_rate", "augmentation", "descent",
        "unlabeled", "sampling", "length",
    ]  # fmt: skip
    assert "without labels" in found(tuning, "unlabeled").why
    assert found(tuning, "learning_rate").true.steps > 0
    problem = etude.Problem.inspect(model, helpers.images(480))
    assert not problem.user_loss  # what Étude compiled is not taken for the user's
    report = etude.train(problem, tuning.recipe, epochs=2, verbose=0)
    assert report.recipe.optimization.learning_rate == tuning.recipe.optimization.learning_rate


def test_the_same_seed_gives_the_same_weights_study_included() -> None:
    arms = []
    for _ in range(2):
        model = helpers.functional()
        _fit(model, helpers.images(480), epochs=12, seed=3)
        arms.append(helpers.weights(model))
    assert helpers.difference(*arms) == 0.0


def test_a_scheduler_of_ones_own_leaves_no_rate_to_study() -> None:
    class Own(keras.callbacks.LearningRateScheduler):  # type: ignore[misc, unused-ignore]
        """As people write it: a subclass."""

    report = _fit(data=helpers.images(480), epochs=12, callbacks=[Own(lambda epoch: 0.01)])
    assert report.recipe.optimization.schedule == "constant"
    assert found(report, "learning_rate").changes == {}
    assert "fixed by you" in found(report, "learning_rate").why
    assert report.history["learning_rate"] == pytest.approx([0.01] * 12)


@pytest.mark.parametrize("text", ["compute: 32", "compute: [1]", "marks: [a]",
    "compute: {batch_size: .inf}", "compute: {batch_size: .nan}", "- 1"])  # fmt: skip
def test_a_recipe_that_is_none_says_so(text: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError):
        _fit(recipe=path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="cannot be read"):
        _fit(recipe=path)
    with pytest.raises(RecipeError, match="no names with values"):
        Recipe().give(optimization=0.1)
