"""Which evaluation's weights should be returned? Rules on the histories of whole runs.

Few labels, so that few samples validate; after every epoch the error on test images is taken beside
the validation accuracy. Each rule picks an epoch by the validation history alone: the highest value
(`best`), the lowest loss (`loss`), the last epoch (`last`), the highest mean of the latest
evaluations, a share of those so far (`growing 1/20`), or Étude's own, which compares means of
equally many (`means 1/50`, `1/20`, `1/10`). Figures are test errors of what they pick, less that
of `best`.

    python benchmarks/best_weights.py --seeds 3
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from unittest import mock

import _common
import numpy as np
from augmentation_search import data, network, stated

import keras  # isort: skip

CASES = (
    ("fashion", "trivialaugment"),
    ("fashion", "none"),
    ("cifar10", "standard_cifar"),
    ("cifar10", "none"),
)
SHARES = {"means 1/50": 50, "means 1/20": 20, "means 1/10": 10}
IMAGES = 5_000


def history(name: str, policy: str, seed: int, given: Any) -> dict[str, Sequence[float]]:
    """Validation accuracy and test error after every epoch of a run."""
    import etude

    train, test = data(name, seed)
    model = network(train[0].shape[1:], 10, given.width, seed)
    images, labels = test[0][:IMAGES].astype("float32"), test[1][:IMAGES]
    errors: list[float] = []

    class Tested(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            outputs = [np.asarray(model(images[i : i + 500])) for i in range(0, IMAGES, 500)]
            errors.append(float((np.concatenate(outputs).argmax(axis=1) != labels).mean()))

    report = etude.fit(
        model,
        train,
        recipe=stated(augmentation={"policy": policy}),
        keep=("compute", "optimization", "augmentation", "regularization"),
        epochs=given.epochs,
        seed=seed,
        callbacks=[Tested()],
        verbose=0,
    )
    validation = [1.0 - value for value in report.history["val_accuracy"]]
    return {"validation": validation, "loss": report.history["val_loss"], "error": errors}


def growing(values: Sequence[float], share: int) -> int:
    """The evaluation with the least mean of the latest ones, one in `share` of those so far."""
    means = [np.mean(values[max(0, k - k // share) : k + 1]) for k in range(len(values))]
    return int(np.argmin(means))


def picked(values: Sequence[float], share: int) -> int:
    """The evaluation that Étude ends with."""
    from etude.training import best_evaluation

    best: int | None = None
    with mock.patch.object(best_evaluation, "SHARE", share):
        for k in range(len(values)):
            if best_evaluation.is_better(values[: k + 1], best):
                best = k
    assert best is not None
    return best


def compared(run: dict[str, Sequence[float]]) -> dict[str, float]:
    """The test error in percent of the highest validation accuracy, and others' less that."""
    values, errors = run["validation"], 100.0 * np.asarray(run["error"])
    best = errors[int(np.argmin(values))]
    rules = {"last": -1, "loss": int(np.argmin(run["loss"])), "growing 1/20": growing(values, 20)}
    rules |= {rule: picked(values, share) for rule, share in SHARES.items()}
    return {"best": float(best), **{rule: float(errors[k] - best) for rule, k in rules.items()}}


def main() -> None:
    """Runs all cases, and compares the rules."""
    parser = _common.parser(__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--epochs", type=float, default=150.0)
    parser.add_argument("--width", type=int, default=16)
    given = parser.parse_args()
    if given.quick:
        given.seeds, given.epochs, given.width = 1, 4.0, 4
    found: dict[str, dict[str, list[float]]] = {}
    for name, policy in CASES:
        for seed in range(given.first, given.first + given.seeds):
            run = history(name, policy, seed, given)
            rules = compared(run)
            print(json.dumps({"case": f"{name} {policy}", "seed": seed, **rules}), flush=True)
            case = found.setdefault(f"{name} {policy}", {})
            for rule, value in rules.items():
                case.setdefault(rule, []).append(value)
    figures = {
        case: {rule: _common.interval(each) for rule, each in rules.items()}
        for case, rules in found.items()
    }
    _common.finish("best_weights", quick=given.quick, minus_best=figures)


if __name__ == "__main__":
    main()
