"""The arithmetic of Fréchet distances: 400 pairs of 128 features, against the matrix root.

python benchmarks/frechet.py
"""

from __future__ import annotations

import time

import _common
import numpy as np
from scipy import linalg

from etude_metalearners import frechet

PAIRS, FEATURES, CHECKED = 400, 128, 20


def reference(one: np.ndarray, other: np.ndarray) -> float:
    """The formula with SciPy's matrix root."""
    first, second = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    mean = one.mean(axis=0) - other.mean(axis=0)
    root = linalg.sqrtm(first @ second)
    return float(mean @ mean + np.trace(first + second - 2.0 * root.real))


def main() -> None:
    """Times both forms, and checks some pairs."""
    _common.parser(__doc__).parse_args()
    rng = np.random.default_rng(0)
    for samples in (128, 1024):
        one = rng.normal(size=(samples, FEATURES))
        others = [one * rng.uniform(0.5, 2.0) + rng.normal(size=FEATURES) for _ in range(PAIRS)]
        others = [other @ rng.normal(size=(FEATURES, FEATURES)) / 8.0 for other in others]
        start = time.perf_counter()
        full = frechet.full(one, np.stack(others))
        middle = time.perf_counter()
        frechet.diagonal(one, np.stack(others))
        end = time.perf_counter()
        known = [reference(one, other) for other in others[:CHECKED]]
        by_root = time.perf_counter()
        wrong = np.abs(full[:CHECKED] / np.asarray(known) - 1.0).max()
        _common.finish(
            "frechet",
            samples=samples,
            full_seconds=middle - start,
            diagonal_seconds=end - middle,
            root_seconds=(by_root - end) * PAIRS / CHECKED,
            largest_relative_error=float(wrong),
        )


if __name__ == "__main__":
    main()
