"""The search for an augmentation: what it adopts of made-up losses, and labels it could destroy."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
import zlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from etude.augment.policy import Policy
from etude.budget import Budget, CostModel
from etude.findings import Finding
from etude.problem import Problem
from etude.recipe import Recipe
from etude.training.studio import Studio
from etude_metalearners import Augmentation, augmentation, candidates
from etude_metalearners._base import Planned
from etude_metalearners.distances import Ladders

from ..training import helpers

GIVEN = Recipe().give(compute={"batch_size": 16}, optimization={"learning_rate": 0.01})
COSTS = CostModel(step=0.1, evaluation=0.3, compile=2.0)
LONG = Planned(100_000, 1_000.0, COSTS, timed=True)
Loss = Callable[[Recipe], float]


def open_studio(stated: Recipe = GIVEN, count: int = 800) -> Studio:
    model = helpers.functional()
    x, y = helpers.images(count)
    return Studio(Problem.inspect(model, (x, y), seed=0), stated, budget=Budget(None))


def searched(
    monkeypatch: pytest.MonkeyPatch,
    first: Loss,
    second: Loss | None = None,
    stated: Recipe = GIVEN,
    planned: Planned = LONG,
) -> Finding:
    """What is found where each recipe's loss is what it is said to be, with noise of 0.01."""
    studio = open_studio(stated)

    class Thread:
        def join(self) -> None:
            pass

    def branch(recipe: Recipe, steps: int, *, order: int, **options: Any) -> Any:
        rng = np.random.default_rng([order, zlib.crc32(repr(recipe.augmentation).encode())])
        noise = 0.01 * rng.normal(size=100)
        # Their mean is what it is said to be: no outcome hangs on what the draws happen to be.
        return (second or first if order else first)(recipe) + noise - noise.mean()

    names = ("rotation", "brightness_up", "shear_x", "cutout")
    distances = np.array([(0.0, 0.1, 1.0, 10.0)] * 4)
    ladders = Ladders(names, (0.0, 20.0, 60.0, 100.0), distances, np.zeros((4, 4, 8, 8, 1)))
    # Nothing is trained, transformed or drawn.
    monkeypatch.setattr(studio, "branch", branch)
    monkeypatch.setattr(studio, "beyond", lambda *a: 0)
    monkeypatch.setattr(studio, "warmed", lambda *a, **k: contextlib.nullcontext())
    monkeypatch.setattr(augmentation.distances.Transformer, "prepare", lambda self: Thread())
    monkeypatch.setattr(augmentation.pictures, "made", lambda *a: {})
    monkeypatch.setattr(augmentation.distances, "measure", lambda *a, **k: ladders)
    return Augmentation().learn(studio, stated, planned)


def slots(recipe: Recipe) -> dict[str, Any]:
    return {slot.name: slot for slot in recipe.augmentation.policy.slots}


def test_what_helps_is_adopted_in_all_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    def loss(recipe: Recipe) -> float:
        found = slots(recipe)
        value = 1.0 - 0.2 * ("rotation" in found) - 0.1 * bool(recipe.augmentation.policy.mixes)
        value += 0.3 * ("mirror" in found) - 0.1 * recipe.regularization.label_smoothing
        if "geometry" in found:  # the middle of three groups is best
            value -= {20.0: 0.1, 60.0: 0.3, 100.0: 0.2}[found["geometry"].choices[0].high]
        return value

    finding = searched(monkeypatch, loss)
    changed = finding.apply(GIVEN)
    assert set(slots(changed)) == {"rotation", "geometry"}
    assert slots(changed)["geometry"].choices[0].high == 60.0
    assert changed.augmentation.policy.mixing.cutmix == 0.5
    assert changed.regularization.label_smoothing == 0.1
    assert changed.regularization.dropout == 1.0
    assert "is best" in finding.why
    chosen = finding.evidence["trials"][finding.evidence["chosen"]]
    assert chosen["adopted"]
    assert "cutmix" in chosen["told"]
    # As it is stored, and read again.
    again = Finding.from_dict(finding.to_dict())
    assert again.apply(GIVEN) == changed


def test_ties_stay_off(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = searched(monkeypatch, lambda recipe: 1.0)
    assert finding.changes == {}
    assert finding.evidence["chosen"] == 0
    assert "None of" in finding.why


def test_what_is_not_better_again_is_not_adopted(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = searched(
        monkeypatch,
        lambda recipe: 1.0 - 0.3 * bool(recipe.augmentation.policy.slots),
        lambda recipe: 1.0,
    )
    assert finding.changes == {}
    assert "not better again" in finding.why


def test_an_order_that_shows_less_is_outweighed_by_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """A difference of 0.003 is two of its standard errors, 0.01 √(2 / 100)."""
    finding = searched(
        monkeypatch,
        lambda recipe: 1.0 - 0.3 * ("mirror" in slots(recipe)),
        lambda recipe: 1.0 - 0.003 * ("mirror" in slots(recipe)),
    )
    heat, both = finding.evidence["second_heat"], finding.evidence["both_heats"]
    assert -2.8 < heat[0] / heat[1] < -1.0
    assert both[0] == pytest.approx(-0.303, abs=0.005)
    assert "mirror" in slots(finding.apply(GIVEN))


@pytest.mark.parametrize("again", [True, False])
def test_what_takes_the_place_of_the_usual_must_be_better_than_it_again(
    monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    def loss(recipe: Recipe) -> float:
        found = slots(recipe)
        return 1.0 - 0.2 * ("crop" in found) + 0.1 * ("mirror" in found)

    def other(recipe: Recipe) -> float:
        return loss(recipe) - 0.2 * ("mirror" in slots(recipe))

    finding = searched(monkeypatch, loss, loss if again else other)
    told = finding.evidence["trials"][finding.evidence["chosen"]]["told"]
    if again:
        assert told == "moved"
        assert "but not again" not in finding.why
        assert finding.evidence["second_heat"][0] == pytest.approx(-0.2, abs=0.01)
    else:
        assert told == "mirrored, moved"
        assert "Moved was better than that, but not again." in finding.why
        assert finding.evidence["second_heat"][0] == pytest.approx(-0.3, abs=0.01)


def test_what_is_added_to_the_usual_must_be_better_than_it_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def loss(recipe: Recipe) -> float:
        found = slots(recipe)
        return 1.0 - 0.2 * ("crop" in found) - 0.1 * ("rotation" in found)

    def other(recipe: Recipe) -> float:
        return loss(recipe) + 0.1 * ("rotation" in slots(recipe))

    finding = searched(monkeypatch, loss, other)
    assert set(slots(finding.apply(GIVEN))) == {"mirror", "crop"}
    assert "but not again" in finding.why


@pytest.mark.parametrize(("shift", "kept"), [(0.0, 40), (1.0, 0), (-1.0, 0)])
def test_other_samples_are_scored_where_they_are_as_validation(
    monkeypatch: pytest.MonkeyPatch, shift: float, kept: int
) -> None:
    """Not where the model knows them already, nor where validation is another problem."""
    studio = open_studio()
    asked = []

    def branch(recipe: Recipe, steps: int, *, beyond: int, **options: Any) -> Any:
        asked.append(beyond)
        losses = np.random.default_rng(0).normal(size=100 + beyond)
        losses[100:] += shift
        return losses

    monkeypatch.setattr(studio, "branch", branch)
    plan = dataclasses.replace(augmentation._plan(100.0, studio, LONG), beyond=40)
    branches = augmentation._Branches(studio, GIVEN, plan, timed=True)
    sizes = [len(branches.score((), ())) for _ in range(3)]
    assert asked == [40, kept, kept]
    assert sizes == [100 + kept] * 3


@pytest.mark.parametrize(("count", "most"), [(800, 120), (2_000, 300), (4_000, 424)])
def test_few_validation_samples_are_joined_by_others_that_do_not_outvote_them(
    count: int, most: int
) -> None:
    studio = open_studio(count=count)  # .15 of them are validation
    plan = augmentation._plan(100.0, studio, LONG)
    assert plan.beyond == most
    assert plan.part + plan.beyond <= studio.train.size


def test_what_is_given_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    stated = GIVEN.give(regularization={"label_smoothing": 0.0})

    def loss(recipe: Recipe) -> float:
        return 1.0 - 0.5 * recipe.regularization.label_smoothing - 0.1 * ("mirror" in slots(recipe))

    finding = searched(monkeypatch, loss, stated=stated)
    assert set(finding.changes) == {"policy"}
    assert not any("0.1" in trial["told"] for trial in finding.evidence["trials"])


@pytest.mark.parametrize(
    ("stated", "count", "why"),
    [
        (GIVEN.give(augmentation={"policy": "none"}), 800, "fixed by you"),
        (GIVEN, 160, "too few validation samples"),
    ],
)
def test_obstacles(stated: Recipe, count: int, why: str) -> None:
    obstacle = Augmentation().obstacle(open_studio(stated, count), stated, LONG)
    assert obstacle is not None
    assert why in obstacle


def test_data_that_are_other_ones_in_every_pass_are_left_as_they_are() -> None:
    x, y = helpers.images(1_000)
    rng = np.random.default_rng(0)

    def samples() -> Any:
        for image, label in zip(x, y, strict=True):
            yield image // 2 + rng.integers(0, 9, image.shape, image.dtype), label

    spec = (tf.TensorSpec(x.shape[1:], x.dtype), tf.TensorSpec((), y.dtype))
    data = tf.data.Dataset.from_generator(samples, output_signature=spec)
    problem = Problem.inspect(helpers.functional(), data, validation=(x[:200], y[:200]), seed=0)
    studio = Studio(problem, GIVEN, budget=Budget(None))
    assert studio.train.varies
    assert "augmented already" in (Augmentation().obstacle(studio, GIVEN, LONG) or "")
    assert not open_studio().train.varies


def test_an_optimizers_own_rate_is_as_good_as_a_found_one() -> None:
    stated = Recipe().give(compute={"batch_size": 16})
    assert stated.optimization.learning_rate is None
    assert Augmentation().obstacle(open_studio(stated), stated, LONG) is None


def test_other_features_are_another_finding() -> None:
    def own(images: Any) -> Any:
        return images[:, ::4, ::4, 0]

    studio = open_studio()
    learners = [Augmentation(), Augmentation("pixels"), Augmentation(own), Augmentation(full=True)]
    # Which may be others under the same name: no two are taken for one another.
    nameless = [Augmentation(functools.partial(own)), Augmentation(lambda x: x), Augmentation(own)]
    learners += nameless
    assert len({learner.key(studio, GIVEN) for learner in learners}) == 7
    for one, other in (
        (Augmentation("model"), learners[0]),
        (Augmentation(keras.ops.mean), Augmentation(keras.ops.mean)),
    ):
        assert one.key(studio, GIVEN) == other.key(studio, GIVEN)
    # A run that was killed goes on in another process, where they have other marks.
    again = Augmentation(functools.partial(own))
    assert again.identity() == nameless[0].identity() != nameless[1].identity()
    assert again.key(studio, GIVEN) != nameless[0].key(studio, GIVEN)


def test_features_that_take_too_long_are_measured_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a model of the user's own costs is not known from the problem's model."""

    def slow(images: Any) -> Any:
        tf.py_function(lambda: time.sleep(0.2), [], [])
        return images[:, 0, 0]

    studio = open_studio()
    planned = dataclasses.replace(LONG, allowance=60.0)
    monkeypatch.setattr(studio, "warmed", lambda *a, **k: contextlib.nullcontext())
    finding = Augmentation(slow).learn(studio, GIVEN, planned)
    assert finding.why.startswith("Not searched: the features that were given take")
    assert finding.changes == {}


def test_a_search_that_would_take_too_long_is_not_begun() -> None:
    studio, learner = open_studio(), Augmentation()
    assert learner.obstacle(studio, GIVEN, LONG) is None
    short = dataclasses.replace(LONG, allowance=1.0)
    assert "left for it" in (learner.obstacle(studio, GIVEN, short) or "")
    slow = Planned(100, 1_000.0, COSTS, timed=True)  # 10 s of training
    assert "to compile" in (learner.obstacle(studio, GIVEN, slow) or "")


@pytest.mark.parametrize(("step", "refused"), [(0.1, False), (1.0, True)])
def test_the_fewer_passes_a_run_makes_the_less_it_may_take_to_compile(
    step: float, refused: bool
) -> None:
    """Runs of 80 s, 10 % of which are spent on compiling: of 19 passes, or of two."""
    planned = Planned(int(80 / step), 60.0, CostModel(step, 0.3, 2.0), timed=True)
    obstacle = Augmentation().obstacle(open_studio(), GIVEN, planned)
    assert (obstacle is not None) == refused
    assert not refused or "every sample 1.9 times" in str(obstacle)


def test_with_little_time_a_mirror_is_doubted_before_all_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    planned = Planned(100_000, 50.0, COSTS)

    def loss(recipe: Recipe) -> float:
        return 1.0 - 0.2 * ("crop" in slots(recipe)) + 0.1 * ("mirror" in slots(recipe))

    finding = searched(monkeypatch, loss, planned=planned)
    told = [trial["told"] for trial in finding.evidence["trials"]]
    assert told == ["off", "mirrored, moved", "TrivialAugment", "moved"]
    assert set(slots(finding.apply(GIVEN))) == {"crop"}


@pytest.mark.parametrize("allowance", [50.0, 100.0, 300.0, 1000.0])
def test_more_time_is_used_and_not_exceeded(allowance: float) -> None:
    """The least plan takes 32 s."""
    studio = open_studio()
    plan = augmentation._plan(allowance, studio, LONG)
    assert plan.seconds <= allowance
    if allowance < 1000.0:
        assert plan.seconds > 0.7 * allowance
    least = augmentation.LENGTHS[plan.steps]
    assert plan.trials >= least
    assert augmentation.LEAST_PART <= plan.part <= studio.train.size


@pytest.mark.parametrize(("allowance", "rungs"), [(50.0, 6), (100.0, 6), (1_000.0, 11)])
def test_with_much_time_distances_have_the_whole_ladder(allowance: float, rungs: int) -> None:
    plan = augmentation._plan(allowance, open_studio(), LONG)
    assert len(plan.magnitudes) == rungs
    assert plan.seconds <= allowance


def test_a_stream_of_which_little_fits_the_memory_is_not_studied() -> None:
    x, y = helpers.images(1_000)
    data = tf.data.Dataset.from_tensor_slices((x, y))
    problem = Problem.inspect(helpers.functional(), data, validation=(x[:200], y[:200]), seed=0)
    studio = Studio(problem, GIVEN, budget=Budget(None), memory_budget=8 * 60 * (x[0].nbytes + 8))
    assert studio.train.resident is None
    plan = augmentation._plan(1_000.0, studio, LONG)
    assert plan.part == studio.train.most_in_part == 60
    assert "fit the memory" in (Augmentation().obstacle(studio, GIVEN, LONG) or "")


def test_a_part_is_seen_as_often_as_the_run_sees_all() -> None:
    studio = open_studio(count=20_000)
    for steps, passes in ((5_000, 80_000 / 17_000), (100_000, augmentation.PASSES)):
        planned = dataclasses.replace(LONG, steps=steps)
        plan = augmentation._plan(1_000.0, studio, planned)
        seen = (plan.warm + plan.steps) * plan.batch
        assert seen / plan.part == pytest.approx(passes, rel=0.05)


def test_small_batches_are_transformed_several_at_a_time_and_booked_by_the_call() -> None:
    """One image at a time took ten times as long as was booked."""
    plans = {}
    for batch in (1, 2, 16):
        stated = GIVEN.give(compute={"batch_size": batch})
        planned = Planned(100_000, 1_000.0, CostModel(0.001, 0.1, 2.0), timed=True)
        plans[batch] = augmentation._plan(100.0, open_studio(stated), planned)
        rungs = len(augmentation.INDEX) * (len(augmentation.distances.FEWER) - 1)
        calls = plans[batch].images * rungs / augmentation._at_once(batch)
        assert calls * augmentation.PER_BATCH <= augmentation.DISTANCES * 100.0
    assert [augmentation._at_once(batch) for batch in (1, 2, 16, 64)] == [4, 8, 16, 64]
    assert plans[1].images < plans[2].images < plans[16].images


def test_the_likeliest_to_help_are_tried_however_late_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(augmentation._Branches, "late", lambda self, further: True)
    finding = searched(monkeypatch, lambda recipe: 1.0 - 0.1 * ("mirror" in slots(recipe)))
    told = [trial["told"] for trial in finding.evidence["trials"]]
    assert told == ["off", "mirrored, moved", "TrivialAugment"]
    assert set(slots(finding.apply(GIVEN))) == {"mirror", "crop"}


def real(x: np.ndarray, y: np.ndarray, allowance: float = 1_200.0) -> tuple[Finding, list[str]]:
    """A real search on a small network that overfits, and all transforms of what it chose."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input(x.shape[1:]),
            layers.Rescaling(1 / 255),
            layers.Conv2D(16, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(int(y.max()) + 1),
        ]
    )
    recipe = Recipe().give(
        compute={"batch_size": 64},
        optimization={"optimizer": "adamw", "learning_rate": 0.003, "weight_decay": 0.0},
    )
    problem = Problem.inspect(model, (x, y), seed=0, validation_split=0.5)
    studio = Studio(problem, recipe, budget=Budget(None), seed=0)
    planned = Planned(2_000, allowance, CostModel(step=1.0, evaluation=3.0))
    finding = Augmentation().learn(studio, recipe, planned)
    policy = finding.apply(recipe).augmentation.policy
    return finding, [choice.transform for slot in policy.slots for choice in slot.choices]


@pytest.mark.slow
def test_a_mirror_that_destroys_labels_is_left_off() -> None:
    """The class is the side on which it is brighter: faintly, so that what is harmless helps."""
    rng = np.random.default_rng(0)
    y = np.arange(600) % 2
    x = rng.integers(0, 120, (600, 10, 10, 1))
    for image, label in zip(x, y, strict=True):
        image[:, 5 * label : 5 * label + 5] += 6
    finding, transforms = real(x.astype(np.uint8), y)
    mirrored = [t for t in finding.evidence["trials"] if t["told"].startswith("mirrored")]
    assert mirrored
    assert "translation_x" in transforms
    assert "mirror_horizontal" not in transforms
    assert "quarter_turns" not in transforms


@pytest.mark.slow
def test_colours_that_tell_the_class_are_left_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """The class is the channel that is brightest, faintly: hues and shuffled channels destroy it,
    places do not."""
    monkeypatch.setattr(candidates, "CLUSTERS", {"colour": candidates.CLUSTERS["colour"]})
    rng = np.random.default_rng(0)
    y = np.arange(600) % 3
    x = rng.integers(0, 200, (600, 10, 10, 3))
    x[np.arange(600), :, :, y] += 10
    finding, transforms = real(x.astype(np.uint8), y, allowance=4_000.0)
    coloured = [t for t in finding.evidence["trials"] if "colour" in t["told"]]
    assert len(coloured) >= 3
    strong = [t for t in coloured if "colour 5" in t["told"]]
    assert strong
    assert not any(t["adopted"] for t in strong)
    assert "translation_x" in transforms
    assert "channel_shuffle" not in transforms
    assert "hue" not in transforms


def test_nothing_is_left_of_policies_that_were_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = searched(monkeypatch, lambda recipe: 1.0)
    assert finding.apply(GIVEN).augmentation.policy == Policy()
