"""Whether importance sampling pays: by hand, by made-up trials, and where few samples matter."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

import keras
import numpy as np
import pytest

import etude
from etude.budget import Budget, CostModel
from etude.findings import Finding
from etude.problem import Problem
from etude.recipe import Recipe
from etude.sampling.strategies.best_count import BestCount
from etude.sampling.strategies.upper_bound import UpperBound
from etude.training.sample_gradients import SampleGradients
from etude.training.studio import Miniature, Pace, Studio
from etude_metalearners import Sampling, sampling
from etude_metalearners._base import Planned

from ..machine import Machine
from ..training import helpers

GIVEN = Recipe().give(compute={"batch_size": 16}, optimization={"learning_rate": 0.01})
COSTS = CostModel(step=0.1, evaluation=0.3, compile=2.0)
LONG = Planned(10_000, 1_000.0, COSTS, timed=True)


def open_studio(stated: Recipe = GIVEN, count: int = 800, model: Any = None) -> Studio:
    problem = Problem.inspect(model or helpers.functional(), helpers.images(count), seed=0)
    return Studio(problem, stated, budget=Budget(None))


def test_a_speed_up_counts_only_where_the_gate_is_open() -> None:
    high, low, forward, k = 8.0, 1.2, 0.3, 4.0
    rule = sampling.Rule(UpperBound(), forward)
    gain = (k**-2 + high**-4) ** -0.5 / (1.0 + k * forward)
    assert gain > 1.3
    assert rule.speed_up(np.full(5, high), k) == pytest.approx(gain)
    assert rule.speed_up(np.array([0.0, low, low]), k) == pytest.approx(1.0)
    both = np.array([low, high])
    assert rule.speed_up(both, k) == pytest.approx(2.0 / (1.0 + 1.0 / gain))
    worse = (k**-2 + low**-4) ** -0.5 / (1.0 + k * forward)
    assert worse < 1.0
    always = sampling.Rule(UpperBound(), forward, threshold=0.0)
    assert always.speed_up(both, k) == pytest.approx(2.0 / (1.0 / worse + 1.0 / gain))
    alone = sampling.Rule(UpperBound("independent"), forward)
    for one in (rule, sampling.Rule(UpperBound(), forward, threshold=2.0), alone):
        assert one.cost(both, k) == pytest.approx(1.0 + 0.5 * k * forward)
    assert always.least(k) == 0.0
    assert alone.least(k) > rule.least(k)
    # Fewer draws for nearly the same, and half of what is not drawn is saved.
    fewer = sampling.Rule(BestCount(), forward, fixed=0.5)
    share = (k * k * 3.4 / high**4) ** (1 / 3)  # (k φ + f) / (1 - f) = 1.7 / .5
    cost = k * forward + 0.5 + 0.5 * share
    assert fewer.cost(np.full(3, high), k) == pytest.approx(cost)
    assert fewer.speed_up(np.full(3, high), k) == pytest.approx(
        (k**-2 + (share * high**2) ** -2) ** -0.5 / cost
    )
    # Of a gradient that is heard, only its noise is less.
    heard = sampling.Rule(UpperBound(), forward, noise=2.0)
    equivalent = gain * (1.0 + k * forward)
    steps = 3.0 / (1.0 + 2.0 / equivalent)
    always = dataclasses.replace(heard, threshold=0.0)
    assert always.lift(np.full(5, high), k) == pytest.approx(steps)
    assert always.speed_up(np.full(5, high), k) == pytest.approx(steps / (1.0 + k * forward))
    assert heard.least(k) > rule.least(k)
    assert rule.best(np.full(5, high), (2.0, 4.0)) == 4.0
    assert heard.best(np.full(5, high), (2.0, 4.0)) == 2.0


def studied(
    monkeypatch: pytest.MonkeyPatch,
    *,
    tau: float = 6.0,
    forward: float = 0.2,
    dearer: float | None = None,
    fixed: float = 0.4,
    gains: tuple[float, float] = (0.2, 0.2),
    lifted: float = -0.5,
    noise: float | None = None,
    stated: Recipe = GIVEN,
    planned: Planned = LONG,
) -> tuple[Finding, list[tuple[float | None, int, int]]]:
    """What is found where steps, τ and losses are what they are said to be."""
    studio = open_studio(stated)
    ran: list[tuple[float | None, int, int]] = []
    now = {"recipe": stated}

    @contextlib.contextmanager
    def at(recipe: Recipe) -> Any:
        before, now["recipe"] = now["recipe"], recipe
        yield
        now["recipe"] = before

    def pace(steps: int) -> Pace:
        own = now["recipe"].sampling
        k = 0.0 if own.threshold == sampling.NEVER else own.presample
        cost = forward if k == sampling.MEASURED or dearer is None else dearer
        share = 1.0 if own.fixed else 1 / 8
        return Pace(0.1 * (k * cost + fixed + (1.0 - fixed) * share), np.zeros(steps))

    def miniature(recipe: Recipe, steps: int, *, order: int, **options: Any) -> Miniature:
        shut = recipe.sampling.threshold == sampling.NEVER or "looks" in options
        ran.append((None if shut else recipe.sampling.presample, steps, order))
        rng = np.random.default_rng([order, shut])
        gain = gains[order] + (lifted if recipe.sampling.rate != 1.0 else 0.0)
        losses = 1.0 - (0.0 if shut else gain) + 0.01 * rng.normal(size=200)
        looks = np.arange(options.get("looks", steps)) + 1
        taus = np.full(len(looks), tau)
        if "wanted" in options and not options["wanted"](taus, noise):
            losses = np.zeros(0)  # no trial can be held against them
        return Miniature(taus, looks, 0.0 if shut else 1.0, noise, losses)

    monkeypatch.setattr(studio, "at", at)
    monkeypatch.setattr(studio, "pace", pace)
    monkeypatch.setattr(studio, "miniature", miniature)
    monkeypatch.setattr(studio, "watch", miniature)
    return Sampling().learn(studio, stated, planned), ran


@pytest.mark.parametrize(("draws", "q"), [("own", 2), ("systematic", 2), ("independent", 1)])
def test_what_pays_is_adopted_with_its_cost(
    monkeypatch: pytest.MonkeyPatch, draws: str, q: int
) -> None:
    finding, ran = studied(monkeypatch, stated=GIVEN.give(sampling={"draws": draws}))

    def cost_and_gain(k: float) -> tuple[float, float]:
        c = ((0.2 * k + 0.4) / 0.6 * k**q * 6.0 ** (-2 * q)) ** (1 / (q + 1))
        c = min(1.0, max(1 / 8, c))
        cost = 0.2 * k + 0.4 + 0.6 * c
        return cost, (k**-q + (36.0 * c) ** -q) ** (-1 / q) / cost

    best = max(sampling.PRESAMPLES, key=lambda k: cost_and_gain(k)[1])
    assert finding.changes["strategy"] == "best_count"
    assert finding.changes["presample"] == best
    assert finding.changes["forward"] == pytest.approx(0.2)
    assert finding.changes["fixed"] == pytest.approx(0.4)
    assert finding.evidence["speed_ups"][str(best)] == pytest.approx(cost_and_gain(best)[1])
    steps = ran[0][1]
    fewer = round(steps / cost_and_gain(best)[0])
    chosen = (best, fewer, 0)
    assert ran == [(None, steps, 0), chosen, chosen, (None, steps, 1), (best, fewer, 1)]
    assert "rate" not in finding.changes  # at more it was worse


def test_a_higher_rate_is_learned_where_it_is_better(monkeypatch: pytest.MonkeyPatch) -> None:
    for lifted, kept in ((0.1, True), (-0.1, False), (float("nan"), False)):
        finding, _ = studied(monkeypatch, lifted=lifted)
        k = finding.changes["presample"]
        c = min(1.0, max(1 / 8, ((0.2 * k + 0.4) / 0.6 * k**2 / 6.0**4) ** (1 / 3)))
        wanted = (k**-2 + (36.0 * c) ** -2) ** -0.5
        assert finding.changes.get("rate", 1.0) == pytest.approx(wanted if kept else 1.0)
        assert len(finding.evidence["rates"]) == 2
        assert (f"at {wanted:.2g} times the rate" in finding.why) == kept
    stated = GIVEN.give(sampling={"rate": 1.5})
    finding, _ = studied(monkeypatch, lifted=0.1, stated=stated)
    assert list(finding.evidence["rates"]) == ["1.5"]
    assert "rate" not in finding.changes


@pytest.mark.parametrize(("batch", "drawn"), [(64, 8), (12, 1), (4, 1), (1, 1)])
def test_what_is_fixed_is_told_from_the_samples_that_were_drawn(
    monkeypatch: pytest.MonkeyPatch, batch: int, drawn: int
) -> None:
    seconds = (0.1, 0.1 * (1.0 + 3 * 0.2), 0.1 * (3 * 0.2 + 0.4 + 0.6 * drawn / batch))
    monkeypatch.setattr(sampling, "_paces", lambda studio, others, timed: seconds)
    stated = GIVEN.give(compute={"batch_size": batch})
    forward, fixed = sampling._costs(None, stated, 5, fewer=True)
    assert forward == pytest.approx(0.2)
    assert fixed == pytest.approx(0.4 if drawn < batch else 0.0)


def test_with_xla_whole_batches_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    finding, ran = studied(monkeypatch, stated=GIVEN.give(compute={"xla": True}))
    best = max(sampling.PRESAMPLES, key=lambda k: (k**-2 + 6.0**-4) ** -0.5 / (1.0 + 0.2 * k))
    assert finding.changes["strategy"] == "upper_bound"
    assert finding.changes["presample"] == best
    assert "fixed" not in finding.changes
    assert ran[1][1] == round(ran[0][1] / (1.0 + best * 0.2))


@pytest.mark.parametrize(
    ("options", "trials", "why"),
    [
        ({"tau": 1.15}, 1, "took only 0.15 of a step"),
        ({"noise": 0.1, "fixed": 0.9}, 1, "The noise scale is 0.1 batches"),
        ({"forward": 3.0}, 1, "below 1.05"),
        ({"dearer": 1.0}, 1, "takes 1.00 of a step"),
        ({"forward": 0.0}, 1, "could not be told"),
        ({"forward": -0.01}, 1, "could not be told"),
        ({"gains": (0.0, 0.2)}, 3, "shows"),
        ({"gains": (-0.2, 0.2)}, 3, "shows"),
        ({"gains": (0.2, -0.05)}, 5, "not with another order"),
    ],
)
def test_what_does_not_pay_stays_off(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], trials: int, why: str
) -> None:
    finding, ran = studied(monkeypatch, **options)
    assert finding.changes == {}
    assert len(ran) == trials
    assert why in finding.why
    assert finding.evidence["timed"] == ("tau" not in options)


@pytest.mark.parametrize(
    ("seconds", "allowance", "timed", "trials", "why"),
    [
        (1_000.0, 1_000.0, True, 5, "standard errors"),
        (100.0, 1_000.0, False, 1, "it would save"),
        # A promise is the best there may be before anything is timed, and less after.
        (300.0, 1_000.0, True, 1, "it would save"),
        (1_000.0, 20.0, False, 1, "are left for it"),
    ],
)
def test_nothing_is_tried_that_takes_more_than_it_promises(
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    allowance: float,
    timed: bool,
    trials: int,
    why: str,
) -> None:
    planned = Planned(round(10 * seconds), allowance, COSTS, timed=True)
    finding, ran = studied(monkeypatch, tau=1.7, forward=0.3, planned=planned)
    assert finding.evidence["timed"] == timed
    assert len(ran) == trials
    assert why in finding.why
    plan = finding.evidence["plan"]
    promised = max(finding.evidence["speed_ups"].values())
    rest = plan["trying"] + (0.0 if timed else plan["timing"])
    least = min(seconds * (1.0 - 1.0 / promised), allowance)
    assert (rest <= least) == (trials > 1)


def test_noise_is_learned_where_the_gradient_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    finding, _ = studied(monkeypatch, noise=20.0)
    assert finding.changes["noise"] == 20.0
    drowned, _ = studied(monkeypatch)
    assert "noise" not in drowned.changes
    assert finding.changes["presample"] <= drowned.changes["presample"]
    best = str(finding.changes["presample"])
    assert finding.evidence["speed_ups"][best] < drowned.evidence["speed_ups"][best]
    stated, own = GIVEN.give(sampling={"noise": 1e6}), drowned.evidence["speed_ups"]
    given, _ = studied(monkeypatch, noise=20.0, stated=stated)
    assert given.evidence["speed_ups"] == pytest.approx(own, rel=1e-4)


def test_numbers_of_ones_own_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    stated = GIVEN.give(sampling={"presample": 5.0})
    finding, ran = studied(monkeypatch, stated=stated)
    assert "presample" not in finding.changes
    assert ran[1][0] == 5.0


@pytest.mark.parametrize(
    ("stated", "planned", "count", "why"),
    [
        (GIVEN.give(sampling={"strategy": "uniform"}), LONG, 800, "fixed by you"),
        (GIVEN, Planned(10_000, 1_000.0, COSTS, timed=False), 800, "ends by epochs"),
        (GIVEN, LONG, 160, "too few validation samples"),
        (GIVEN, Planned(10_000, 10.0, COSTS, timed=True), 800, "left for it"),
    ],
)
def test_obstacles(stated: Recipe, planned: Planned, count: int, why: str) -> None:
    obstacle = Sampling().obstacle(open_studio(stated, count), stated, planned)
    assert obstacle is not None
    assert why in obstacle
    assert Sampling().obstacle(open_studio(), GIVEN, LONG) is None


def test_a_miniature_tells_the_noise_scale() -> None:
    """That of all training samples at weights that stand still, from their own gradients."""
    keras.utils.set_random_seed(0)
    still = GIVEN.give(
        optimization={"learning_rate": 1e-9},
        sampling={"strategy": "best_count", "presample": 3.0, "threshold": sampling.NEVER},
    )
    layers = keras.layers
    stack = [layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(4)]
    studio = open_studio(still, model=keras.Sequential([layers.Input((8, 8, 1)), *stack]))
    studio.measure()
    size = studio.train.size
    assert size is not None
    with studio.at(still):
        found = studio.miniature(still, 320, batch=16, part=size, samples=100, order=0)
    batch = next(iter(studio.problem.train.shuffled(size, seed=0)))
    x, y = (np.asarray(part, np.float32) for part in batch[:2])
    gradients = SampleGradients(studio.problem.model, studio.problem.loss)
    mean = float(np.sum(gradients.mean(x, y, np.ones(size)) ** 2))
    expected = (float(np.mean(gradients.norms(x, y) ** 2)) - mean) / mean
    assert found.noise is not None
    assert 16 * found.noise == pytest.approx(expected, rel=0.3)


def test_what_is_watched_is_the_bound_as_a_step_would_find_it() -> None:
    """Of a softmax that is p - 1 at the label and p elsewhere, and nothing moves by looking."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    stack = [layers.Rescaling(1 / 255), layers.BatchNormalization(), layers.Flatten()]
    model = keras.Sequential([layers.Input((8, 8, 1)), *stack, layers.Dense(4)])
    still = GIVEN.give(optimization={"learning_rate": 1e-9})
    studio = open_studio(still, model=model)
    studio.measure()
    x, y = (np.asarray(part) for part in next(iter(studio.problem.train.shuffled(200, seed=0)))[:2])
    before = helpers.weights(model)
    found = studio.trainer.bounds((x, y))
    assert helpers.difference(before, helpers.weights(model)) == 0.0
    z = np.asarray(x, np.float64) / 255
    # As in training: by the batch's own statistics.
    z = (z - z.mean((0, 1, 2))) / np.sqrt(z.var((0, 1, 2)) + model.layers[1].epsilon)
    kernel, bias = (np.asarray(w, np.float64) for w in model.layers[-1].get_weights())
    expected = []
    for image, label in zip(z.reshape(200, -1), y, strict=True):
        logits = image @ kernel + bias
        chances = np.exp(logits - logits.max())
        chances /= chances.sum()
        chances[int(np.squeeze(label))] -= 1.0
        expected.append(np.linalg.norm(chances))
    np.testing.assert_allclose(found, expected, rtol=2e-4)
    watched = studio.watch(still, 40, batch=16, part=400, samples=100, order=0, looks=4, looked=400)
    assert watched.steps.tolist() == [5, 15, 25, 35]
    tau = np.sqrt(np.mean(np.square(expected))) / np.mean(expected)
    np.testing.assert_allclose(watched.taus, tau, rtol=0.03)
    assert len(watched.losses) == studio.problem.validation.count()
    asked: list[tuple[list[float], float | None]] = []

    def unwanted(taus: np.ndarray[Any, Any], noise: float | None) -> bool:
        asked.append((taus.tolist(), noise))
        return False

    again = studio.watch(
        still, 40, batch=16, part=400, samples=100, order=0, looks=4, looked=400, wanted=unwanted
    )
    assert asked == [(watched.taus.tolist(), watched.noise)]
    assert len(again.losses) == 0
    assert helpers.difference(before, helpers.weights(model)) == 0.0


def test_a_real_study_leaves_no_trace_and_watches_tau(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most samples are plain: τ grows as they are learned. What steps take is made up."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    y = np.arange(1_000) % 2
    x = rng.integers(0, 40, (1_000, 8, 8, 1))
    x[y == 1, :4] += 120
    hard = rng.permutation(1_000)[:40]
    x[hard] = rng.integers(0, 160, (40, 8, 8, 1))
    layers = keras.layers
    stack = [layers.Input((8, 8, 1)), layers.Rescaling(1 / 255), layers.Flatten()]
    model = keras.Sequential([*stack, layers.Dense(32, "relu"), layers.Dense(2)])
    problem = Problem.inspect(model, (x.astype(np.uint8), y), seed=0, validation_split=0.3)
    studio = Studio(problem, GIVEN, budget=Budget(None), seed=0)
    studio.measure()
    before = helpers.weights(model)
    costs = studio.measured
    real = studio.pace

    def pace(steps: int) -> Pace:
        assert studio.trainer.selector is not None
        shut = float(studio.trainer.selector.threshold) > 1.0
        few = float(studio.trainer.selector.fixed) == 0.0
        return Pace(0.01 if shut else 0.0095 if few else 0.013, real(steps).losses)

    monkeypatch.setattr(studio, "pace", pace)
    finding = Sampling().learn(studio, GIVEN, Planned(1_000_000, 60.0, costs, timed=True))
    assert helpers.difference(before, helpers.weights(model)) == 0.0
    assert studio.trainer.selector is None
    taus = np.asarray(finding.evidence["taus"])
    assert taus[-1] > 1.8 > taus[0]
    assert finding.evidence["forward"] == pytest.approx(0.1)
    assert finding.evidence["fixed"] == pytest.approx(0.6)  # 1 - .0035 / (7/8 · .01)


@pytest.mark.slow
def test_all_that_watching_costs_is_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is given that time back ends with the same bits as one without the study."""
    machine = Machine()
    machine.install(monkeypatch)
    monkeypatch.setattr(Sampling, "gain", 1.0)
    learn = Sampling.learn

    def timeless(self: Sampling, *args: Any) -> Finding:
        before = machine.now
        finding = learn(self, *args)
        assert machine.now > before
        machine.now = before
        return finding

    class Tick(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            machine.now += 0.05

    monkeypatch.setattr(Sampling, "learn", timeless)
    ends, whys = [], []
    for kept in ([], ["sampling"]):
        machine.now, model = 0.0, helpers.functional()
        report = etude.fit(
            model, helpers.images(900), time_budget=20.0, clock=machine, seed=0, verbose=0,
            callbacks=[Tick()],
            keep=["compute", "optimization", "regularization", "augmentation", *kept],
        )  # fmt: skip
        ends.append(helpers.weights(model))
        whys += [one.why for one in report.findings if one.learner == "sampling"]
    assert whys[0].startswith("τ ends") and whys[1].startswith("Not studied")
    assert helpers.difference(*ends) == 0.0
