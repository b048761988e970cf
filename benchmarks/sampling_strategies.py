"""Every strategy of importance sampling at equal cost: test errors and training losses.

CIFAR-10, a ResNet-9, one-cycle schedule and no augmentation unless `--schedule` and `--augment` say
others. What a step of each arm costs is measured first, in turn with uniform steps in one process,
with the gate open; then every arm trains for as much cost as so many uniform steps: one for a step
that was uniform, as measured for one with the strategy at work, and the schedule follows what is
left. A step on fewer samples costs as much less, beside the share of a step that is `fixed`, which
`--timed-share` measures. So no stretch of a slow host favours an arm. The variance reducers' cost
is that of a whole period, the large batch included. Every run has a process of its own; arms of a
seed share data, initial weights and order; there is no validation, and the last weights count.

    python benchmarks/sampling_strategies.py --size 16 --width 8 --seeds 3

`--task` takes other problems: `fine_tuned`, an ImageNet network on CIFAR-10 at 96 × 96; `rows`, an
LSTM on the rows of MNIST; `permuted`, one on 4-pixel patches of MNIST in an order of chance. With
`--costs` of 1 for every arm the budget is steps and not cost. `--arms` names some, `--first` and
`--join` make a measurement of several calls, `--sampling` gives numbers of a strategy
(`--sampling presample=5 threshold=1.5`), and `--costs` takes what an earlier call printed.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import _common
import _sets

import keras  # isort: skip
import numpy as np

import etude
from etude.optim.variance_reduction import REDUCTIONS
from etude.sampling import probabilities
from etude.sampling.strategies import STRATEGIES, UNIFORM

ARMS = (UNIFORM, *STRATEGIES, *REDUCTIONS)
# Pixels a side of images for the pretrained network.
SIDE = 96
# Steps between two looks at how many were uniform.
LOOK = 50


def network(given: Any, seed: int) -> Any:
    """The task's, at the initial weights of a seed."""
    layers = keras.layers
    if given.task == "cifar":
        return etude.models.build(
            "resnet9", (given.size, given.size, 3), 10, width=given.width, seed=seed
        )
    if given.task == "fine_tuned":
        return _sets.fine_tuned(seed, SIDE)
    keras.utils.set_random_seed(seed)
    steps = (28, 28) if given.task == "rows" else (196, 4)
    stack = [layers.Input((28, 28, 1)), layers.Rescaling(1 / 255), layers.Reshape(steps)]
    return keras.Sequential([*stack, layers.LSTM(128), layers.Dense(10)])


def images(given: Any) -> tuple[Any, Any]:
    """The task's training images with labels, and those to test on."""
    from augmentation_search import mnist
    from learning_rate import cifar
    from time_to_accuracy import test_part

    if given.task == "cifar":
        return cifar(given.train, 0, given.size)[0], test_part(given.size)
    if given.task == "fine_tuned":
        (x, y), (tested, labels) = cifar(given.train, 0)[0], test_part(32)
        return (_sets.enlarged(x, SIDE), y), (_sets.enlarged(tested[:2000], SIDE), labels[:2000])
    parts = []
    for (x, y), most in ((mnist("train"), given.train), (mnist("t10k"), 10_000)):
        x, y = x[:most], y[:most]
        if given.task == "permuted":
            order = np.random.default_rng(0).permutation(784)
            x = x.reshape(len(x), 784)[:, order].reshape(-1, 28, 28, 1)
        parts.append((np.ascontiguousarray(x), y))
    return parts[0], parts[1]


def trainer(given: Any, strategy: str, seed: int, **numbers: Any) -> Any:
    """One that is compiled, at the initial weights of a seed."""
    from time_to_accuracy import loss

    decay = given.decay if given.optimizer == "adamw" else None
    recipe = etude.Recipe().give(
        compute={"batch_size": given.batch},
        optimization={
            "optimizer": given.optimizer,
            "learning_rate": given.rate,
            "schedule": given.schedule,
            **({} if decay is None else {"weight_decay": decay}),
        },
        sampling={"strategy": strategy, **numbers},
        **({"augmentation": {"policy": given.augment}} if given.augment else {}),
    )
    made = etude.Trainer(network(given, seed), recipe, value_range=(0, 255), seed=seed)
    made.compile(loss=loss())
    return made


def resident(given: Any) -> Any:
    """The training images."""
    from etude.data._base import Arrays
    from etude.data.resident import Resident

    return Resident(Arrays(*images(given)[0]))


def cost(given: Any, data: Any, strategy: str, numbers: dict[str, Any]) -> tuple[float, float]:
    """What a step with the strategy at work costs, in uniform ones; mean and half-width."""
    if strategy == UNIFORM:
        return 1.0, 0.0
    always = dict(numbers)
    if strategy in STRATEGIES:
        always |= {"warm_up": 0.0, "cool_down": 0.0}
        if STRATEGIES[strategy].gated:
            always["threshold"] = -1.0
        if getattr(STRATEGIES[strategy], "resizes", False):
            always["fixed"] = 0.99  # a whole batch is drawn
    uniform, chosen = trainer(given, UNIFORM, 0), trainer(given, strategy, 0, **always)
    period = math.ceil(len(data) / given.batch) if strategy in REDUCTIONS else given.timed
    ratios = []
    for turn in range(given.rounds + 1):
        seconds = []
        for one, steps in ((uniform, given.timed), (chosen, period)):
            start = time.perf_counter()
            one.fit(data, batch_size=given.batch, steps_per_epoch=steps, epochs=1, verbose=0)
            seconds.append((time.perf_counter() - start) / steps)
        if turn:  # the first traces
            ratios.append(seconds[1] / seconds[0])
    return _common.interval(ratios)


def fixed_share(given: Any, data: Any) -> tuple[float, float]:
    """What a step on one sample would take of one on a batch, by one on an eighth of it."""
    one, shares = trainer(given, UNIFORM, 0), []
    for turn in range(given.rounds + 1):
        seconds = []
        for batch in (given.batch, given.batch // 8):
            start = time.perf_counter()
            one.fit(data, batch_size=batch, steps_per_epoch=given.timed, epochs=1, verbose=0)
            seconds.append(time.perf_counter() - start)
        if turn:  # the first traces
            shares.append((8.0 * seconds[1] / seconds[0] - 1.0) / 7.0)
    return _common.interval(shares)


class Spend(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
    """Ends a run when its cost is spent, and lets the schedule end there."""

    def __init__(self, whole: float, each: float, *, always: bool) -> None:
        super().__init__()
        self.whole, self.each, self.always = whole, each, always
        self.spent, self.steps, self.total, self.open = 0.0, 0, 0, 0.0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Plans the whole run by what a step costs so far."""
        if self.steps == 0:
            self._end(round(self.whole / (self.each if self.always else 1.0)))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Adds up, and plans what is left by the latest steps."""
        self.steps += 1
        if self.always:
            self.spent += self.each
        elif self.steps % LOOK == 0:
            latest = self.add(LOOK)
            left = max(0.0, self.whole - self.spent) / (latest / LOOK)
            self._end(self.steps + round(left))
        if self.steps >= self.total:
            self.model.stop_training = True

    def add(self, steps: int) -> float:
        """Adds up so many latest steps, and gives what they cost."""
        selector = self.model.selector
        taus, opened = selector.recorded(self.steps - steps, self.steps)
        each = np.full(steps, self.each - 1.0)
        if getattr(selector.strategy, "resizes", False):  # `each` is that of a whole batch
            k, forward, fixed = selector.presample, *map(float, (selector.forward, selector.fixed))
            whole = probabilities.cost(k, forward, 1.0, fixed)
            each += [selector.strategy.worth(tau, k, forward, fixed)[1] - whole for tau in taus]
        costs = steps + float(np.sum(opened * each))
        self.open += float(opened.sum())
        self.spent += costs
        return costs

    def _end(self, total: int) -> None:
        """Lets the run, and its schedule, end after so many steps."""
        self.total = max(1, total)
        self.model.controls.total.assign(float(self.total))


def one(given: Any) -> dict[str, Any]:
    """Trains one arm."""
    strategy, numbers = given.arms[0], sampling(given)
    data, (tested, labels) = resident(given), images(given)[1]
    made = trainer(given, strategy, given.first, **numbers)
    spend = Spend(given.steps, given.cost, always=strategy not in STRATEGIES)
    start = time.monotonic()
    made.fit(data, batch_size=given.batch, steps_per_epoch=10**7, epochs=1, verbose=0,
             callbacks=[spend])  # fmt: skip
    took = time.monotonic() - start
    model = made.model
    outputs = model.predict(tested, batch_size=250, verbose=0)
    trained = model.predict(data.images.numpy(), batch_size=250, verbose=0)
    both = ((labels, outputs), (data.labels.numpy(), trained))
    losses = [
        float(np.mean(keras.losses.sparse_categorical_crossentropy(y, z, from_logits=True)))
        for y, z in both
    ]
    if not spend.always and spend.steps % LOOK:  # since the last look
        spend.add(spend.steps % LOOK)
    row = {
        "arm": strategy, "numbers": numbers, "seed": given.first, "test_loss": losses[0],
        "error": float(np.mean(outputs.argmax(axis=1) != labels)),
        "train_loss": losses[1], "steps": spend.steps, "spent": spend.spent,
        "open": spend.open / max(1, spend.steps), "seconds": took,
    }  # fmt: skip
    if made.selector is not None:
        taus, _ = made.selector.recorded(0, spend.steps)
        row["taus"] = np.round(taus[:: max(1, len(taus) // 20)], 3).tolist()
    return row


def sampling(given: Any) -> dict[str, Any]:
    """Numbers of a strategy, and how it draws, as they were given."""
    pairs = (item.split("=", 1) for item in given.sampling)
    return {name: value if name == "draws" else float(value) for name, value in pairs}


def compared(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means with intervals, and paired differences from uniform."""
    figures: dict[str, Any] = {}
    done = [row for row in rows if "error" in row]
    uniform = {row["seed"]: row for row in done if row["arm"] == UNIFORM}
    for arm in dict.fromkeys(row["arm"] for row in done):
        own = [row for row in done if row["arm"] == arm]
        paired = [100.0 * (row["error"] - uniform[row["seed"]]["error"])
                  for row in own if row["seed"] in uniform]  # fmt: skip
        figures[arm] = {
            "error": _common.interval([100.0 * row["error"] for row in own]),
            "minus_uniform": _common.interval(paired) if paired else None,
            "train_loss": _common.interval([row["train_loss"] for row in own]),
            "steps": [row["steps"] for row in own],
        }
    return figures


def main() -> None:
    """Runs all arms of all seeds in turn, or one."""
    parser = _common.parser(__doc__)
    parser.add_argument("--arms", nargs="*", default=list(ARMS), choices=ARMS)
    parser.add_argument(
        "--task", default="cifar", choices=("cifar", "fine_tuned", "rows", "permuted")
    )
    parser.add_argument("--sampling", nargs="*", default=[], help="name=value")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--size", type=int, choices=(8, 16, 32), default=16)
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--train", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--optimizer", default="adamw")
    parser.add_argument("--rate", type=float, default=1e-2)
    parser.add_argument("--schedule", default="one_cycle")
    parser.add_argument("--decay", type=float, default=0.05)
    parser.add_argument("--augment", default="", help="a policy, such as standard_cifar")
    parser.add_argument("--steps", type=float, default=3_000.0, help="uniform ones, of each arm")
    parser.add_argument("--timed", type=int, default=60, help="steps of a round of timing")
    parser.add_argument("--rounds", type=int, default=5, help="of timing")
    parser.add_argument("--cost", type=float, help="of a step of the one arm")
    parser.add_argument("--costs", type=json.loads, default={}, help="of all, as printed before")
    parser.add_argument("--timed-share", action="store_true", help="measure `fixed` alone")
    parser.add_argument("--one", action="store_true", help="one arm, printed as JSON")
    parser.add_argument("--join", nargs="*", help="logs of several calls, to be summed up")
    given = parser.parse_args()
    if given.quick:
        given.size, given.width, given.train, given.steps = 8, 4, 2_000, 120.0
        given.timed, given.rounds, given.seeds = 10, 2, 1
    if given.join:
        lines = [line for log in given.join for line in Path(log).read_text("utf-8").splitlines()]
        rows = [json.loads(line) for line in lines if line.startswith('{"arm')]
        print(json.dumps(compared(rows), indent=1))
        return
    if given.one:
        print(json.dumps(one(given)))
        return
    if given.timed_share:
        data = resident(given)
        load = _common.wait_until_idle()
        print(json.dumps({"fixed": fixed_share(given, data), "load": load}))
        return
    costs: dict[str, float] = dict(given.costs)
    if set(given.arms) - set(costs):
        data = resident(given)
        load = _common.wait_until_idle()
        for arm in given.arms:
            if arm not in costs:
                costs[arm], half = cost(given, data, arm, sampling(given))
                print(json.dumps({"cost of": arm, "mean": costs[arm], "half": half}), flush=True)
        print(json.dumps({"costs": costs, "load": load}), flush=True)
    rows = []
    for seed in range(given.first, given.first + given.seeds):
        for arm in given.arms:
            names = (
                "task",
                "size",
                "width",
                "train",
                "batch",
                "optimizer",
                "rate",
                "schedule",
                "decay",
                "steps",
                "augment",
            )
            command = [sys.executable, __file__, "--one", "--first", str(seed), "--arms", arm]
            command += [f"--{name}={getattr(given, name)}" for name in names]
            command += [f"--cost={costs[arm]}", "--sampling", *given.sampling]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:  # the others go on
                row = {"arm": arm, "seed": seed, "failed": done.stderr[-1000:]}
            else:
                row = json.loads(done.stdout.splitlines()[-1])
            rows.append(row)
            print(json.dumps(row), flush=True)
    print(json.dumps({"commit": _common.commit(), "costs": costs, "figures": compared(rows)}))


if __name__ == "__main__":
    main()
