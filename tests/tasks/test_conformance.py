"""One suite for every task and every kind of labels, against closed forms and plain loops."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from etude.errors import EtudeError
from etude.tasks import TASKS, balanced_weights, choose, task_class

_spec = importlib.util.spec_from_file_location("task_cases", Path(__file__).with_name("cases.py"))
cases = importlib.util.module_from_spec(_spec)

sys.modules["task_cases"] = cases
_spec.loader.exec_module(cases)
CASES, C = cases.CASES, cases.C

CLASSES = [case for case in CASES if case.key != "depth"]

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
each_case_of_classes = pytest.mark.parametrize("case", CLASSES, ids=lambda case: case.name)
each_kind = pytest.mark.parametrize("logits", [True, False], ids=["logits", "probabilities"])


def task_of(case, logits=True):
    return choose(case.evidence(logits), case.asked)


def outputs_of(case, logits, seed=1):
    """Random outputs as logits or probabilities, and the probabilities, float64; or depths."""
    rng = np.random.default_rng(seed)
    if case.key == "depth":
        depths = np.exp(rng.normal(size=(len(case.labels), *case.output_shape)))
        depths = (depths * np.median(case.dense()[0])).astype(np.float32)
        return depths, depths.astype(np.float64)
    # Small, so that many logits lie between 0 and 0.5, where thresholds are mixed up.
    raw = 0.6 * rng.normal(size=(len(case.labels), *case.output_shape)).astype(np.float32)
    wide = raw.astype(np.float64)
    if case.categorical:
        p = np.exp(wide) / np.exp(wide).sum(-1, keepdims=True)
    else:
        p = 1.0 / (1.0 + np.exp(-wide))
    return (raw if logits else p.astype(np.float32)), p


def cross_entropy(case, targets, p):
    """Loss of each sample or pixel, by its definition."""
    if case.categorical:
        return -(targets * np.log(p)).sum(-1)
    each = -(targets * np.log(p) + (1 - targets) * np.log(1 - p))
    return each.mean(-1) if case.output_shape else each


def number(tensor):
    return float(keras.ops.convert_to_numpy(tensor))


def test_every_task_has_cases():
    assert {case.key for case in CASES} == set(TASKS)
    for name, cls in TASKS.items():
        assert cls.name == name and cls.mode in ("min", "max")


@each_case
@each_kind
def test_chosen_by_itself(case, logits):
    task = task_of(case, logits)
    assert task.name == case.key
    task.check_labels(case.labels, 0, "train")


@each_case_of_classes
@each_kind
def test_loss_is_the_closed_form(case, logits):
    task = task_of(case, logits)
    outputs, p = outputs_of(case, logits)
    targets, valid = case.dense()
    expected = cross_entropy(case, targets, p)[valid].mean()
    assert number(task.loss()(case.labels, outputs)) == pytest.approx(expected, abs=2e-6)


@each_case
@each_kind
def test_soft_loss_is_the_loss_at_amount_zero(case, logits):
    task = task_of(case, logits)
    outputs, _ = outputs_of(case, logits)
    hard = number(task.loss()(case.labels, outputs))
    soft = number(task.soft_loss()(task.soften(case.labels, 0.0), outputs))
    assert soft == pytest.approx(hard, abs=1e-6)


@each_case_of_classes
@each_kind
def test_soft_loss_is_the_closed_form(case, logits):
    task = task_of(case, logits)
    outputs, p = outputs_of(case, logits)
    targets, valid = case.dense()
    share = 1 / C if case.categorical else 0.5
    expected = cross_entropy(case, targets * 0.8 + 0.2 * share, p)[valid].mean()
    soft = number(task.soft_loss()(task.soften(case.labels, 0.2), outputs))
    assert soft == pytest.approx(expected, abs=2e-6)


@each_case_of_classes
def test_soften_keeps_the_mass(case):
    task = task_of(case)
    soft = keras.ops.convert_to_numpy(task.soften(case.labels, 0.3))
    _, valid = case.dense()
    assert soft.dtype == np.float32 and soft.shape == (len(case.labels), *case.output_shape)
    if case.categorical:
        np.testing.assert_allclose(soft.sum(-1), valid.astype(float), atol=1e-6)
    else:
        np.testing.assert_allclose(soft[valid].min(), 0.15, atol=1e-6)
        np.testing.assert_allclose(soft[valid].max(), 0.85, atol=1e-6)


@each_case_of_classes
@each_kind
def test_accuracy_is_a_plain_count(case, logits):
    task = task_of(case, logits)
    outputs, p = outputs_of(case, logits)
    targets, valid = case.dense()
    if case.categorical:
        hits = (p.argmax(-1) == targets.argmax(-1))[valid]
    else:
        hits = ((p > 0.5) == (targets > 0.5))[valid]
    metric = next(m for m in task.metrics() if m.name == "accuracy")
    half = len(outputs) // 2
    metric.update_state(case.labels[:half], outputs[:half])
    metric.update_state(case.labels[half:], outputs[half:])
    assert number(metric.result()) == pytest.approx(hits.mean(), abs=1e-6)


@each_case
@each_kind
def test_the_monitor_is_a_plain_loop(case, logits):
    task = task_of(case, logits)
    outputs, p = outputs_of(case, logits)
    targets, valid = case.dense()
    metric = next(m for m in task.metrics() if m.name == task.monitor)
    metric.update_state(case.labels, outputs)
    result = number(metric.result())
    if task.monitor == "mean_iou":
        if case.categorical:
            true, guess, k = targets.argmax(-1), p.argmax(-1), C
        else:
            true, guess, k = targets[..., 0], (p[..., 0] > 0.5).astype(int), 2
        ratios = []
        for c in range(k):
            meet = np.sum((true == c) & (guess == c) & valid)
            join = np.sum(((true == c) | (guess == c)) & valid)
            if join:
                ratios.append(meet / join)
        assert result == pytest.approx(np.mean(ratios), abs=1e-6)
    if task.monitor == "delta_1":
        pairs = zip(targets[valid].ravel(), p[valid].ravel(), strict=True)
        hits = [max(a / b, b / a) < 1.25 for a, b in pairs]
        assert 0.1 < np.mean(hits) < 0.9 and result == pytest.approx(np.mean(hits), abs=1e-6)
    if task.monitor == "auc_pr":
        areas = [average_precision(targets[:, c], p[:, c]) for c in range(C)]
        assert result == pytest.approx(np.mean(areas), abs=0.08)  # 200 thresholds, 12 samples


def average_precision(true, score):
    """Mean precision at the positives, in order of falling score."""
    ranked = true[np.argsort(-score)]
    return np.mean([ranked[: i + 1].mean() for i in np.flatnonzero(ranked)])


def test_binary_auc_is_the_share_of_ordered_pairs():
    rng = np.random.default_rng(0)
    case = cases.Case("many", "binary", rng.integers(0, 2, 400), (1,))
    scores = (rng.normal(size=(400, 1)) + case.labels[:, None]).astype(np.float32)
    auc = task_of(case).metrics()[1]
    auc.update_state(case.labels, scores)
    high, low = scores[case.labels == 1, 0], scores[case.labels == 0, 0]
    assert number(auc.result()) == pytest.approx(np.mean(high[:, None] > low[None]), abs=5e-3)


@each_case_of_classes
def test_counts_and_strata(case):
    task = task_of(case)
    targets, valid = case.dense()
    counts = task.counts(case.labels)
    if case.name == "single_soft":
        expected = np.bincount(case.labels.argmax(-1), minlength=C)
    elif case.categorical:
        expected = targets[valid].reshape(-1, C).sum(0)
    elif case.key == "multi_label":
        expected = targets.sum(0)
    else:
        ones = targets[valid].sum()
        expected = np.array([targets[valid].size - ones, ones])
    assert counts.dtype == np.int64
    np.testing.assert_array_equal(counts, expected)
    strata = task.strata(case.labels)
    assert strata.shape == (len(case.labels),) and strata.dtype == np.int64


@each_case_of_classes
@each_kind
def test_class_weights_weigh_the_loss(case, logits):
    """The weighted loss is the weighted sum over what counts, divided by how much counts."""
    task = task_of(case, logits)
    outputs, p = outputs_of(case, logits)
    targets, valid = case.dense()
    table = {0: 0.5, 1: 2.0} if task.classes() == 2 else {0: 0.5, 1: 2.0, 2: 3.0}
    row = np.array([table[c] for c in range(task.classes())])
    weights = keras.ops.convert_to_numpy(task.class_weights(case.labels, table))
    if case.categorical:
        expected = (targets * row).sum(-1)
    elif case.key == "multi_label":
        often = targets.sum(-1)
        expected = np.where(often > 0, (targets * row).sum(-1) / np.maximum(often, 1), 1.0)
    else:
        expected = row[targets.astype(int)].reshape(valid.shape) * valid
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    loss = number(task.loss()(case.labels, outputs, sample_weight=weights))
    each = cross_entropy(case, targets, p).reshape(valid.shape)
    assert loss == pytest.approx((each * expected * valid).sum() / valid.sum(), abs=5e-6)
    soft = task.soft_loss()(task.soften(case.labels, 0.0), outputs, sample_weight=weights)
    assert number(soft) == pytest.approx(loss, abs=1e-5)


@each_case
@each_kind
def test_decode_gives_labels_back(case, logits):
    """Outputs that put all on the labels decode to the labels, in shape and dtype."""
    task = task_of(case, logits)
    targets, valid = case.dense()
    outputs = targets * 8.0 - 4.0 if logits else targets * 0.98 + 0.01
    if case.key == "depth":
        outputs = targets
    decoded = task.decode(outputs.astype(np.float32))
    assert decoded.shape == case.labels.shape and decoded.dtype == case.labels.dtype
    if case.name == "single_soft":
        np.testing.assert_array_equal(decoded.argmax(-1), case.labels.argmax(-1))
        return
    if case.key in ("semantic_segmentation", "depth"):
        flat = valid.reshape(-1)
        got = decoded.reshape(flat.size, -1)[flat]
        wanted = case.labels.reshape(flat.size, -1)[flat]
        np.testing.assert_allclose(got, wanted, rtol=1e-7 if case.key == "depth" else 0.0)
        return
    np.testing.assert_array_equal(decoded, case.labels)


@each_case
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_loss_and_metrics_in_a_compiled_step(case, dtype):
    """Low precision outputs are taken, in a graph, and the gradient is finite and of use."""
    import tensorflow as tf

    task = task_of(case)
    outputs, _ = outputs_of(case, True)
    loss, metrics = task.loss(), task.metrics()

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = loss(y, x)
        for metric in metrics:
            metric.update_state(y, x)
        return value, tape.gradient(value, x)

    x = tf.cast(outputs, dtype)
    value, gradient = step(x, tf.constant(case.labels))
    assert value.dtype == tf.float32
    gradient = np.asarray(tf.cast(gradient, tf.float32))
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0
    _, valid = case.dense()
    if case.key in ("semantic_segmentation", "depth"):
        assert not gradient[~valid].any()
    exact = number(loss(case.labels, outputs))
    assert float(value) == pytest.approx(exact, rel=2e-2)


@each_case
def test_losses_and_metrics_serialize(case):
    task = task_of(case)
    outputs, _ = outputs_of(case, True)
    for loss, labels in (
        (task.loss(), case.labels),
        (task.soft_loss(), task.soften(case.labels, 0.1)),
    ):
        again = type(loss).from_config(loss.get_config())
        assert number(again(labels, outputs)) == number(loss(labels, outputs))
    for metric in task.metrics():
        again = type(metric).from_config(metric.get_config())
        assert again.name == metric.name
        metric.update_state(case.labels, outputs)
        again.update_state(case.labels, outputs)
        assert number(again.result()) == number(metric.result())


MASKS = [case for case in CASES if case.key == "semantic_segmentation"]
# As many as the masks are wide, or high: Keras lines weights up with these axes.
COUNTS = [len(CASES[0].labels), cases.W, cases.H]


def by_sample(case, outputs, p, weights):
    """Loss, pixel accuracy and mean IoU of weighted samples, pixel by pixel."""
    targets, valid = case.dense()
    single = case.output_shape[-1] == 1
    losses, hits, weighed, pixels = 0.0, 0.0, 0.0, 0
    table = np.zeros((2, 2) if single else (C, C))
    for i, weight in enumerate(weights):
        for place in np.argwhere(valid[i]):
            t, q = targets[(i, *place)], p[(i, *place)]
            if single:
                true, guess = int(t[0]), int(q[0] > 0.5)
                loss = -np.log(q[0] if true else 1.0 - q[0])
            else:
                true, guess, loss = int(t.argmax()), int(q.argmax()), -(t * np.log(q)).sum()
            losses, pixels = losses + weight * loss, pixels + 1
            hits, weighed = hits + weight * (true == guess), weighed + weight
            table[true, guess] += weight
    joined = table.sum(0) + table.sum(1) - np.diag(table)
    iou = np.mean(np.diag(table)[joined > 0] / joined[joined > 0])
    return {"loss": losses / pixels, "accuracy": hits / weighed, "mean_iou": iou}


def cut(case, count):
    """The case with its first samples alone, and a weight for each."""
    few = dataclasses.replace(case, labels=case.labels[:count])
    return few, np.linspace(0, 2, count).astype(np.float32)


@pytest.mark.parametrize("case", MASKS, ids=lambda case: case.name)
@pytest.mark.parametrize("count", COUNTS)
@each_kind
def test_masks_take_one_weight_for_each_sample(case, count, logits):
    """A weight is that of all pixels of its sample, whatever the number of samples."""
    case, weights = cut(case, count)
    task = task_of(case, logits)
    outputs, p = outputs_of(case, logits)
    expected = by_sample(case, outputs, p, weights)
    metrics = task.metrics()
    for given in (weights, weights[:, None]):
        for metric in metrics:
            metric.reset_state()
            metric.update_state(case.labels, outputs, sample_weight=given)
        found = {metric.name: number(metric.result()) for metric in metrics}
        found["loss"] = number(task.loss()(case.labels, outputs, sample_weight=given))
        assert found == pytest.approx(expected, abs=2e-6)
    soft = task.soft_loss()(task.soften(case.labels, 0.0), outputs, sample_weight=weights)
    assert number(soft) == pytest.approx(expected["loss"], abs=2e-6)


class Fixed(keras.Model):
    """Outputs are the images, plus one number to learn."""

    def __init__(self):
        super().__init__()
        self.shift = self.add_weight(shape=(), initializer="zeros", name="shift")

    def call(self, x):
        return x + self.shift


@pytest.mark.parametrize("case", MASKS, ids=lambda case: case.name)
@pytest.mark.parametrize("theirs", [False, True], ids=["task", "compiled"])
def test_weighted_masks_in_training_and_evaluation(case, theirs):
    """Also by Keras' own loss, where the user compiled it; width == batch."""
    from etude.training.trainer import Trainer

    case, weights = cut(case, cases.W)
    task = task_of(case)
    outputs, p = outputs_of(case, True)
    loss = task.loss()
    if theirs:
        if task.single and case.ignore is not None:
            pytest.skip("no loss of Keras' own leaves pixels of binary masks out")
        if task.one_hot and not case.dense()[1].all():
            pytest.skip("Keras' own counts a row of zeros in the mean")
        own = keras.losses.BinaryCrossentropy if task.single else (
            keras.losses.CategoricalCrossentropy if task.one_hot
            else keras.losses.SparseCategoricalCrossentropy
        )  # fmt: skip
        options = {} if case.ignore is None else {"ignore_class": case.ignore}
        loss = own(from_logits=True, **options)
    expected = by_sample(case, outputs, p, weights)
    trainer = Trainer(Fixed(), task=task)
    trainer.compile(keras.optimizers.SGD(0.0), loss, weighted_metrics=task.metrics())
    options = dict(sample_weight=weights, batch_size=len(outputs), verbose=0)
    evaluated = trainer.evaluate(outputs, case.labels, return_dict=True, **options)
    assert evaluated == pytest.approx(expected, abs=2e-6)
    trained = trainer.fit(outputs, case.labels, **options).history
    assert {name: values[0] for name, values in trained.items()} == pytest.approx(
        expected, abs=2e-6
    )


@pytest.mark.parametrize("case", MASKS, ids=lambda case: case.name)
def test_unweighted_masks_have_keras_own_loss_to_the_bit(case):
    """Where Keras has one that leaves the same pixels out; with its gradient."""
    import tensorflow as tf

    task = task_of(case)
    if task.one_hot or (task.single and (case.ignore is not None or case.labels.ndim == 3)):
        pytest.skip("Keras has no such loss")
    if task.single:
        plain = keras.losses.BinaryCrossentropy(from_logits=True)
    else:
        plain = keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, ignore_class=case.ignore
        )
    x = tf.constant(outputs_of(case, True)[0])
    got = []
    for loss in (task.loss(), plain):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = loss(case.labels, x)
        got.append((value.numpy(), tape.gradient(value, x).numpy()))
    assert got[0][0] == got[1][0]
    np.testing.assert_array_equal(got[0][1], got[1][1])


def test_balanced_weights_are_sklearns():
    counts = np.array([50, 10, 0, 40])
    weights = balanced_weights(counts)
    assert weights == {0: 100 / (3 * 50), 1: 100 / (3 * 10), 3: 100 / (3 * 40)}
    assert sum(weights[c] * counts[c] for c in weights) / 100 == pytest.approx(1.0)


def test_names_and_synonyms():
    assert task_class("Multi-Class") is TASKS["single_label"]
    assert task_class("segmentation") is TASKS["semantic_segmentation"]
    for wrong in ("detection", 3, ""):
        with pytest.raises(EtudeError, match="one of"):
            task_class(wrong)


WRONG = [
    ("binary_int", np.array([0, 1, 2]), "2 in sample 12"),
    ("binary_int", np.array([1, -1]), "-1 in sample 11"),
    ("binary_float_column", np.array([[0.0], [0.5]]), "0.5 in sample 11"),
    ("single_int", np.array([0, 1, 2, 3]), "3 in sample 13"),
    ("single_int", np.array([-1]), "-1 in sample 10"),
    ("single_float", np.array([1.5]), "1.5 in sample 10"),
    ("single_float", np.array([1.0, np.nan]), "nan in sample 11"),
    ("single_one_hot", np.array([[1, 0, 0], [1, 0, 1]]), "task='multi_label'"),
    ("single_soft", np.array([[0.5, 0.5, 0.5]]), "divide each row by its sum"),
    ("multi_hot", np.array([[0, 1, 2]]), "2 in sample 10 at (2,)"),
    ("masks", np.full((2, 4, 5), 7), "7 in sample 10 at (0, 0)"),
    ("masks", np.full((2, 4, 5), 255), "ignore_label"),
    ("binary_masks", np.full((1, 4, 5), 255, np.uint8), "divide the masks by 255"),
    ("masks_one_hot", np.ones((1, 4, 5, 3)), "3.0 in sample 10"),
    ("single_int", np.array(["cat"]), "not numbers"),
]


@pytest.mark.parametrize(("name", "labels", "says"), WRONG)
def test_bad_labels_are_named(name, labels, says):
    case = next(c for c in CASES if c.name == name)
    with pytest.raises(EtudeError) as caught:
        task_of(case).check_labels(labels, 10, "validation")
    assert says in str(caught.value)
