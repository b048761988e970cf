"""Which predictions a student learns from: closed forms and cases counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from etude.ssl import pseudo_labels


def test_outputs_become_probabilities() -> None:
    logits = np.log(np.array([[0.2, 0.3, 0.5]], np.float32)) + 7.0
    rows = pseudo_labels.distributions(logits, logits=True, exclusive=True)
    np.testing.assert_allclose(rows, [[0.2, 0.3, 0.5]], rtol=1e-5)
    each = pseudo_labels.distributions(np.array([[0.0, np.log(3.0)]]), logits=True, exclusive=False)
    np.testing.assert_allclose(each, [[0.5, 0.75]], rtol=1e-6)
    same = pseudo_labels.distributions(rows, logits=False, exclusive=True)
    np.testing.assert_array_equal(same, rows)


def test_certainty_is_of_the_likelier_answer() -> None:
    rows = np.array([[0.2, 0.3, 0.5], [0.0, 1.0, 0.0]])
    np.testing.assert_allclose(pseudo_labels.certainty(rows, exclusive=True), [0.5, 1.0])
    np.testing.assert_allclose(
        pseudo_labels.certainty(rows, exclusive=False), [(0.8 + 0.7 + 0.5) / 3, 1.0]
    )
    masks = np.moveaxis(np.array([[[0.9, 0.4]], [[0.1, 0.6]]]), 0, -1)[None]
    np.testing.assert_allclose(pseudo_labels.certainty(masks, exclusive=True), [[[0.9, 0.6]]])


def test_classes_are_brought_to_their_shares_by_the_surest() -> None:
    classes = np.array([0, 0, 0, 0, 0, 0, 1, 1, 0])
    sure = np.array([0.9, 0.6, 0.8, 0.7, 0.95, 0.65, 0.7, 0.9, 0.2])
    # Eight are sure enough, so four of each: of class 0 the surest, of class 1 each of two twice.
    found = pseudo_labels.balanced(classes, sure, np.array([0.5, 0.5]), threshold=0.5)
    assert found.tolist() == [4, 0, 2, 3, 7, 6, 7, 6]
    # Not more often than allowed, and nothing of a class that is never named.
    few = pseudo_labels.balanced(classes, sure, np.array([0.25, 0.5, 0.25]), threshold=0.5, most=1)
    assert few.tolist() == [4, 0, 7, 6]
    none = pseudo_labels.balanced(classes, sure, np.array([0.5, 0.5]), threshold=0.99)
    assert none.shape == (0,)
    assert none.dtype == np.int64


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize(("labelled", "taught"), [(7, 1000), (50, 3), (10, 90)])
def test_labelled_samples_are_repeated_as_seldom_as_their_share_allows(
    labelled: int, taught: int, share: float
) -> None:
    times = pseudo_labels.repeated(labelled, taught, share)

    def part(times: int) -> float:
        return times * labelled / (times * labelled + taught)

    assert part(times) >= share - 1e-12
    assert times == 1 or part(times - 1) < share
