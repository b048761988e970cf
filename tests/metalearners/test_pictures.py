"""Pictures of transforms and policies: tiles where they belong."""

from __future__ import annotations

import numpy as np

from etude.augment.policy import Choice, Policy, Slot
from etude.report.figures._pictures import decoded
from etude_metalearners import distances, features, pictures

RANGE = (0.0, 255.0)


def test_a_policy_is_shown_below_the_images_that_it_is_of() -> None:
    """One that inverts, always: the rows below the originals are their negatives."""
    rng = np.random.default_rng(0)
    images = np.kron(rng.integers(0, 256, (9, 2, 2, 3)), np.ones((1, 8, 8, 1))).astype(np.uint8)
    extract = features.of("pixels", None, RANGE)
    transformer = distances.Transformer(extract, images.shape[1:], RANGE, batch=24)
    ladders = distances.measure(
        transformer, images, names=["invert", "rotation"], magnitudes=(0.0, 50.0, 100.0)
    )
    policy = Policy((Slot((Choice("invert", 100.0, 100.0),)),))
    found = pictures.made(ladders, transformer, policy, images)
    samples = decoded(found["samples"]).astype(float)
    rows, columns = 1 + pictures.TIMES, pictures.SAMPLES
    assert samples.shape == (16 * rows, 16 * columns, 3)
    tiles = samples.reshape(rows, 16, columns, 16, 3).swapaxes(1, 2)
    shown = images[:columns].astype(float)
    # JPEG halves the resolution of colours.
    assert np.abs(tiles[0] - shown).mean() < 12.0
    for row in tiles[1:]:
        assert np.abs(row - (255.0 - shown)).mean() < 12.0
    sheet = decoded(found["sheet"]).astype(float)
    assert sheet.shape == (2 * 16, 3 * 16, 3)
    first = sheet.reshape(2, 16, 3, 16, 3).swapaxes(1, 2)[:, 0]
    assert np.abs(first[0] - first[1]).mean() < 12.0  # magnitude 0: the image itself
