"""Figures show the numbers that they were given: read back from what was drawn."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
import warnings
import xml.etree.ElementTree as ET
from typing import Any

import matplotlib
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.text import Text

from etude.findings import Finding
from etude.report import figures
from etude.report.figures import _canvas, _numbers, batch_size

from ..fresh import modules_after
from . import evidence

DRAWN = {
    **{finding.learner: finding for finding in evidence.findings()},
    "learning_rate, twice": evidence.learning_rate_twice(),
    "batch_size, open": evidence.batch_size(None),
    "descent, long": evidence.descent(16),
}


def labelled(axes: Any, label: str) -> list[Any]:
    """Lines of a panel by the label that they were drawn with."""
    return [line for line in axes.lines if line.get_label() == label]


def point_of(line: Any) -> tuple[float, float]:
    (x,), (y,) = line.get_data()
    return float(x), float(y)


def point(axes: Any, label: str) -> tuple[float, float]:
    (line,) = labelled(axes, label)
    return point_of(line)


def title(figure: Any) -> str:
    return str(figure.texts[0].get_text())


def with_evidence(finding: Finding, **changes: Any) -> Finding:
    return dataclasses.replace(finding, evidence={**finding.evidence, **changes})


# -- Learning rate ---------------------------------------------------------------------


def smoothed_by_hand(rates: list[float], losses: list[float], place: int) -> float:
    """Mean of the losses by a Gaussian of 0.2 decades, cut where they explode."""
    tenth = sorted(losses[: len(losses) // 10])
    middle = len(tenth) // 2
    start = tenth[middle] if len(tenth) % 2 else (tenth[middle - 1] + tenth[middle]) / 2
    ceiling = 2 * start - min(losses)
    total = weights = 0.0
    for rate, loss in zip(rates, losses, strict=True):
        weight = math.exp(-0.5 * (math.log10(rate / rates[place]) / 0.2) ** 2)
        total, weights = total + weight * min(loss, ceiling), weights + weight
    return total / weights


def test_the_chosen_rate_is_marked_on_the_smoothed_loss() -> None:
    finding = evidence.learning_rate()
    (axes,) = figures.draw(finding).axes
    rate, height = point(axes, "chosen")
    assert rate == 0.031
    test = finding.evidence["tests"][0]
    rates, losses = test["rates"], test["losses"]
    below = max(i for i, other in enumerate(rates) if other <= rate)
    left, right = (smoothed_by_hand(rates, losses, i) for i in (below, below + 1))
    share = (rate - rates[below]) / (rates[below + 1] - rates[below])
    assert height == pytest.approx(left + share * (right - left), rel=1e-9)
    (raw,) = labelled(axes, "raw")
    assert list(raw.get_xdata()) == rates and list(raw.get_ydata()) == losses
    assert axes.get_xscale() == "log"


def test_places_of_the_curve_are_marked() -> None:
    finding = evidence.learning_rate()
    (axes,) = figures.draw(finding).axes
    found = finding.evidence["tests"][0]["found"]
    for name, label in (
        ("steepest", "steepest"),
        ("minimum", "lowest"),
        ("divergence", "diverged"),
    ):
        (line,) = labelled(axes, f"mark: {label}")
        assert list(line.get_xdata()) == [found[name]] * 2


def test_each_test_and_the_tried_rates_have_a_panel() -> None:
    finding = evidence.learning_rate_twice()
    first, second, tried = figures.draw(finding).axes
    assert labelled(first, "chosen") == []  # it tells nothing
    assert point(second, "chosen")[0] == 0.062
    assert [point_of(line) for line in labelled(tried, "tried")] == [
        (row["rate"], row["score"]) for row in finding.evidence["confirmed"]
    ]


@pytest.mark.parametrize(
    ("changes", "more", "said"),
    [
        ({"learning_rate": 0.031}, {}, "Peak rate 0.031: half the rate of the lowest loss"),
        ({"learning_rate": 0.0207}, {}, "Peak rate 0.0207: a third of the rate of the lowest loss"),
        ({"learning_rate": 0.0155}, {}, "Peak rate 0.0155: a quarter of the rate of the lowest"),
        ({"learning_rate": 0.0496}, {}, "Peak rate 0.0496: 0.8 times the rate of the lowest loss"),
        ({}, {}, "The peak rate stays as it was: the range test shows no rate to trust"),
        (
            {"learning_rate": 0.044},
            {"carried": {"from_batch": 64, "to_batch": 128, "rate": 0.044}},
            "Peak rate 0.044: carried from a batch of 64 over to one of 128",
        ),
    ],
)
def test_the_title_says_what_was_found(
    changes: dict[str, float], more: dict[str, Any], said: str
) -> None:
    finding = dataclasses.replace(with_evidence(evidence.learning_rate(), **more), changes=changes)
    figure = figures.draw(finding)
    assert title(figure).replace("\n", " ").startswith(said)
    if "carried" in more:  # the rate that was read stands beside the one that is used
        assert point(figure.axes[0], "chosen")[0] == 0.044
        assert len(labelled(figure.axes[0], "mark: read 0.031")) == 1


# -- Batch size ------------------------------------------------------------------------


@pytest.mark.parametrize("high", [410.0, None])
def test_the_band_is_what_the_noise_scales_ends_predict(high: float | None) -> None:
    finding = evidence.batch_size(high)
    sizes, seconds = finding.evidence["batch_sizes"], finding.evidence["step_seconds"]
    axes = figures.draw(finding).axes[0]
    (band,) = [area for area in axes.collections if area.get_label() == "band"]
    vertices: Any = band.get_paths()[0].vertices
    corners = {(round(x), float(y)) for x, y in vertices}
    for size, second in zip(sizes, seconds, strict=True):
        expected = []
        for noise in (120.0, 1e15 if high is None else high):  # as good as infinite
            own = (1 + noise / 64) * seconds[sizes.index(64)]
            expected.append((1 + noise / size) * second / own)
        drawn = sorted(y for x, y in corners if x == size)
        assert [drawn[0], drawn[-1]] == pytest.approx(sorted(expected), rel=1e-9), size


def test_a_band_needs_its_own_size() -> None:
    assert batch_size.band([16.0, 32.0], [1.0, 2.0], 64.0, 10.0, 20.0) == ([], [])
    assert batch_size.band([16.0, 32.0], [math.nan, 2.0], 16.0, 10.0, 20.0) == ([], [])


def test_the_chosen_batch_and_the_noise_scale_are_marked() -> None:
    finding = evidence.batch_size()
    time, strip, step, pace = figures.draw(finding).axes
    place = finding.evidence["batch_sizes"].index(256)
    assert point(time, "chosen") == (256, finding.evidence["relative_time"][place])
    assert point(strip, "noise scale")[0] == 210
    assert sorted(float(line.get_xdata()[0]) for line in labelled(strip, "end")) == [120, 410]
    assert labelled(strip, "open") == []
    seconds = finding.evidence["step_seconds"][place]
    assert point(step, "chosen") == pytest.approx((256, 1000 * seconds))
    assert point(pace, "chosen") == pytest.approx((256, 256 / seconds))
    assert time.get_xlim() == strip.get_xlim()


def test_an_interval_without_an_upper_end_leaves_the_axis() -> None:
    strip = figures.draw(evidence.batch_size(None)).axes[1]
    (arrow,) = labelled(strip, "open")
    assert arrow.get_marker() == ">" and arrow.get_xdata()[0] == strip.get_xlim()[1]
    drowned = {"value": None, "low": 300.0, "high": None}
    strip = figures.draw(with_evidence(evidence.batch_size(), noise_scale=drowned)).axes[1]
    assert labelled(strip, "noise scale") == []
    assert "above 300" in strip.texts[0].get_text()


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        (256, "A batch of 256 promises the same loss in 32 % less time than 64"),
        (16, "A batch of 16 promises the same loss in 181 % more time than 64"),
        (64, "The batch stays at 64: no other promises to be clearly faster"),
    ],
)
def test_the_title_of_the_batch_size(chosen: int, said: str) -> None:
    assert title(figures.draw(with_evidence(evidence.batch_size(), chosen=chosen))) == said


# -- Compute ---------------------------------------------------------------------------


def test_every_variant_has_a_bar_as_long_as_it_is_fast() -> None:
    finding = evidence.compute()
    bars, cost = figures.draw(finding).axes
    paces = [variant["samples_per_second"] or 0.0 for variant in finding.evidence["variants"]]
    assert [bar.get_width() for bar in bars.patches] == paces
    colours = [to_hex(bar.get_facecolor()) for bar in bars.patches]
    assert colours == [_canvas.BLUE if i == 3 else _canvas.IDLE for i in range(6)]
    for words, seconds in (("training step", "step_seconds"), ("forward pass", "forward_seconds")):
        (line,) = labelled(cost, words)
        assert list(line.get_xdata()) == finding.evidence["batch_sizes"]
        expected = [1000 * second for second in finding.evidence[seconds]]
        assert list(line.get_ydata()) == pytest.approx(expected)
    assert labelled(cost, "mark: trains to 512") and labelled(cost, "mark: evaluates to 2,048")
    assert (cost.get_xscale(), cost.get_yscale()) == ("log", "log")


def test_variants_alone_and_costs_alone() -> None:
    whole = evidence.compute().evidence
    for keys, panels in ((("variants", "chosen"), 1), (("batch_sizes", "step_seconds"), 1)):
        part = {key: whole[key] for key in keys}
        finding = dataclasses.replace(evidence.compute(), evidence=part)
        assert len(figures.draw(finding).axes) == panels


# -- Optimizer, descent, length --------------------------------------------------------


def test_the_race_shows_a_curve_and_a_score_for_each() -> None:
    finding = evidence.optimizer()
    losses, scores = figures.draw(finding).axes
    race = finding.evidence["race"]
    for row in race:
        (line,) = labelled(losses, row["optimizer"])
        x, y = line.get_data()
        assert list(x) == list(range(1, 121))
        # Smoothing keeps what does not change: in the middle, the mean of near neighbours.
        near = row["losses"][88:112]
        assert y[99] == pytest.approx(sum(near) / len(near), abs=0.06)
    marked = [point_of(line) for line in labelled(scores, "score")]
    assert marked == [(row["score"], place) for place, row in enumerate(race)]
    spans = {
        (min(line.get_xdata()), max(line.get_xdata()))
        for line in scores.lines
        if len(line.get_xdata()) == 2 and line.get_xdata()[0] != line.get_xdata()[1]
    }
    expected = {(r["score"] - r["error"], r["score"] + r["error"]) for r in race if r["error"]}
    assert spans == expected
    assert title(losses.figure) == "lamb has the least loss of 4 optimizers"
    tie = with_evidence(evidence.optimizer(), chosen="adam")
    assert title(figures.draw(tie)) == "adam is taken; lamb's loss is less, but not beyond doubt"


def test_a_run_that_diverges_does_not_press_the_others_flat() -> None:
    race = [dict(row) for row in evidence.optimizer().evidence["race"]]
    race[1]["losses"] = [20.0 * 1.3**i for i in range(40)]
    losses, _ = figures.draw(with_evidence(evidence.optimizer(), race=race)).axes
    others = [row["losses"][0] for row in (race[0], race[2], race[3])]
    assert losses.get_ylim()[1] < 2 * max(others)


def test_kept_trials_are_filled_and_joined() -> None:
    finding = evidence.descent()
    failed = figures.draw(dataclasses.replace(finding, changes={}))
    assert "did not hold in another order" in title(failed)
    (axes,) = figures.draw(finding).axes
    trials = finding.evidence["trials"]
    places = {
        (kept, place, trial["score"])
        for place, trial in enumerate(trials)
        if trial["score"] is not None
        for kept in [trial["kept"]]
    }
    drawn = {
        (line.get_markerfacecolor() != _canvas.PAPER, *point_of(line))
        for name in ("kept", "dropped")
        for line in labelled(axes, name)
    }
    assert drawn == places
    (held,) = labelled(axes, "held")
    kept = [(i, t["score"]) for i, t in enumerate(trials) if t["kept"]]
    assert list(zip(*held.get_data(), strict=True))[:-1] == kept
    names = [label.get_text().replace("\n", " ") for label in axes.get_xticklabels()]
    assert names[:4] == ["start", "momentum 0.95", "momentum 0.98", "weight decay 0.0005"]
    assert title(axes.figure).startswith("3 of 8 changes kept: momentum 0.95")


def test_the_search_is_a_tree_of_losses() -> None:
    finding = evidence.augmentation()
    tree, samples, sheet, table = figures.draw(finding).axes
    trials = finding.evidence["trials"]
    order = [0, 1, 3, 4, 2]  # each below the one that it was compared with
    drawn = {
        (name, *point_of(line))
        for name in ("adopted", "not better")
        for line in labelled(tree, name)
    }
    assert drawn == {
        ("adopted" if trials[k]["adopted"] else "not better", trials[k]["score"], place)
        for place, k in enumerate(order)
    }
    assert [t.get_text() for t in tree.texts] == [trials[k]["told"] for k in order]
    indents = [t.get_position()[0] for t in tree.texts]
    assert indents[0] < indents[1] == indents[4] < indents[2] == indents[3]
    (shown,), (thumbnails,) = samples.images, sheet.images
    assert shown.get_array().shape == (32, 64, 3)
    assert thumbnails.get_array().shape == (16, 24, 3)
    assert title(tree.figure) == "Of 4 policies mirrored, colour 3, cutmix is kept"
    # Rows of numbers, and a shade for every rung of a group: two of one, one of the other.
    words = [t.get_text() for t in table.texts]
    assert words[1:8] == ["rotation", "0", "0.1", "0.2", "0.4", "1.2", "3.1"]
    assert words[8:] == ["hue", "0", "0.01", "0.1", "0.31", "0.7", "0.9"]
    shades = [patch.get_facecolor() for patch in table.patches]
    assert shades[0] == shades[1] != shades[2]
    places = [(patch.get_x() // 1, patch.get_y() // 1) for patch in table.patches]
    assert places == [(3, 0), (3, 1), (5, 1)]
    off = dataclasses.replace(with_evidence(finding, chosen=0), changes={})
    assert title(figures.draw(off)).startswith("Images stay as they are: none of 4")


def test_of_many_trials_the_first_are_shown_and_those_that_led_to_the_chosen() -> None:
    finding = evidence.augmentation()
    trials = [dict(trial) for trial in finding.evidence["trials"]]
    trials += [{**trials[0], "told": f"no {k}", "base": 0, "adopted": False} for k in range(60)]
    trials[50] |= {"told": "first", "base": 4}
    trials[60] |= {"told": "second", "base": 50}
    figure = figures.draw(with_evidence(finding, trials=trials, chosen=60))
    told = [t.get_text() for t in figure.axes[0].texts]
    assert len(told) == 42
    assert told.index("second") == told.index("first") + 1
    assert title(figure) == "Of 64 policies second is kept"


def test_pictures_that_are_none_are_left_out() -> None:
    finding = with_evidence(evidence.augmentation(), pictures={"sheet": "?", "samples": "bm9uZQ=="})
    assert len(figures.draw(finding).axes) == 2


def test_tau_stands_beside_the_threshold_above_which_sampling_pays() -> None:
    finding = evidence.sampling()
    left, right = figures.draw(finding).axes
    (taus, threshold, *_) = left.lines
    assert taus.get_ydata().tolist() == finding.evidence["taus"]
    assert list(threshold.get_ydata()) == [finding.evidence["threshold"]] * 2
    speed_ups = finding.evidence["speed_ups"]
    drawn = {
        (name, *point_of(line))
        for name in ("adopted", "not adopted")
        for line in labelled(right, name)
    }
    assert drawn == {
        ("adopted" if key == "4.0" else "not adopted", float(key), value)
        for key, value in speed_ups.items()
    }
    assert "1.21 times as fast" in title(left.figure)
    off = dataclasses.replace(finding, changes={})
    assert title(figures.draw(off)).startswith("Samples are drawn evenly")


def test_each_trial_stands_with_what_may_be_chance() -> None:
    finding = evidence.unlabeled_use()
    differences, scores = figures.draw(finding).axes
    rows = finding.evidence["arms"]
    tried = [row for row in rows if "difference" in row]
    (other,), kept = labelled(differences, "not adopted"), labelled(differences, "adopted")
    assert point_of(other)[1] == tried[0]["difference"] == 0.04
    assert [point_of(line)[1] for line in kept] == [row["difference"] for row in tried[1:]]
    bars = [line for line in differences.lines if len(line.get_xdata()) == 2][:3]
    for bar, row in zip(bars, tried, strict=True):
        reach = row["bound"] * row["error"]
        low, high = row["difference"] - reach, row["difference"] + reach
        assert list(bar.get_ydata()) == pytest.approx([low, high])
    drawn = [point_of(line)[1] for line in scores.lines]
    assert drawn == [row["score"] for row in rows]
    nothing = dataclasses.replace(finding, changes={})
    assert title(figures.draw(nothing)).endswith("no gain")


def test_distances_stand_beside_those_by_chance_and_forms_by_what_they_change() -> None:
    finding = evidence.unlabeled()
    left, right = figures.draw(finding).axes
    usual, far = left.lines[:2]
    gaps = finding.evidence["gaps"].values()
    assert far.get_ydata().tolist() == [gap["wasserstein"] for gap in gaps]
    assert usual.get_ydata().tolist() == [gap["control"] for gap in gaps]
    drawn = {
        name: [point_of(line)[1] for line in labelled(right, name)]
        for name in ("adopted", "not adopted")
    }
    assert drawn == {"adopted": [-0.08], "not adopted": [0.02]}
    assert title(left.figure).endswith("statistics: straight through")
    off = dataclasses.replace(finding, changes={})
    assert title(figures.draw(off)).endswith("it would not help")


def test_what_choosing_samples_did_is_shown_beside_what_was_promised() -> None:
    finding = evidence.sampled()
    course, scores, draws, most, least = figures.draw(finding).axes
    (taus,), (threshold,) = labelled(course, "τ"), labelled(course, "threshold")
    assert taus.get_xdata().tolist() == [1.0, 2.0, 3.0, 3.5]
    assert taus.get_ydata().tolist() == [1.2, 2.1, 3.0, 3.3]
    assert list(threshold.get_ydata()) == [1.8, 1.8]
    shaded = [(p.get_x(), p.get_width(), p.get_alpha()) for p in course.patches]
    assert shaded == [
        (1.0, 1.0, pytest.approx(0.03)), (2.0, 1.0, pytest.approx(0.12)),
        (3.0, 0.5, pytest.approx(0.12)),
    ]  # fmt: skip
    values, edges, _ = scores.patches[0].get_data()
    assert (list(values), list(edges)) == ([40, 12, 3], [0.01, 0.1, 0.5, 1.2])
    bars = {(p.get_x() + p.get_width() / 2, p.get_height()) for p in draws.patches}
    assert bars == {(0.0, 30.0), (1.0, 16.0), (2.0, 8.0), (5.0, 1.0)}
    assert [axes.texts[0].get_text() for axes in (most, least)] == [
        "drawn most: 2 to 5 times", "drawn least: 0 times",
    ]  # fmt: skip
    assert most.images[0].get_array().shape == least.images[0].get_array().shape == (40, 120, 3)
    assert title(course.figure) == (
        "Samples chosen in 56 % of the steps: worth 1.17 of their cost (1.21 predicted)"
    )
    stream = with_evidence(finding, pictures=None, draws=None, promised=None)
    assert len(figures.draw(stream).axes) == 3


def test_shares_fill_the_bar() -> None:
    finding = evidence.length()
    (axes,) = figures.draw(finding).axes
    shares = finding.evidence["shares"]
    widths = [bar.get_width() for bar in axes.patches]
    assert widths == pytest.approx([share / 588 for share in shares.values()])
    edges = list(itertools.accumulate(widths))
    assert [bar.get_x() for bar in axes.patches[1:]] == pytest.approx(edges[:-1])
    told = " ".join(text.get_text() for text in axes.texts)
    assert "training 7 min 31 s, 77 %" in told
    of_one = {name: share / 588 for name, share in shares.items()}
    (again,) = figures.draw(with_evidence(finding, shares=of_one)).axes
    assert [text.get_text() for text in again.texts] == [text.get_text() for text in axes.texts]


# -- Course and ledger -----------------------------------------------------------------


def test_the_course_shows_the_history_and_its_best() -> None:
    history = evidence.history()
    loss, metric, rate = figures.course(history, "val_accuracy", "max").axes
    for axes, names in ((loss, ("loss", "val_loss")), (metric, ("accuracy", "val_accuracy")),
                        (rate, ("learning_rate",))):  # fmt: skip
        for name in names:
            (line,) = labelled(axes, name)
            assert list(line.get_xdata()) == history["epoch"]
            assert list(line.get_ydata()) == history[name]
    best = 0
    for place, value in enumerate(history["val_accuracy"]):
        if value > history["val_accuracy"][best]:
            best = place
    assert point(metric, "best") == (history["epoch"][best], history["val_accuracy"][best])
    assert labelled(loss, "best") == []


def test_the_course_shows_how_the_noise_scale_grows() -> None:
    """On its own logarithmic panel; segments that do not tell it are passed over."""
    history = evidence.history(4) | {"noise_scale": [200.0, math.nan, 0.0, 20_000.0]}
    _, _, noise, rate = figures.course(history, "val_accuracy", "max").axes
    (line,) = labelled(noise, "noise_scale")
    assert list(line.get_xdata()) == [0.5, 2.0]
    assert list(line.get_ydata()) == [200.0, 20_000.0]
    assert noise.get_yscale() == "log"
    assert labelled(rate, "learning_rate")
    one = history | {"noise_scale": [200.0, math.nan, math.nan, math.nan]}
    assert len(figures.course(one, "val_accuracy", "max").axes) == 3


def test_the_course_marks_the_weights_that_are_returned() -> None:
    history = evidence.history()
    figure = figures.course(history, "val_accuracy", "max", history["epoch"][2])
    axes = figure.axes[1]
    assert point(axes, "returned") == (history["epoch"][2], history["val_accuracy"][2])
    assert labelled(axes, "best") == []
    assert "Weights of epoch" in figure.texts[0].get_text()
    (none,) = [f.axes[1] for f in [figures.course(history, "val_accuracy", "max", 1e6)]]
    assert labelled(none, "best") == labelled(none, "returned") == []


def test_of_a_loss_the_least_is_best() -> None:
    history = {"epoch": [1.0, 2.0, 3.0], "loss": [3.0, 2.0, 1.0], "val_loss": [3.0, 1.5, 1.75]}
    (axes,) = figures.course(history).axes
    assert point(axes, "best") == (2.0, 1.5)


def test_segments_without_evaluation_are_passed_over() -> None:
    history = {"epoch": [1.0, 2.0, 3.0], "loss": [3.0, 2.0, 1.0], "val_loss": [2.5, math.nan, 1.5]}
    (axes,) = figures.course(history).axes
    (line,) = labelled(axes, "val_loss")
    assert list(line.get_xdata()) == [1.0, 3.0]


def test_one_explosion_does_not_press_the_course_flat() -> None:
    history = {"loss": [2.0 - 0.05 * i for i in range(20)]}
    history["loss"][3] = 1e6
    (axes,) = figures.course(history).axes
    assert axes.get_ylim()[1] < 3


def test_the_ledger_has_bars_as_long_as_its_seconds() -> None:
    (axes,) = figures.costs(evidence.COSTS).axes
    bars: dict[str, list[float]] = {"predicted": [], "true": [], "true, not predicted": []}
    shades = {}
    for container in axes.containers:
        (bar,) = container
        bars[container.get_label()].append(bar.get_width())
        shades[container.get_label()] = to_hex(bar.get_facecolor())
    known = [row for row in evidence.COSTS if row["predicted"] is not None]
    assert bars["predicted"] == [row["predicted"] for row in known]
    assert bars["true"] == [row["true"] for row in known]
    rest = [row["true"] for row in evidence.COSTS if row["predicted"] is None]
    assert bars["true, not predicted"] == rest
    assert len(set(shades.values())) == 3
    ratio = (6.4 + 7.7 + 472.2 + 44.0) / (5.8 + 9.1 + 451.0 + 51.0)
    assert title(axes.figure) == (
        f"9 min 12 s in all; the predicted parts took {ratio:.2f} times their prediction"
    )


def test_what_there_is_nothing_of_is_not_drawn() -> None:
    skipped = dataclasses.replace(evidence.learning_rate(), evidence={})
    assert figures.draw(skipped) is None
    assert figures.draw(dataclasses.replace(skipped, learner="unheard_of")) is None
    assert figures.course({}) is None and figures.course({"epoch": [1.0]}) is None
    assert figures.costs([]) is None
    assert figures.costs([{"part": "x", "predicted": None, "true": None}]) is None


# -- All of them -----------------------------------------------------------------------


def every_figure() -> dict[str, Any]:
    drawn: dict[str, Any] = {name: figures.draw(finding) for name, finding in DRAWN.items()}
    drawn["course"] = figures.course(evidence.history(), "val_accuracy", "max")
    drawn["costs"] = figures.costs(evidence.COSTS)
    return drawn


def test_no_text_lies_on_another_or_beyond_the_edge() -> None:
    for name, figure in every_figure().items():
        canvas = FigureCanvasAgg(figure)
        with _canvas.style():
            canvas.draw()
        boxes = []
        for text in figure.findobj(Text):
            if text.get_visible() and text.get_text().strip():
                boxes.append((text.get_text(), text.get_window_extent(canvas.get_renderer())))
        assert len(boxes) > 4
        width, height = canvas.get_width_height()
        for words, box in boxes:
            assert box.x0 > -1 and box.x1 < width + 1, (name, words)
            assert box.y0 > -1 and box.y1 < height + 1, (name, words)
        for (words, a), (others, b) in itertools.combinations(boxes, 2):
            beside = a.x1 <= b.x0 + 2 or b.x1 <= a.x0 + 2
            above = a.y1 <= b.y0 + 2 or b.y1 <= a.y0 + 2
            assert beside or above, (name, words, others)


def changed(item: Any, number: Any, length: int | None = None) -> Any:
    """Evidence with every number replaced, and every list cut to `length`."""
    if isinstance(item, dict):
        return {key: changed(value, number, length) for key, value in item.items()}
    if isinstance(item, list | tuple):
        return [changed(value, number, length) for value in item[:length]]
    if isinstance(item, int | float) and not isinstance(item, bool):
        return number(item)
    return item


TURNS = itertools.count()
FAULTS: dict[str, Any] = {
    "none": lambda x: None,
    "nan": lambda x: math.nan,
    "infinite": lambda x: math.inf,
    "zero": lambda x: 0,
    "equal": lambda x: 0.5,
    "negative": lambda x: -x,
    "huge": lambda x: x * 1e300,
    "tiny": lambda x: x * 1e-300,
    "nearly equal": lambda x: 1.0 + 1e-13 * x,
    "every other": lambda x: x if next(TURNS) % 2 else None,
}


@pytest.mark.parametrize("fault", [*FAULTS, 0, 1, 2])
def test_corrupt_numbers_are_drawn_as_far_as_they_go(fault: str | int) -> None:
    number = (lambda x: x) if isinstance(fault, int) else FAULTS[fault]
    length = fault if isinstance(fault, int) else None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = []
        for finding in evidence.findings():
            found = changed(finding.evidence, number, length)
            drawn.append(figures.draw(dataclasses.replace(finding, evidence=found)))
        drawn.append(figures.course(changed(evidence.history(), number, length), "val_accuracy"))
        drawn.append(figures.costs(changed(evidence.COSTS, number, length)))
        for figure in drawn:
            if figure is not None:
                assert _canvas.png(figure).startswith(b"\x89PNG")
                ET.fromstring(_canvas.svg(figure))
    if fault == 0:
        assert sum(figure is not None for figure in drawn) <= 1  # the shares are no list
    elif fault == "every other":
        assert None not in drawn


# Without these nothing is left to draw.
NEEDED: dict[str, set[tuple[Any, ...]]] = {
    "batch_size": {("batch_sizes",)},
    "learning_rate": {("tests",), ("tests", 0, "rates")},
    "optimizer": {("race",)},
    "augmentation": {("trials",)},
    "descent": {("trials",)},
    "sampling": {("taus",), ("speed_ups",)},
    "sampled": {("epochs",), ("taus",)},
    "unlabeled": {("gaps",), ("forms",)},
    "unlabeled_use": {("arms",)},
    "length": {("shares",)},
}


@pytest.mark.parametrize("learner", figures.FIGURES)
def test_keys_may_be_absent(learner: str) -> None:
    finding = DRAWN[learner]

    def without(item: Any, path: tuple[Any, ...]) -> Any:
        first, *rest = path
        if isinstance(item, list):
            return [without(x, tuple(rest)) if i == first else x for i, x in enumerate(item)]
        if not rest:
            return {key: value for key, value in item.items() if key != first}
        return {k: without(v, tuple(rest)) if k == first else v for k, v in item.items()}

    def keys(item: Any, path: tuple[Any, ...] = ()) -> Any:
        if isinstance(item, dict):
            for key, value in item.items():
                yield (*path, key)
                yield from keys(value, (*path, key))
        elif isinstance(item, list):
            for place, value in enumerate(item[:1]):
                yield from keys(value, (*path, place))

    nothing = set()
    for path in keys(finding.evidence):
        lacking = without(finding.evidence, path)
        figure = figures.draw(dataclasses.replace(finding, evidence=lacking))
        if figure is None:
            nothing.add(path)
            continue
        words = [text.get_text() for text in figure.findobj(Text)]
        assert any(words)
        assert not re.search(r"\b(None|nan|inf)\b", "\n".join(words)), path
    assert nothing == NEEDED.get(learner, set())


def test_the_same_evidence_gives_the_same_files_whatever_the_program_has_set() -> None:
    first = figures.draw(evidence.batch_size())
    plain = (_canvas.png(first), _canvas.svg(first))
    loud = {"lines.linewidth": 9, "text.usetex": True, "axes.facecolor": "red", "font.size": 30,
            "figure.constrained_layout.use": True, "svg.fonttype": "path"}  # fmt: skip
    with matplotlib.rc_context(loud):
        before = dict(matplotlib.rcParams)
        again = figures.draw(evidence.batch_size())
        assert (_canvas.png(again), _canvas.svg(again)) == plain
        assert dict(matplotlib.rcParams) == before
    assert "<dc:date>" not in plain[1]


def test_neither_a_display_nor_global_figures_are_touched() -> None:
    code = "from etude.report import figures"
    assert "matplotlib" not in modules_after(code)
    drawn = modules_after(f"{code}; figures.costs([{{'part': 'x', 'predicted': 1, 'true': 2}}])")
    assert "matplotlib" in drawn
    assert "matplotlib.pyplot" not in drawn  # which keeps figures, and wants a display


def test_dollars_are_no_formula() -> None:
    rows = [{"part": "a $cheap$ part_1", "predicted": 1.0, "true": 2.0}]
    assert ">a $cheap$ part 1</text>" in _canvas.svg(figures.costs(rows))


# -- Numbers ---------------------------------------------------------------------------


def test_spread_moves_no_more_than_needed() -> None:
    assert _numbers.spread([0.0, 5.0, 9.0], 2.0) == [0.0, 5.0, 9.0]
    assert _numbers.spread([1.0, 1.0], 2.0) == [0.0, 2.0]
    # The pair moves apart and meets the third: all three around their mean of 2.
    assert _numbers.spread([3.0, 1.0, 2.0], 2.0) == [4.0, 0.0, 2.0]
    assert _numbers.spread([], 1.0) == []


def test_rows_keep_spans_apart() -> None:
    assert _numbers.rows([(0, 2), (1, 3), (2.5, 4), (0, 1)], 0.1) == [0, 1, 0, 2]


def test_ticks_of_a_logarithmic_axis_are_round() -> None:
    assert _numbers.log_ticks(0.001, 1.0, 4) == pytest.approx([0.001, 0.01, 0.1, 1])
    assert _numbers.log_ticks(0.02, 0.3, 7) == pytest.approx([0.02, 0.05, 0.1, 0.2])
    assert len(_numbers.log_ticks(1e-12, 1e12, 5)) <= 5


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.001, "0.001"), (1e-5, "1e-5"), (0.30000000000000004, "0.3"), (50_000, "50,000"),
     (2.5e7, "2.5e7"), (0.0, "0"), (-0.25, "-0.25"), (math.nan, "–"), (100.0, "100")],
)  # fmt: skip
def test_labels_of_ticks(value: float, expected: str) -> None:
    assert _numbers.label(value) == expected


def test_thinning_keeps_the_ends_of_a_line_and_its_mean() -> None:
    x = [float(i) for i in range(1000)]
    thin_x, thin_y = _numbers.thin(x, [2 * a for a in x], 100)
    assert len(thin_x) == 100
    assert sum(thin_x) / 100 == pytest.approx(sum(x) / 1000)
    assert thin_y == pytest.approx([2 * a for a in thin_x])
    assert _numbers.thin([1.0], [2.0]) == ([1.0], [2.0])
