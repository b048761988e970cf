"""The loss and the metrics of depth against loops in plain Python; what is taken for depth."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import keras
import numpy as np
import pytest

from etude.errors import DataError, EtudeError, ModelError
from etude.tasks import Evidence, choose
from etude.tasks import depth as module

N, H, W = 7, 6, 5
HOLES = (0.0, -2.0, np.nan, np.inf, -np.inf)


def maps(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels `(N, H, W)` with places of no depth, one sample of such alone; and predictions."""
    rng = np.random.default_rng(seed)
    labels = rng.uniform(0.5, 9.0, (N, H, W))
    factors = np.exp(rng.normal(scale=0.4, size=(N, H, W)))
    predictions = (labels * factors)[..., None].astype(np.float32)
    labels[rng.random((N, H, W)) < 0.3] = 0.0
    labels = np.where(labels == 0.0, rng.choice(HOLES, labels.shape), labels).astype(np.float32)
    labels[4] = np.nan
    return labels, predictions


def evidence_of(labels: np.ndarray, **changes: Any) -> Evidence:
    own = Evidence(
        label_shape=labels.shape[1:],
        label_dtype=labels.dtype.name,
        labels=labels,
        output_shape=(*labels.shape[1:3], 1),
        logits=True,
        image_shape=(*labels.shape[1:3], 3),
    )
    return dataclasses.replace(own, **changes)


def task_of(labels: np.ndarray, **changes: Any) -> Any:
    return choose(evidence_of(labels, **changes), "depth")


def number(tensor: Any) -> float:
    return float(keras.ops.convert_to_numpy(tensor))


def pairs(labels: np.ndarray, predictions: np.ndarray) -> list[list[tuple[float, float]]]:
    """(label, prediction) of every pixel of known depth, for each sample."""
    found = []
    for true, guess in zip(labels, predictions[..., 0], strict=True):
        both = zip(true.ravel().tolist(), guess.ravel().tolist(), strict=True)
        found.append([(t, g) for t, g in both if math.isfinite(t) and t > 0.0])
    return found


def by_loops(labels: np.ndarray, predictions: np.ndarray, weights: Any = None) -> dict[str, float]:
    """All metrics and the loss, as they are defined."""
    weights = np.ones(len(labels)) if weights is None else weights
    total = dict.fromkeys(("delta_1", "delta_2", "delta_3", "abs_rel", "rmse", "rmse_log"), 0.0)
    count, losses = 0.0, []
    for weight, sample in zip(weights, pairs(labels, predictions), strict=True):
        errors = [abs(g - t) for t, g in sample]
        losses.append(weight * sum(errors) / len(errors) if errors else 0.0)
        for t, g in sample:
            count += weight
            positive = max(g, 1e-6)
            for k in (1, 2, 3):
                total[f"delta_{k}"] += weight * (max(t / positive, positive / t) < 1.25**k)
            total["abs_rel"] += weight * abs(g - t) / t
            total["rmse"] += weight * (g - t) ** 2
            total["rmse_log"] += weight * (math.log(positive) - math.log(t)) ** 2
    means = {name: value / count for name, value in total.items()}
    for name in ("rmse", "rmse_log"):
        means[name] = math.sqrt(means[name])
    return {**means, "loss": sum(losses) / len(losses)}


def measured(task: Any, labels: Any, predictions: Any, size: int, weights: Any = None) -> Any:
    """All metrics, of batches of that size."""
    metrics = task.metrics()
    for first in range(0, len(labels), size):
        part = slice(first, first + size)
        weight = None if weights is None else weights[part]
        for metric in metrics:
            metric.update_state(labels[part], predictions[part], sample_weight=weight)
    return {metric.name: number(metric.result()) for metric in metrics}


def test_metrics_by_hand() -> None:
    """Three pixels: 2 m seen as 2.2, 4 m as 8, and 1 m as 0.5; the fourth is not known."""
    labels = np.array([[[2.0, 4.0], [1.0, 0.0]]], np.float32)
    found = measured(
        task_of(labels), labels, np.array([[[[2.2], [8.0]], [[0.5], [7.0]]]], np.float32), 1
    )
    assert found == pytest.approx(
        {
            "delta_1": 1 / 3,  # 1.1 is below 1.25; 2 and 2 are not
            "delta_2": 1 / 3,  # 1.5625
            "delta_3": 1 / 3,  # 1.953125
            "abs_rel": (0.1 + 1.0 + 0.5) / 3,
            "rmse": math.sqrt((0.04 + 16.0 + 0.25) / 3),
            "rmse_log": math.sqrt((math.log(1.1) ** 2 + 2 * math.log(2.0) ** 2) / 3),
        },
        rel=1e-6,
    )


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3, N])
def test_metrics_are_of_the_set_whatever_the_batches(size: int, weighted: bool) -> None:
    labels, predictions = maps()
    weights = np.linspace(0.0, 2.0, N).astype(np.float32) if weighted else None
    wanted = by_loops(labels, predictions, weights)
    del wanted["loss"]
    task = task_of(labels)
    assert measured(task, labels, predictions, size, weights) == pytest.approx(wanted, rel=1e-5)
    assert all(0.05 < wanted[f"delta_{k}"] < 0.95 for k in (1, 2, 3))  # the test can fail


def test_a_mean_of_the_batches_means_is_another_number() -> None:
    labels, predictions = maps()
    task = task_of(labels)
    each = [measured(task, labels[i : i + 1], predictions[i : i + 1], 1) for i in range(N)]
    for name in ("delta_1", "rmse"):
        mean = np.mean([one[name] for one in each])
        assert abs(mean - by_loops(labels, predictions)[name]) > 0.01


@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_is_a_mean_of_the_samples_means(weighted: bool) -> None:
    labels, predictions = maps()
    weights = np.linspace(0.5, 2.0, N).astype(np.float32) if weighted else None
    loss = task_of(labels).loss()
    wanted = by_loops(labels, predictions, weights)["loss"]
    for given in (labels, labels[..., None], labels.astype(np.float64)):
        found = number(loss(given, predictions, sample_weight=weights))
        assert found == pytest.approx(wanted, rel=1e-5)
    if weighted:
        of_pixels = np.broadcast_to(weights[:, None, None], (N, H, W))
        for shaped in (weights[:, None], weights[:, None, None], of_pixels):
            found = number(loss(labels, predictions, sample_weight=shaped))
            assert found == pytest.approx(wanted, rel=1e-5)


def test_each_sample_has_its_own_loss_and_one_without_depth_has_none() -> None:
    labels, predictions = maps()
    loss = task_of(labels).loss()
    each = [number(loss(labels[i : i + 1], predictions[i : i + 1])) for i in range(N)]
    for i in range(N):
        assert each[i] == pytest.approx(
            by_loops(labels[[i, i]], predictions[[i, i]])["loss"] if i != 4 else 0.0, rel=1e-5
        )
    assert each[4] == 0.0
    by_pixel = keras.ops.convert_to_numpy(loss.call(labels, predictions)).mean(axis=(1, 2))
    np.testing.assert_allclose(by_pixel, each, rtol=1e-5)


def test_what_is_no_depth_has_no_gradient_at_all() -> None:
    """Not even from a prediction there that is no number."""
    import tensorflow as tf

    labels, predictions = maps()
    known = np.isfinite(labels) & (labels > 0)
    predictions[~known] = np.resize([np.nan, np.inf, 1.0], (~known).sum())[:, None]
    x = tf.constant(predictions)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = task_of(labels).loss()(labels, x)
    gradient = tape.gradient(value, x).numpy()[..., 0]
    assert np.isfinite(float(value)) and not gradient[~known].any()
    for i in range(N):  # the sign of the error over the pixels that count and the samples
        signs = np.sign(predictions[i, ..., 0][known[i]] - labels[i][known[i]])
        np.testing.assert_allclose(gradient[i][known[i]], signs / known[i].sum() / N, rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, -3.0])
def test_predictions_that_are_no_depths_are_bad_and_finite(value: float) -> None:
    labels = np.full((1, 2, 2), 2.0, np.float32)
    found = measured(task_of(labels), labels, np.full((1, 2, 2, 1), value, np.float32), 1)
    assert found["delta_1"] == found["delta_3"] == 0.0
    assert found["rmse_log"] == pytest.approx(math.log(2.0) - math.log(1e-6), rel=1e-5)
    assert found["abs_rel"] == pytest.approx((2.0 - value) / 2.0)


def test_sums_of_many_pixels_lose_none() -> None:
    """In float32 a count stands still at 2^24."""
    labels = np.ones((1, 2048, 2048), np.float32)
    predictions = labels[..., None].copy()
    metric = task_of(labels[:, :2, :2]).metrics()[0]
    for _ in range(5):
        metric.update_state(labels, predictions)
    metric.update_state(labels[:, :1, :1], 9.0 * predictions[:, :1, :1])
    assert number(metric.count) == 5 * 2**22 + 1
    assert number(metric.result()) == 5 * 2**22 / (5 * 2**22 + 1)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_all_is_computed_in_float32(dtype: str) -> None:
    labels, predictions = maps()
    low = keras.ops.cast(predictions, dtype)
    rounded = keras.ops.convert_to_numpy(keras.ops.cast(low, "float32"))
    task = task_of(labels)
    wanted = by_loops(labels, rounded)
    assert number(task.loss()(labels, low)) == pytest.approx(wanted.pop("loss"), rel=1e-5)
    assert measured(task, labels, low, 3) == pytest.approx(wanted, rel=1e-5)


def test_integers_are_depths_too_and_come_back() -> None:
    labels = np.array([[[800, 0], [65535, 4001]]], np.uint16)
    task = task_of(labels, ignore=65535)
    outputs = np.array([[[[900.0], [3.0]], [[5.0], [4000.4]]]], np.float32)
    assert number(task.loss()(labels, outputs)) == pytest.approx((100.0 + 0.6) / 2, rel=1e-4)
    assert task.decode(outputs).tolist() == [[[900, 3], [5, 4000]]]
    far = task.decode(np.full((1, 2, 2, 1), 1e9, np.float32))
    assert far.dtype == np.uint16 and (far == 65535).all()
    assert (task.decode(np.full((1, 2, 2, 1), -5.0, np.float32)) == 0).all()


def test_strata_are_quarters_by_mean_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK_BYTES", 1)
    order = np.random.default_rng(0).permutation(40)
    labels = np.zeros((40, 2, 3), np.float32)
    labels[:, 0] = (order + 1.5)[:, None]
    labels[:, 1, 0] = np.nan
    assert task_of(labels).strata(labels).tolist() == (order // 10).tolist()


def test_soft_targets_are_depths_and_zeros() -> None:
    labels, _ = maps()
    soft = keras.ops.convert_to_numpy(task_of(labels).soften(labels, 0.0))
    known = np.isfinite(labels) & (labels > 0)
    np.testing.assert_array_equal(soft[..., 0], np.where(known, labels, 0.0).astype(np.float32))


def shrunk(masks: np.ndarray) -> np.ndarray:
    """Masks at half size, by interpolation."""
    return (masks[:, ::2, ::2] + masks[:, 1::2, ::2]) / 2.0


BITS = (np.arange(24 * 64).reshape(24, 8, 8) // 29) % 2
METRES = np.random.default_rng(0).uniform(0.5, 5.0, (24, 8, 8)).astype(np.float32)


@pytest.mark.parametrize(
    ("labels", "changes", "found"),
    [
        (METRES, {}, True),
        (np.where(METRES > 2.0, METRES, 0.0), {}, True),
        (np.where(METRES > 2.0, METRES, np.nan), {}, True),
        (METRES, {"activation": "softplus"}, True),
        (METRES, {"logits": False, "activation": "sigmoid"}, False),
        (METRES, {"loss": "binary"}, False),
        (METRES / 5.0, {}, False),  # from 0 to 1, as soft masks are
        (METRES / 5.0, {"activation": "depth"}, True),
        (np.round(1000 * METRES), {}, False),  # whole numbers
        (np.round(1000 * METRES).astype(np.uint16), {}, False),
        (np.round(1000 * METRES).astype(np.uint16), {"activation": "depth"}, True),
        (BITS.astype(np.float32), {}, False),
        (255.0 * BITS, {}, False),
        (shrunk(255.0 * BITS), {}, False),
        (np.zeros((24, 8, 8), np.float32), {}, False),
        (np.where(METRES > 2.0, METRES, 255.0), {"ignore": 255}, True),
    ],
)
def test_what_is_taken_for_depth(labels: Any, changes: dict[str, Any], found: bool) -> None:
    evidence = evidence_of(labels, **changes)
    assert choose(evidence).name == ("depth" if found else "semantic_segmentation")
    if "loss" not in changes:
        limits = {"output_range": None}
        assert choose(dataclasses.replace(evidence, **limits), "depth").name == "depth"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"output_shape": (8, 8, 3)}, "one output for each pixel"),
        ({"output_shape": (4, 4, 1)}, "differ in size"),
        ({"output_shape": (1,)}, "does not fit"),
        ({"label_shape": (8, 8, 3)}, "does not fit"),
        ({"label_shape": ()}, "does not fit"),
        ({"image_shape": (16, 16, 3)}, "differ in size"),
        ({"loss": "binary"}, "cross-entropy"),
        ({"activation": "sigmoid", "output_range": (0.0, 1.0)}, "beyond what the model can give"),
        ({"activation": "depth", "output_range": (100.0, 8000.0)}, "100 to 8000"),
    ],
)
def test_what_cannot_be_depth_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(EtudeError, match=says) as caught:
        choose(evidence_of(METRES, **changes), "depth")
    assert isinstance(caught.value, DataError | ModelError) and "What to do" in str(caught.value)


def test_a_few_depths_out_of_reach_are_told() -> None:
    reach = {"activation": "depth", "output_range": (0.5, 4.5)}
    share = float((METRES > 4.5).mean())
    (said,) = task_of(METRES, **reach).remarks()
    assert f"{share:.0%} of the depths" in said and "0.5 to 4.5" in said
    assert task_of(METRES, activation="depth", output_range=(0.1, 9.0)).remarks() == []


def test_depth_has_no_classes() -> None:
    task = task_of(METRES)
    assert task.classes() is None and task.counts(METRES).shape == (0,)
    with pytest.raises(DataError, match="no classes"):
        task.class_weights(METRES, {0: 1.0})
    with pytest.raises(DataError, match="bool"):
        task.check_labels(METRES > 1, 0, "train")
    assert task.empty(np.where(np.arange(24)[:, None, None] < 5, 0, METRES)).sum() == 5
