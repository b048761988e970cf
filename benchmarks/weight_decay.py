"""Weight decay that balances each kernel's own updates, against constants from far too little up.

Few labels, a small network with batch normalization, mirrored and moved images, and as many steps
for every arm. Arms of a seed share data, split and initial weights.

    python benchmarks/weight_decay.py --seeds 3
"""

from __future__ import annotations

from typing import Any

import _common
import numpy as np

from augmentation_search import fitted, stated  # isort: skip

CONSTANTS = (0.0, 0.0125, 0.05, 0.2, 0.8)
BALANCED = "balanced"


def trained(decay: float | str, given: Any, seed: int) -> dict[str, Any]:
    """One arm: error and loss on test images, and the norm of all kernels."""
    balanced = decay == BALANCED
    recipe = stated(
        0.0 if balanced else float(decay),
        augmentation={"policy": "standard_cifar"},
        regularization={"decay": "balanced" if balanced else "constant"},
    )
    keep = ("compute", "optimization", "augmentation", "regularization")
    model, report, took = fitted(given.set, seed, given.width, recipe, keep, epochs=given.epochs)
    kernels = [np.asarray(w) for w in model.trainable_weights if len(w.shape) >= 2]
    return {
        "decay": decay,
        "error": 1.0 - report.outcome["test_accuracy"],
        "loss": report.outcome["test_loss"],
        "norm": float(np.sqrt(sum(np.sum(np.square(k)) for k in kernels))),
        "seconds": took,
    }


def main() -> None:
    """All arms of all seeds."""
    parser = _common.parser(__doc__)
    parser.add_argument("--set", default="cifar10", choices=("cifar10", "fashion"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--width", type=int, default=16)
    given = parser.parse_args()
    if given.quick:
        given.seeds, given.epochs = 1, 1
    found: dict[str, list[dict[str, Any]]] = {}
    for seed in range(given.seeds):
        for decay in (BALANCED, *CONSTANTS):
            row = trained(decay, given, seed)
            found.setdefault(str(decay), []).append(row)
            print(seed, row, flush=True)
    errors = {name: [100.0 * row["error"] for row in rows] for name, rows in found.items()}
    best = min((str(c) for c in CONSTANTS), key=lambda name: np.mean(errors[name]))
    paired = np.subtract(errors[BALANCED], errors[best]).tolist()
    _common.finish(
        "weight_decay",
        errors={name: np.round(_common.interval(v), 2).tolist() for name, v in errors.items()},
        losses={
            name: np.round(_common.interval([row["loss"] for row in rows]), 4).tolist()
            for name, rows in found.items()
        },
        best=best,
        balanced_minus_best=np.round(_common.interval(paired), 2).tolist(),
    )


if __name__ == "__main__":
    main()
