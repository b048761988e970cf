"""Which of a teacher's predictions a student learns from. NumPy only.

Of *Self-training with Noisy Student* (Xie et al. 2020), section 2 and appendix A.1: predictions of
which the teacher is unsure are left out; and since it prefers some classes, those that it names
too often keep their surest images only, and those that it names too seldom have theirs repeated.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
Ids = npt.NDArray[np.int64]


def distributions(outputs: Floats, *, logits: bool, exclusive: bool) -> Floats:
    """A model's outputs as probabilities, float32 of the same shape.

    Args:
        outputs: `(images, ..., classes)`.
        logits: Whether they are logits, or probabilities already.
        exclusive: Whether one of the classes holds (softmax), or each by itself (sigmoid).
    """
    from scipy.special import expit, softmax

    values = np.asarray(outputs, np.float32)
    if not logits:
        return values
    return np.asarray(softmax(values, axis=-1) if exclusive else expit(values), np.float32)


def certainty(probabilities: Floats, *, exclusive: bool) -> Floats:
    """How sure each prediction is, `(images, ...)` without the axis of classes.

    The largest probability where classes exclude each other; else the mean over classes of that of
    the likelier answer, yes or no.

    Args:
        probabilities: `(images, ..., classes)`.
        exclusive: As of `distributions`.
    """
    if exclusive:
        return np.asarray(probabilities.max(axis=-1))
    return np.asarray(np.maximum(probabilities, 1.0 - probabilities).mean(axis=-1))


def balanced(classes: Ids, sure: Floats, shares: Floats, *, threshold: float, most: int = 8) -> Ids:
    """Which images a student sees, and how often each.

    Of those that are sure enough, as many as they are in all, in the given shares of classes. A
    class has its surest ones, each as often as the next, and none more than `most` times, so that
    a class that is hardly ever named is not the same few images over and over.

    Args:
        classes: `(images,)`, the class that each is taken for.
        sure: `(images,)`, how sure that is.
        shares: `(classes,)`, how much of the set each class is to be; they sum to 1.
        threshold: Images that are less sure are left out.
        most: How often an image can be in the set.

    Returns:
        Indices, surest first within a class, and in order of classes.
    """
    kept = np.flatnonzero(sure >= threshold)
    found: list[Ids] = []
    for kind, share in enumerate(shares):
        own = kept[classes[kept] == kind]
        own = own[np.argsort(-sure[own], kind="stable")]
        wanted = min(round(float(share) * len(kept)), most * len(own))
        found.append(np.resize(own, wanted))
    return np.concatenate([np.empty(0, np.int64), *found]).astype(np.int64)


def repeated(labelled: int, taught: int, share: float) -> int:
    """How often labelled samples stand in a set so that they are at least a share of it.

    Args:
        labelled: Samples with labels.
        taught: Samples with a teacher's.
        share: In 0..1, not 1.
    """
    wanted = share / (1.0 - share) * taught
    return max(1, int(np.ceil(wanted / labelled - 1e-9)))  # up to rounding
