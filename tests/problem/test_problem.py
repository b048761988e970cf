"""The Problem: what it finds, what it says, what it keeps of the user's, its fingerprint."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from etude.data import open_source
from etude.errors import EtudeError
from etude.problem import Problem

L = keras.layers
N = 60
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def images(n=N, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 8, 8, 1)).astype(np.uint8)


def classifier(units=3, activation=None, **compiling):
    model = keras.Sequential(
        [L.Rescaling(1 / 255), L.Flatten(), L.Dense(units, activation=activation)]
    )
    if compiling:
        model.compile(**compiling)
    return model


Y = np.arange(N) % 3


def said(problem, text):
    return [note for note in problem.notes if text in note]


def test_plain_facts():
    problem = Problem.inspect(classifier(), (images(), Y), (images(20, 1), Y[:20]))
    facts = problem.facts
    assert json.loads(json.dumps(problem.describe())) == problem.describe()
    assert facts["sizes"] == {"train": 60, "validation": 20}
    assert facts["class_counts"] == [20, 20, 20] and facts["classes"] == 3
    assert (facts["image"]["low"], facts["image"]["high"]) == (images().min(), images().max())
    assert facts["image"]["mean"][0] == pytest.approx(images().mean())
    assert facts["model"]["parameters"] == 64 * 3 + 3 == facts["model"]["trainable"]
    assert facts["logits"] and facts["activation_seen"] and not facts["user_loss"]
    assert (problem.monitor, problem.mode) == ("val_accuracy", "max")
    assert not problem.held_out and problem.notes == ()


def test_validation_is_held_out_by_class():
    y = np.repeat([0, 1, 2], [40, 15, 5])
    problem = Problem.inspect(classifier(), (images(), y), validation_split=0.2, seed=3)
    assert problem.held_out and said(problem, "12 of 60")
    held = problem.validation.arrays(10**9).labels
    assert np.bincount(held).tolist() == [8, 3, 1]
    assert problem.facts["class_counts"] == [32, 12, 4]
    kept = problem.train.arrays(10**9)
    both = np.concatenate([kept.images, problem.validation.arrays(10**9).images])
    order = lambda x: sorted(image.tobytes() for image in x)  # noqa: E731
    assert order(both) == order(images())
    other = Problem.inspect(classifier(), (images(), y), validation_split=0.2, seed=4)
    assert other.fingerprint() != problem.fingerprint()


def test_more_is_held_out_than_asked_where_classes_are_small_and_said():
    x, y = images(), np.arange(N) % 20  # three of each: one at least is held out
    problem = Problem.inspect(classifier(20), (x, y), validation_split=0.1)
    assert problem.validation.size == 20
    assert said(problem, "20 of 60 training samples") and said(problem, "more than the 6 asked for")
    problem = Problem.inspect(classifier(20), (x, y), validation_split=1 / 3)
    assert problem.validation.size == 20 and not said(problem, "asked for")


def test_imbalance_is_said_with_counts():
    y = np.repeat([0, 1, 2], [40, 15, 5])
    problem = Problem.inspect(classifier(), (images(), y))
    (note,) = said(problem, "unbalanced")
    assert "8.0 to 1" in note and "0: 40, 1: 15, 2: 5" in note and "class_weight" in note
    even = Problem.inspect(classifier(), (images(), Y))
    assert not said(even, "unbalanced")


def test_missing_classes_are_said():
    problem = Problem.inspect(classifier(5), (images(), Y))
    assert said(problem, "3, 4 never occur")


def test_gray_images_are_repeated_for_a_colour_model():
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), L.Rescaling(1 / 255), L.Flatten(), L.Dense(3)]
    )
    problem = Problem.inspect(model, (images(), Y), (images(20, 1), Y[:20]))
    assert problem.train.spec.image_shape == (8, 8, 3)
    assert said(problem, "train: the one channel is repeated 3 times")
    x = problem.validation.arrays(10**9).images
    np.testing.assert_array_equal(x, np.repeat(images(20, 1), 3, -1))


def test_models_of_two_axes_take_gray_images():
    model = keras.Sequential([keras.Input((8, 8)), L.Rescaling(1 / 255), L.Flatten(), L.Dense(3)])
    assert Problem.inspect(model, (images()[..., 0], Y)).facts["input_shape"] == [8, 8]


def test_the_same_data_twice_is_said():
    data = (images(), Y)
    problem = Problem.inspect(classifier(), data, data)
    assert said(problem, "validation is the same data as train")
    x = np.concatenate([images(5), images(15, 1)])
    problem = Problem.inspect(classifier(), data, (x, Y[:20]))
    assert said(problem, "5 of 20 images of validation occur in train")


def test_streams_say_what_was_not_looked_at(monkeypatch):
    import tensorflow as tf

    from etude.inspection import checks

    monkeypatch.setattr(checks, "LOOKED_AT", 40)
    y = Y.copy()
    y[50] = 99  # behind what is looked at
    data = tf.data.Dataset.from_tensor_slices((images(), y)).batch(7)
    problem = Problem.inspect(classifier(), data, (images(), Y), memory_budget=500)
    assert said(problem, "first 40 samples were checked")
    assert problem.facts["checked"] == {"samples": 40, "complete": False}
    y[39] = 99
    data = tf.data.Dataset.from_tensor_slices((images(), y)).batch(7)
    with pytest.raises(EtudeError, match="99 in sample 39"):
        Problem.inspect(classifier(), data, (images(), Y), memory_budget=500)


def test_a_class_that_falls_out_of_train_is_said():
    """Class 3 occurs in two samples, which are of the strata of 1 and of 2, as rare as itself.
    Each stratum gives one of its two samples: at one of four splits both with class 3 go."""
    y = np.zeros((N, 4), np.uint8)
    y[:, 0] = 1
    y[[4, 5], 1] = y[[6, 7], 2] = y[[4, 6], 3] = 1
    lost = []
    for seed in range(16):
        problem = Problem.inspect(
            classifier(4, "sigmoid"), (images(), y), seed=seed, validation_split=0.5
        )
        kept = problem.train.arrays(10**9).labels
        assert problem.facts["class_counts"] == kept.sum(0).tolist()
        gone = not kept[:, 3].any()
        assert [note[:48] for note in said(problem, "The split left")] == gone * [
            "The split left no training sample of class 3: pa"
        ]
        lost.append(gone)
    assert any(lost) and not all(lost)


def test_classes_that_train_lacks_are_said_where_samples_have_several():
    several = np.eye(3, dtype=np.uint8)[Y] | np.eye(3, dtype=np.uint8)[0]
    train = several.copy()
    train[:, 2] = 0
    problem = Problem.inspect(
        classifier(3, "sigmoid"), (images(), train), (images(20, 1), several[:20])
    )
    assert problem.task.name == "multi_label"
    assert said(problem, "Classes 2 of validation never occur in train")
    with pytest.raises(EtudeError, match="A class of the validation data never occurs in train"):
        Problem.inspect(classifier(), (images(), Y % 2), (images(20, 1), Y[:20]))


def test_a_class_that_is_not_validated_is_told():
    some = Y[:20] != 2
    problem = Problem.inspect(classifier(), (images(), Y), (images(20, 1)[some], Y[:20][some]))
    assert said(problem, "validation has no samples of class 2: it does not tell")
    whole = Problem.inspect(classifier(), (images(), Y), (images(20, 1), Y[:20]))
    assert not said(whole, "has no samples of")


def test_streams_are_counted_by_the_look_at_them():
    """One full pass is enough: the sizes are known, and said, without another."""
    import tensorflow as tf

    read = []

    def numbered():
        for i in range(N):
            read.append(i)
            yield images(1, i)[0], Y[i]

    spec = (tf.TensorSpec((8, 8, 1), tf.uint8), tf.TensorSpec((), tf.int64))
    data = tf.data.Dataset.from_generator(numbered, output_signature=spec)
    problem = Problem.inspect(classifier(), data, memory_budget=500, validation_split=0.25)
    assert problem.facts["sizes"] == {"train": 45, "validation": 15}
    assert said(problem, "15 of 60 training samples are held out")
    passes = len(read)
    assert problem.train.count() == 45 and len(read) == passes
    assert sum(len(y) for _, y in problem.train.in_order(8)) == 45


def stream(y, x=None, batch=7):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((images(len(y)) if x is None else x, y)).batch(batch)


def picture_folder(folder, names):
    """Six images of a class each, with the class's place in the alphabet as their red value."""
    import tensorflow as tf

    for name in names:
        (folder / name).mkdir(parents=True)
        for index in range(6):
            image = np.random.default_rng(index).integers(0, 99, (8, 8, 3)).astype(np.uint8)
            image[0, 0, 0] = ord(name[0])
            (folder / name / f"{index}.png").write_bytes(tf.io.encode_png(image).numpy())
    return folder


@pytest.mark.parametrize("budget", [2**30, 100])
def test_classes_of_all_folders_are_numbered_as_in_train(tmp_path, budget):
    names = ["cat", "dog", "horse"]
    train = picture_folder(tmp_path / "train", names)
    validation = picture_folder(tmp_path / "val", names[1:])
    test = picture_folder(tmp_path / "test", ["horse"])
    problem = Problem.inspect(
        classifier(), train, validation, test=test, resize=(8, 8), memory_budget=budget
    )
    for source in (problem.train, problem.validation, problem.test):
        for x, y in source.in_order(5):
            assert [names[label][0] for label in y.numpy()] == [
                chr(r) for r in x[:, 0, 0, 0].numpy()
            ]
    assert said(problem, "The classes of validation are numbered as in train")
    assert said(problem, "validation has no samples of cat:")
    assert said(problem, "test has no samples of cat, dog:")
    opened = open_source(validation, name="validation", memory_budget=budget)
    again = Problem.inspect(classifier(), train, opened, memory_budget=budget)
    held = np.concatenate([y.numpy() for _, y in again.validation.in_order(5)])
    assert held.tolist() == [1] * 6 + [2] * 6
    assert opened.labels.tolist() == [0] * 6 + [1] * 6  # the user's own is left as it was
    with pytest.raises(EtudeError, match="test has emu, which train lacks, and lacks cat, dog"):
        Problem.inspect(
            classifier(), train, test=picture_folder(tmp_path / "more", ["emu", "horse"])
        )


def test_named_classes_of_streams_are_numbered_as_in_train():
    from etude.data import DatasetSource

    names = ("cat", "dog", "owl")
    train = DatasetSource(stream(Y), class_names=names)
    other = DatasetSource(stream(np.arange(20) % 2, batch=3), class_names=("owl", "dog"))
    problem = Problem.inspect(classifier(), train, other, memory_budget=500)
    labels = np.concatenate([y.numpy() for _, y in problem.validation.in_order(8)])
    assert labels.tolist() == [2, 1] * 10 and labels.dtype == np.int64
    y = np.arange(20) % 2
    y[6], y[7] = 5, -1
    wrong = DatasetSource(stream(y, batch=3), class_names=("owl", "dog"))
    for budget in (500, 2**30):
        with pytest.raises(EtudeError, match="5 in sample 6"):
            Problem.inspect(classifier(), train, wrong, memory_budget=budget)
    rows = DatasetSource(stream(np.eye(3)[Y]), class_names=names[::-1])
    with pytest.raises(EtudeError, match="numbered in another way"):
        Problem.inspect(classifier(), DatasetSource(stream(np.eye(3)[Y]), class_names=names), rows)


@pytest.mark.parametrize("channels", [1, 3])
def test_all_labels_of_large_arrays_are_looked_at(monkeypatch, channels):
    """Sorted by class, above the memory budget, adapted or not: as if they were in memory."""
    from etude.inspection import checks

    monkeypatch.setattr(checks, "LOOKED_AT", 20)
    y = np.repeat([0, 1, 2], [40, 15, 5])
    model = keras.Sequential(
        [keras.Input((8, 8, channels)), L.Rescaling(1 / 255), L.Flatten(), L.Dense(3)]
    )
    problem = Problem.inspect(model, (images(), y), validation_split=0.2, memory_budget=500)
    assert problem.train.arrays(500) is None
    assert problem.facts["class_counts"] == [32, 12, 4]
    held = np.concatenate([labels for _, labels in problem.validation.in_order(8)])
    assert np.bincount(held).tolist() == [8, 3, 1]
    assert said(problem, "(stratified, with seed 0)")


def test_one_class_at_the_beginning_of_a_stream_is_a_note(monkeypatch):
    from etude.inspection import checks

    monkeypatch.setattr(checks, "LOOKED_AT", 20)
    y = np.repeat([0, 1, 2], 20)
    problem = Problem.inspect(classifier(), stream(y), (images(20, 1), Y[:20]), memory_budget=500)
    assert said(problem, "In the first 20 samples of train only class 0 occurs")
    with pytest.raises(EtudeError, match="Only one class occurs"):
        Problem.inspect(classifier(), stream(y[:20]), memory_budget=500)


def test_how_a_part_was_held_out_is_said():
    assert said(Problem.inspect(classifier(), (images(), Y)), "(stratified, with seed 0)")
    streamed = Problem.inspect(classifier(), stream(Y), memory_budget=500, validation_split=0.25)
    assert said(streamed, "15 of 60 training samples are held out (one of every 4, in the order")
    held = np.concatenate([y.numpy() for _, y in streamed.validation.in_order(8)])
    assert held.tolist() == Y[3::4].tolist()
    model = keras.Sequential([keras.Input((4, 4, 1)), L.Rescaling(1 / 255), L.Conv2D(3, 1)])
    masks = np.random.default_rng(1).integers(0, 3, (N, 8, 8)).astype(np.uint8)
    resized = Problem.inspect(
        model, (images(), masks), resize=(4, 4), seed=5, memory_budget=500, validation_split=0.25
    )
    assert said(resized, "(by chance, with seed 5)")


@pytest.mark.slow
def test_validation_of_unknown_length_is_counted_before_training(monkeypatch):
    import tensorflow as tf

    from etude.data import tfdata

    monkeypatch.setattr(tfdata, "COUNTED_AT_MOST", 200)

    def forever():
        while True:
            yield images(1)[0], 1

    spec = (tf.TensorSpec((8, 8, 1), tf.uint8), tf.TensorSpec((), tf.int64))
    endless = tf.data.Dataset.from_generator(forever, output_signature=spec)
    data = (images(), Y)
    for sets in ({"test": endless}, {"validation": endless}):
        with pytest.raises(
            EtudeError, match=f"The stream {next(iter(sets))} does not say how many"
        ):
            Problem.inspect(classifier(), data, **sets, memory_budget=500)


class TestRandomStreams:
    """Streams that differ from pass to pass are not frozen at one of their draws."""

    def flipped(self, y=Y):
        import tensorflow as tf

        def flip(image, label):
            return tf.image.random_flip_left_right(image), label

        x = images(len(y))
        return tf.data.Dataset.from_tensor_slices((x, y)).map(flip)

    def seen(self, source, passes=12):
        """What the first sample looked like in several epochs.

        All by one iterator: under a global seed, which another test may have set, every new one
        would draw the same again.
        """
        rows = source.in_order(1).take(1).repeat(passes)
        return {x.numpy().tobytes() for x, _ in rows}

    def test_augmentation_goes_on(self):
        problem = Problem.inspect(classifier(), self.flipped(), (images(20, 1), Y[:20]))
        assert said(problem, "train brings other samples in every pass")
        first = images()[:1]
        # Twelve passes: one of the two alone would be there at one of 2048 draws.
        assert self.seen(problem.train) == {first.tobytes(), first[:, :, ::-1].tobytes()}
        assert problem.train.arrays(2**40) is None and problem.facts["sizes"]["train"] == 60
        gray = keras.Sequential(
            [keras.Input((8, 8, 3)), L.Rescaling(1 / 255), L.Flatten(), L.Dense(3)]
        )
        adapted = Problem.inspect(gray, self.flipped(), (images(20, 1), Y[:20])).train
        assert adapted.arrays(2**40) is None and len(self.seen(adapted)) == 2

    def test_a_part_of_it_is_not_held_out(self):
        with pytest.raises(EtudeError, match="gives other samples in every pass"):
            Problem.inspect(classifier(), self.flipped())

    def test_a_py_dataset_that_augments(self):
        class Batches(keras.utils.PyDataset):
            def __len__(self):
                return 6

            def __getitem__(self, index):
                part = slice(index * 10, index * 10 + 10)
                noise = np.random.default_rng().integers(0, 2, (10, 8, 8, 1))
                return images()[part] // 2 + noise.astype(np.uint8), Y[part]

        problem = Problem.inspect(classifier(), Batches(), (images(20, 1), Y[:20]))
        assert said(problem, "train brings other samples in every pass")
        assert len(self.seen(problem.train)) == 12

    def test_another_order_is_fine_and_said(self):
        shuffled = stream(Y).unbatch().shuffle(N)
        problem = Problem.inspect(classifier(), shuffled, (images(20, 1), Y[:20]))
        assert said(problem, "train comes in another order in every pass")
        assert problem.train.arrays(2**40) is not None
        large = Problem.inspect(classifier(), shuffled, (images(20, 1), Y[:20]), memory_budget=500)
        assert said(large, "Two passes over train begin with different samples")

    def test_a_killed_run_may_go_on_with_them(self):
        def print_of(data, **options):
            return Problem.inspect(classifier(), data, **options).fingerprint()

        validation = {"validation": (images(20, 1), Y[:20])}
        for data in (self.flipped, lambda: stream(Y).unbatch().shuffle(N)):
            assert print_of(data(), **validation) == print_of(data(), **validation)
        # What was trained on could otherwise be held out for validation.
        shuffled = [print_of(stream(Y).unbatch().shuffle(N)) for _ in range(2)]
        assert shuffled[0] != shuffled[1]
        steady = [print_of(stream(Y, images(seed=seed)), **validation) for seed in (0, 0, 7)]
        assert steady[0] == steady[1] != steady[2]

    def test_a_steady_stream_brings_no_note(self):
        problem = Problem.inspect(classifier(), stream(Y), (images(20, 1), Y[:20]))
        assert problem.notes == () and problem.train.arrays(2**40) is not None


def test_one_odd_pixel_is_a_note_and_another_range_an_error():
    x = images().astype(np.float32) / 255
    odd = x[:20].copy()
    odd[3, 2, 1, 0] = 40
    free = keras.Sequential([L.Flatten(), L.Dense(3)])
    problem = Problem.inspect(free, (x, Y), (odd, Y[:20]))
    assert said(problem, "Pixels of validation are in 0..40, those of train in 0..1")
    for other in (x * 40, x / 16, x * 2 - 1, (x - x.mean()) / x.std()):
        with pytest.raises(EtudeError, match="differ in range"):
            Problem.inspect(free, (x, Y), (other[:20], Y[:20]))
        with pytest.raises(EtudeError, match="differ in range"):
            Problem.inspect(free, (other, Y), (x[:20], Y[:20]))


def test_own_metric_functions_are_copied():
    def hits(y_true, y_pred):
        return keras.ops.equal(y_true, keras.ops.argmax(y_pred, -1))

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    wrapped = keras.metrics.MeanMetricWrapper(hits, name="wrapped")
    model = classifier(optimizer="sgd", loss=loss, metrics=[hits, wrapped])
    problem = Problem.inspect(model, (images(), Y))
    fresh = problem.metrics()
    assert [metric.name for metric in fresh] == ["hits", "wrapped"]
    scores = np.eye(3)[[0, 1, 1, 1]]
    for metric in fresh:
        metric.update_state(np.array([0, 1, 2, 0]), scores)
        assert float(metric.result()) == 0.5
    assert float(wrapped.result()) == 0.0


def test_frozen_layers_are_said():
    model = keras.Sequential([L.Rescaling(1 / 255), L.Flatten(), L.Dense(8), L.Dense(3)])
    model.build((None, 8, 8, 1))
    model.layers[2].trainable = False
    problem = Problem.inspect(model, (images(), Y))
    assert said(problem, "27 of the model's 547 parameters")


def test_a_built_model_is_left_as_it_was():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.all = [L.Flatten(), L.BatchNormalization(), L.Dropout(0.5), L.Dense(3)]

        def call(self, x, training=None):
            for layer in self.all:
                x = layer(x, training=training)
            return x

    model = Net()
    model(images()[:1].astype("float32"))
    before = [np.array(v.value) for v in model.variables]
    problem = Problem.inspect(model, (images(), Y))
    assert said(problem, "outputs look like logits")
    for old, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, np.array(variable.value))
    assert not model.compiled


def test_a_keras_file_is_loaded(tmp_path):
    model = classifier()
    model.build((None, 8, 8, 1))
    model.save(tmp_path / "m.keras")
    x = images(4).astype(np.float32)
    problem = Problem.inspect(str(tmp_path / "m.keras"), (images(), Y))
    np.testing.assert_array_equal(np.array(problem.model(x)), np.array(model(x)))


def test_mixed_precision():
    model = keras.Sequential(
        [
            L.Rescaling(1 / 255, dtype="mixed_bfloat16"),
            L.Flatten(dtype="mixed_bfloat16"),
            L.Dense(3, activation="softmax", dtype="mixed_bfloat16"),
            L.Activation("linear", dtype="float32"),
        ]
    )
    problem = Problem.inspect(model, (images(), Y))
    assert problem.facts["activation"] == "softmax" and not problem.facts["logits"]


class TestCompiled:
    def test_nothing_compiled(self):
        problem = Problem.inspect(classifier(), (images(), Y))
        assert problem.compiled_optimizer is None and not problem.user_loss
        assert [m.name for m in problem.metrics()] == ["accuracy"]

    def test_loss_metrics_and_optimizer_are_the_users(self):
        optimizer = keras.optimizers.SGD(0.3)
        metric = keras.metrics.TopKCategoricalAccuracy(k=2, name="top2")
        loss = keras.losses.CategoricalFocalCrossentropy(from_logits=True)
        model = classifier(optimizer=optimizer, loss=loss, metrics=[metric, "accuracy"])
        problem = Problem.inspect(model, (images(), np.eye(3)[Y]))
        assert problem.loss is loss and problem.user_loss
        assert problem.compiled_optimizer is optimizer
        top, accuracy = problem.metrics()
        assert top is not metric and (top.name, top.k) == ("top2", 2)
        assert type(accuracy) is keras.metrics.CategoricalAccuracy
        assert problem.metrics()[0] is not top
        assert (problem.monitor, problem.mode) == ("val_accuracy", "max")

    @pytest.mark.parametrize(
        ("metrics", "monitor"),
        [
            (["mae"], ("val_mae", "min")),
            ([keras.metrics.F1Score(name="f1")], ("val_f1", "max")),
            ([keras.metrics.Mean(name="odd")], ("val_loss", "min")),
            (None, ("val_accuracy", "max")),
        ],
    )
    def test_the_monitor(self, metrics, monitor):
        model = classifier(3, "softmax", loss="mse", metrics=metrics)
        problem = Problem.inspect(model, (images(), np.eye(3)[Y]))
        assert (problem.monitor, problem.mode) == monitor
        assert problem.user_loss and problem.loss == "mse"

    def test_names_are_those_of_keras_logs(self):
        """What `metrics()` is called is what plain Keras logs."""
        given = ["accuracy", "mae", keras.metrics.AUC(name="area"), keras.losses.hinge]
        model = classifier(1, "sigmoid", loss="binary_crossentropy", metrics=given)
        y = (Y[:, None] > 0).astype(np.float32)
        problem = Problem.inspect(model, (images(), y))
        logs = model.evaluate(images().astype("float32"), y, verbose=0, return_dict=True)
        assert sorted(["loss", *(m.name for m in problem.metrics())]) == sorted(logs)
        for metric in problem.metrics():
            metric.update_state(y, model(images().astype("float32")))
            assert float(metric.result()) == pytest.approx(logs[metric.name], rel=1e-5)

    def test_binary_accuracy_on_logits_is_said(self):
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
        model = classifier(1, loss=loss, metrics=["accuracy"])
        assert said(Problem.inspect(model, (images(), Y > 0)), "BinaryAccuracy(threshold=0.0)")

    def test_metrics_that_count_ignored_pixels_are_said(self):
        masks = np.random.default_rng(1).integers(0, 3, (N, 8, 8))
        masks[:, 0] = 255
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)

        def own(y_true, y_pred):
            return keras.ops.mean(y_pred, -1)

        def notes(label, **compiling):
            made = keras.Sequential([L.Rescaling(1 / 255), L.Conv2D(3, 3, padding="same")])
            made.compile(loss=loss, **compiling)
            labels = masks if label is not None else masks % 3
            problem = Problem.inspect(made, (images(), labels), ignore_label=label)
            return said(problem, "count pixels of the label 255")

        iou = {"num_classes": 3, "sparse_y_pred": False}
        deaf = keras.metrics.MeanIoU(**iou, name="deaf")
        aware = keras.metrics.MeanIoU(**iou, name="aware", ignore_class=255)
        assert "accuracy, deaf" in notes(255, metrics=["accuracy", deaf, aware, own])[0]
        assert "deaf" in notes(255, weighted_metrics=[deaf])[0]
        assert notes(255, metrics=[aware, own]) == notes(None, metrics=["accuracy"]) == []

    def test_a_binary_loss_makes_rows_multi_label(self):
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
        problem = Problem.inspect(classifier(3, loss=loss), (images(), np.eye(3)[Y]))
        assert problem.task.name == "multi_label"
        assert Problem.inspect(classifier(3), (images(), np.eye(3)[Y])).task.name == "single_label"

    def test_own_compute_loss_is_reported(self):
        class Own(keras.Sequential):
            def compute_loss(self, *args, **kwargs):
                return super().compute_loss(*args, **kwargs)

        model = Own([L.Rescaling(1 / 255), L.Flatten(), L.Dense(3)])
        problem = Problem.inspect(model, (images(), Y))
        assert problem.facts["own_compute_loss"] and said(problem, "compute_loss")

    def test_a_closed_end_is_fine_under_a_loss_of_ones_own(self):
        model = classifier(1, "tanh", loss="hinge")
        assert Problem.inspect(model, (images(), Y > 0)).user_loss


class TestFingerprint:
    def test_a_model_built_anew_has_the_same(self):
        def functional():
            image = keras.Input((8, 8, 1))
            x = L.Conv2D(4, 3, padding="same")(L.Rescaling(1 / 255)(image))
            return keras.Model(image, L.Dense(3)(L.Flatten()(L.Add()([x, L.ReLU()(x)]))))

        for make in (classifier, functional):
            prints = {Problem.inspect(make(), (images(), Y)).fingerprint() for _ in range(2)}
            assert len(prints) == 1

    def test_another_process_has_the_same(self):
        code = (
            "import keras, numpy as np; from etude.problem import Problem; L = keras.layers\n"
            "x = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 1)).astype('uint8')\n"
            "m = keras.Sequential([L.Rescaling(1 / 255), L.Flatten(), L.Dense(3)])\n"
            "print(Problem.inspect(m, (x, np.arange(60) % 3)).fingerprint())"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        here = Problem.inspect(classifier(), (images(), Y)).fingerprint()
        assert done.stdout.strip() == here, done.stderr

    @pytest.mark.parametrize("place", ["layer", "pipeline", "functional", "nested", "own"])
    def test_a_seed_that_a_layer_drew_does_not_count(self, place):
        class Own(keras.layers.RandomCrop):
            pass

        def make(size=6, flip="horizontal"):
            crop = (Own if place == "own" else L.RandomCrop)(size, size)
            if place == "pipeline":
                crop = L.Pipeline([L.RandomFlip(flip), crop])
            inner = [L.Rescaling(1 / 255), crop, L.Flatten(), L.Dense(3)]
            model = keras.Sequential([keras.Input((8, 8, 1)), *inner])
            if place not in ("functional", "nested"):
                return model
            if place == "functional":
                model.pop()
                return keras.Model(model.inputs, L.Dense(3)(model.outputs[0]))
            image = keras.Input((8, 8, 1))
            return keras.Model(image, model(image))

        def print_of(model):
            return Problem.inspect(model, (images(), Y)).fingerprint()

        assert print_of(make()) == print_of(make()) != print_of(make(5))
        if place == "pipeline":
            assert print_of(make()) != print_of(make(flip="vertical"))

    def test_everything_that_matters_changes_it(self):
        x, frozen = images(), classifier()
        frozen.build((None, 8, 8, 1))
        frozen.layers[-1].bias.trainable = False
        changed = x.copy()
        changed[7, 1, 1, 0] ^= 1
        swapped = Y.copy()
        swapped[:2] = swapped[1::-1]
        prints = [
            Problem.inspect(model, data, **options).fingerprint()
            for model, data, options in [
                (classifier(), (x, Y), {}),
                (classifier(4), (x, Y), {}),
                (classifier(3, "softmax"), (x, Y), {}),
                (frozen, (x, Y), {}),
                (classifier(), (changed, Y), {}),
                (classifier(), (x, swapped), {}),
                (classifier(), (x, Y), {"seed": 1}),
                (classifier(), (x, Y), {"validation_split": 0.3}),
                (classifier(), (x, Y), {"validation": (images(20, 1), Y[:20])}),
                (classifier(), (x, Y), {"test": (images(20, 1), Y[:20])}),
            ]
        ]
        assert len(set(prints)) == len(prints)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data pack is not here")
class TestRealSets:
    def test_digits(self):
        with np.load(SHARED / "digits8x8" / "digits.npz") as file:
            x, y = file["x"], file["y"]
        model = keras.Sequential([L.Rescaling(1 / 16), L.Flatten(), L.Dense(10)])
        problem = Problem.inspect(model, (x, y))
        assert problem.task.name == "single_label" and problem.facts["image"]["high"] == 16
        total = np.bincount(y)
        held = np.bincount(problem.validation.arrays(10**9).labels)
        assert np.abs(held - 0.15 * total).max() <= 1
        assert not said(problem, "unbalanced") and not said(problem, "Rescaling")

    def test_camvid(self):
        import io
        import tarfile

        from PIL import Image

        with tarfile.open(SHARED / "camvid240" / "camvid240.tar") as tar:

            def read(name):
                return np.asarray(Image.open(io.BytesIO(tar.extractfile(name).read())))

            names = [n for n in tar.getnames() if n.startswith("val/images")][:8]
            x = np.stack([read(n) for n in names])[:, ::4, ::4]
            y = np.stack([read(n.replace("images", "labels")[:-3] + "png") for n in names])
        y = y[:, ::4, ::4]
        model = keras.Sequential(
            [keras.Input((None, None, 3)), L.Rescaling(1 / 255), L.Conv2D(11, 1)]
        )
        problem = Problem.inspect(model, (x, y), ignore_label=11)
        assert problem.task.name == "semantic_segmentation"
        kept = problem.train.arrays(10**9).labels
        assert (
            problem.facts["class_counts"] == np.bincount(kept.ravel(), minlength=12)[:11].tolist()
        )
        assert said(problem, "unbalanced")
        outputs = np.array(model(x[:2].astype(np.float32)))
        valid = y[:2] != 11
        logp = outputs - np.log(np.exp(outputs).sum(-1, keepdims=True))
        nll = -np.take_along_axis(logp, np.where(valid, y[:2], 0)[..., None], -1)[..., 0]
        assert float(problem.loss(y[:2], outputs)) == pytest.approx(nll[valid].mean(), rel=1e-5)
        with pytest.raises(EtudeError, match="ignore_label"):
            Problem.inspect(model, (x, y))
