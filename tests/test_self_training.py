"""`noisy_student` and `distill`: what students are given, and what a user gets back."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import etude
from etude import _self_training
from etude.errors import BudgetError, DataError, EtudeError, RecipeError
from etude.recipe import Recipe

from .training import helpers

RECIPE = Recipe().give(
    optimization={"learning_rate": 0.01, "schedule": "constant"},
    compute={"batch_size": 16},
    augmentation={"policy": "none"},
)


@dataclasses.dataclass(frozen=True)
class Told:
    """A report, as far as it is asked for."""

    notes: tuple[str, ...] = ("trained",)


class Fits:
    """Records what `fit` is called with, and trains by setting all weights to a number."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *values: float) -> None:
        self.calls: list[tuple[Any, Any, dict[str, Any]]] = []
        self.begun: list[Any] = []
        self.values = values
        monkeypatch.setattr(_self_training, "fit", self)

    def __call__(self, model: Any, train: Any, validation: Any, **options: Any) -> Any:
        self.begun.append([w.copy() for w in model.get_weights()])
        self.calls.append((train, validation, options))
        value = self.values[(len(self.calls) - 1) % len(self.values)]
        model.set_weights([np.full_like(w, value) for w in model.get_weights()])
        if not model.compiled:
            model.compile("sgd", helpers.loss())
        return Told()


def quadrants(images: Any) -> Any:
    """A teacher that is right: its distribution is by the quadrants' brightness."""
    x = np.asarray(images, np.float64)[..., 0]
    sums = np.stack([x[:, :4, :4], x[:, :4, 4:], x[:, 4:, :4], x[:, 4:, 4:]], axis=1)
    means = sums.mean(axis=(2, 3)) / 25.0
    rows = np.exp(means - means.max(axis=1, keepdims=True))
    return rows / rows.sum(axis=1, keepdims=True)


def test_a_student_is_given_both_in_the_classes_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    fits = Fits(monkeypatch, 0.1, 0.2)
    x, y = helpers.images(20)
    others, truth = helpers.images(160, seed=4)
    more = np.concatenate([others, others[truth == 0]])  # class 0 is twice as often
    model = helpers.functional()
    found = etude.noisy_student(
        model, (x, y), more, helpers.images(40, seed=9),
        teacher=quadrants, rounds=1, threshold=0.6, labelled_share=0.25, verbose=0,
    )  # fmt: skip
    assert [len(fits.calls), len(found.rounds)] == [1, 1]
    (images, rows), (_, held), options = fits.calls[0]
    said = quadrants(more)
    sure = np.flatnonzero(said.max(axis=1) >= 0.6)
    assert len(sure) == 200
    wanted = np.round(len(sure) / 4)
    round_ = found.rounds[0]
    assert round_.counts == (wanted,) * 4
    assert round_.taught == 4 * wanted
    # The other three classes have 40 images, of which ten are there twice.
    assert round_.images == 50 + 3 * 40
    labelled = len(images) - round_.taught
    assert labelled % 20 == 0
    assert labelled / len(images) >= 0.25
    np.testing.assert_array_equal(images[:20], x)
    np.testing.assert_array_equal(rows[:labelled].argmax(axis=1), np.tile(y, labelled // 20))
    # What is taught are the whole distributions of just these images.
    np.testing.assert_allclose(rows[labelled:], quadrants(images[labelled:]), atol=1e-5)
    assert held.shape == (40, 4)
    assert options["task"] == "single_label"


def test_the_best_of_all_is_returned_as_fit_leaves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = helpers.images(80)
    model = helpers.functional()
    before = model.get_weights()
    trained = keras.models.clone_model(model)
    trained.set_weights(model.get_weights())
    trained.compile(keras.optimizers.Adam(0.02), helpers.loss())
    trained.fit(x, y, epochs=30, verbose=0)
    good = trained.get_weights()
    fits = Fits(monkeypatch, 0.0)
    record = fits.__call__

    def second_is_good(model: Any, train: Any, validation: Any, **options: Any) -> Any:
        report = record(model, train, validation, **options)
        if len(fits.calls) == 2:
            model.set_weights(good)
        return report

    monkeypatch.setattr(_self_training, "fit", second_is_good)
    held = helpers.images(40, seed=9)
    found = etude.noisy_student(
        model, (x, y), x, held, rounds=2, threshold=0.0, verbose=0
    )  # fmt: skip
    for begun in fits.begun:  # each begins with the weights that the model came with
        assert helpers.difference(begun, before) == 0.0
    assert found.returned == 1
    assert helpers.difference(model.get_weights(), good) == 0.0
    told = model.evaluate(*held, verbose=0, return_dict=True)  # by the user's own labels
    assert told["accuracy"] == pytest.approx(found.rounds[1].score)
    assert told["accuracy"] > found.rounds[0].score == found.rounds[2].score
    # The third was taught by the second, and the second by the first, which says nothing.
    rows = [call[0][1][-1] for call in fits.calls[1:]]
    np.testing.assert_allclose(rows[0], 0.25, atol=1e-6)
    assert rows[1].max() > 0.6


def test_an_own_loss_is_kept_and_taught_by_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    def own(y_true: Any, y_pred: Any) -> Any:
        return keras.losses.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)

    fits = Fits(monkeypatch, 0.0)
    model = helpers.functional()
    model.compile("sgd", own, metrics=["accuracy"])
    x, y = helpers.images(40)
    found = etude.noisy_student(
        model, (x, y), x, (x, y), teacher=quadrants, rounds=1, labelled_share=0.0, verbose=0
    )
    (_, labels), (_, held), _ = fits.calls[0]
    np.testing.assert_array_equal(held, y)
    assert labels.dtype == y.dtype
    assert sorted(labels[40:].tolist()) == sorted(y.tolist())  # the teacher is always right
    assert any("answers" in note for note in found.notes)
    assert model.loss is own


def pixels(one_hot: bool, single: bool) -> tuple[Any, Any, Any]:
    """A model for masks, images and masks: what is bright."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (24, 8, 8, 1)).astype(np.uint8)
    y = (x[..., 0] > 127).astype(np.uint8)
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, layers.Conv2D(1 if single else 2, 1)(inputs))
    return model, x, np.eye(2, dtype=np.uint8)[y] if one_hot else y


@pytest.mark.parametrize("form", ["numbers", "one hot", "one channel"])
def test_pixels_that_are_unsure_count_for_nothing(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits = Fits(monkeypatch, 0.0)
    model, x, y = pixels(form == "one hot", form == "one channel")

    def teacher(images: Any) -> Any:
        bright = np.asarray(images, np.float64) / 255.0
        # The first of all images is dim throughout, and the teacher sure of none of its pixels.
        bright[np.asarray(images).max(axis=(1, 2, 3)) == 120] = 0.5
        return bright if form == "one channel" else np.concatenate([1 - bright, bright], axis=-1)

    x = x.copy()
    x[0] = 120
    found = etude.noisy_student(
        model, (x[:8], y[:8]), x, (x[8:], y[8:]), teacher=teacher, rounds=1, threshold=0.6,
        labelled_share=0.0, verbose=0,
    )  # fmt: skip
    (images, masks), _, options = fits.calls[0]
    taught, seen = masks[8:], images[8:]
    assert len(taught) == found.rounds[0].taught == 23  # but the first
    bright = seen[..., 0] / 255.0
    sure = np.maximum(bright, 1 - bright) >= 0.6
    assert 0.5 < sure.mean() < 0.95
    if form == "one hot":
        np.testing.assert_array_equal(taught.sum(axis=-1), sure)
        assert options["ignore_label"] is None or taught.ndim == 4
        answers = taught.argmax(axis=-1)
    else:
        assert options["ignore_label"] == 255
        np.testing.assert_array_equal(taught == 255, ~sure)
        answers = taught
    np.testing.assert_array_equal(answers[sure], (bright > 0.5)[sure])
    assert sum(found.rounds[0].counts or ()) == sure.sum()


def test_yes_or_no_and_several_classes_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    fits = Fits(monkeypatch, 0.0)
    x, y = helpers.images(40)
    base = helpers.functional()
    inputs, features = base.input, base.layers[-2].output
    binary = keras.Model(inputs, layers.Dense(1)(features))
    etude.noisy_student(
        binary, (x, y % 2), x, (x, y % 2), teacher=lambda z: quadrants(z)[:, 1::2].sum(1)[:, None],
        rounds=1, labelled_share=0.0, verbose=0,
    )  # fmt: skip
    (images, labels), _, _ = fits.calls[-1]
    np.testing.assert_array_equal(labels[40:], quadrants(images[40:]).argmax(axis=1) % 2)
    several = keras.Model(inputs, layers.Dense(2)(features))
    hot = np.stack([y >= 2, y % 2 == 1], axis=1).astype(np.float32)
    etude.noisy_student(
        several, (x, hot), x, (x, hot), task="multi_label", rounds=1, labelled_share=0.0,
        teacher=lambda z: np.stack([quadrants(z)[:, 2:].sum(1), quadrants(z)[:, 1::2].sum(1)], 1),
        verbose=0,
    )  # fmt: skip
    (_, labels), _, _ = fits.calls[-1]
    np.testing.assert_array_equal(labels[40:], hot)


def test_a_teacher_that_is_sure_of_nothing_teaches_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    fits = Fits(monkeypatch, 0.0)
    x, y = helpers.images(40)
    found = etude.noisy_student(helpers.functional(), (x, y), x, (x, y), threshold=0.9, verbose=0)
    assert len(fits.calls) == len(found.rounds) == 1
    assert any("sure of none of 40 images" in note for note in found.notes)
    with pytest.raises(DataError, match="sure of no image"):
        etude.noisy_student(
            helpers.functional(), (x, y), x, (x, y), threshold=0.9, verbose=0,
            teacher=lambda z: np.full((len(z), 4), 0.25),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"rounds": 0}, RecipeError, "rounds of 1"),
        ({"threshold": 2.0}, RecipeError, "threshold"),
        ({"labelled_share": 1.0}, RecipeError, "labelled share"),
        ({"teacher": lambda z: np.zeros((len(z), 3))}, DataError, "of the same classes"),
        ({"teacher": lambda z: np.full((len(z), 4), 3.0)}, DataError, "no probabilities"),
        ({"teacher": lambda z: np.full((len(z), 4), np.nan)}, DataError, "no probabilities"),
        ({"time_budget": 1e-9}, BudgetError, "time"),
        ({"memory_budget": 100}, DataError, "not held in memory"),
        ({"noise": "nothing that is known"}, RecipeError, "polic"),
    ],
)
def test_what_cannot_be_is_said_before_the_first_step(
    options: dict[str, Any], error: type[EtudeError], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits = Fits(monkeypatch, 0.0)
    x, y = helpers.images(40)
    model = helpers.functional()
    before = model.get_weights()
    with pytest.raises(error, match=words):
        etude.noisy_student(model, (x, y), x, (x, y), verbose=0, **options)
    assert not fits.calls
    assert helpers.difference(model.get_weights(), before) == 0.0


def test_endless_images_are_refused() -> None:
    x, y = helpers.images(40)
    endless = tf.data.Dataset.from_tensor_slices(x).repeat()
    with pytest.raises(DataError, match="memory"):
        etude.noisy_student(helpers.functional(), (x, y), endless, verbose=0)


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
def test_distillation_mixes_labels_and_the_teachers_rows(
    alpha: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits = Fits(monkeypatch, 0.0)
    x, y = helpers.images(40)
    weights = np.linspace(0.5, 1.5, 40).astype(np.float32)
    others = helpers.images(30, seed=3)[0]
    model = helpers.functional()
    etude.distill(
        model, quadrants, (x, y, weights), others, (x, y), alpha=alpha, verbose=0
    )  # fmt: skip
    (images, rows, weighed), _, _ = fits.calls[0]
    np.testing.assert_array_equal(images, np.concatenate([x, others]))
    np.testing.assert_allclose(rows[:40], alpha * np.eye(4)[y] + (1 - alpha) * quadrants(x), 1e-5)
    np.testing.assert_allclose(rows[40:], quadrants(others), 1e-5)
    np.testing.assert_array_equal(weighed, np.concatenate([weights, np.ones(30)]))
    model.evaluate(x, y, verbose=0)  # it takes the user's own labels again


def test_a_model_learns_from_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    fits = Fits(monkeypatch, 0.3)
    x, y = helpers.images(40)
    model = helpers.functional()
    logits = model.predict(x, verbose=0)
    etude.distill(model, model, (x, y), None, (x, y), alpha=0.0, verbose=0)
    rows = fits.calls[0][0][1]
    np.testing.assert_allclose(rows, np.asarray(tf.nn.softmax(logits)), atol=1e-6)


def test_distillation_is_of_classes_that_exclude_each_other() -> None:
    model, x, y = pixels(False, False)
    with pytest.raises(DataError, match="noisy_student"):
        etude.distill(model, quadrants, (x, y), verbose=0)
    with pytest.raises(RecipeError, match="alpha"):
        etude.distill(helpers.functional(), quadrants, helpers.images(), alpha=2.0, verbose=0)


@pytest.mark.parametrize(("most", "taught"), [(0.4, 8), (0.9, 19), (0.08, 0)])
def test_the_surest_fifth_is_learned_from_where_no_more_is_sure(
    monkeypatch: pytest.MonkeyPatch, most: float, taught: int
) -> None:
    """Of 40 images, of which the teacher has gone from 5 % to `most` of the way to certainty."""

    def pale(images: Any) -> Any:
        share = np.linspace(0.05, most, len(images))[:, None]
        return 0.25 + share * (np.eye(4)[quadrants(images).argmax(axis=1)] - 0.25)

    fits = Fits(monkeypatch, 0.1)
    x, y = helpers.images(40)
    options: dict[str, Any] = {"teacher": pale, "rounds": 1, "labelled_share": 0.0, "verbose": 0}
    if not taught:
        with pytest.raises(DataError, match="sure of no image"):
            etude.noisy_student(helpers.functional(), (x, y), x, (x, y), **options)
        return
    etude.noisy_student(helpers.functional(), (x, y), x, (x, y), **options)
    (images, _), _, _ = fits.calls[0]
    surest = {image.tobytes() for image in x[40 - taught :]}
    assert {image.tobytes() for image in images[40:]} == surest


@pytest.mark.slow
def test_students_learn_what_few_labels_do_not_tell(tmp_path: Path) -> None:
    """From a teacher's answers alone, without a single label of its own that is right."""
    x, y = helpers.images(320)
    held = helpers.images(80, seed=9)
    model = helpers.functional()
    path = tmp_path / "recipe.yaml"
    RECIPE.save(path)
    options: dict[str, Any] = {"recipe": path, "epochs": 40, "verbose": 0, "seed": 1}
    options["threshold"] = 0.3
    found = etude.noisy_student(model, (x[:16], y[:16]), x[16:], held, rounds=1, **options)
    assert len(found.rounds) == 2
    assert max(one.score for one in found.rounds) == found.rounds[found.returned].score
    told = model.evaluate(*held, verbose=0, return_dict=True)["accuracy"]
    assert told == pytest.approx(found.rounds[found.returned].score)
    weights = model.get_weights()
    again = helpers.functional()
    etude.noisy_student(again, (x[:16], y[:16]), x[16:], held, rounds=1, **options)
    assert helpers.difference(again.get_weights(), weights) == 0.0
    del options["threshold"]
    small = helpers.functional(seed=5)
    report = etude.distill(small, quadrants, (x[:16], y[:16]), x[16:], held, alpha=0.0, **options)
    # Sixteen samples are hardly enough; what the teacher says of the others is.
    assert report.outcome["val_accuracy"] > 0.9
