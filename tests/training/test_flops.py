"""Operations against counts by hand."""

from __future__ import annotations

from typing import Any

import keras
import pytest
from keras import layers

import etude
from etude.training import flops, pretrainer
from etude.training.progressive import Progressive

from . import helpers


def test_dense_and_convolution_are_counted_by_hand() -> None:
    inputs = keras.Input((10, 8, 3))
    x = layers.Conv2D(5, 3, padding="same", use_bias=False)(inputs)
    model = keras.Model(inputs, layers.Dense(7, use_bias=False)(layers.Flatten()(x)))
    convolution = 2 * 80 * 9 * 3 * 5
    assert flops.forward(model, (10, 8, 3)) == convolution + 2 * 400 * 7


def test_a_quarter_of_the_pixels_is_about_a_quarter_of_the_operations() -> None:
    free = keras.Sequential(
        [layers.Input((None, None, 1)), layers.Conv2D(4, 3, padding="same"),
         layers.BatchNormalization(), layers.Conv2D(8, 3, padding="same")]
    )  # fmt: skip
    whole, part = (flops.forward(free, (side, side, 1)) for side in (32, 16))
    assert part / whole == pytest.approx(0.25, abs=0.01)


def pooled() -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = layers.Input((16, 16, 1))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(6, 3, padding="same")(inputs))
    return keras.Model(inputs, layers.Dense(4)(x))


@pytest.mark.slow
def test_a_run_counts_its_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three per view and forward pass, one for a copy's, one for each that is scored."""
    counts: dict[Any, float] = {}

    def told(call: Any, shape: Any, dtype: str = "float32") -> int:
        return int(shape[0] * shape[1])  # as if all were by the pixel

    monkeypatch.setattr(pretrainer.flops, "forward", told)
    x = helpers.images(40)[0].repeat(2, axis=1).repeat(2, axis=2)
    for objective in ("simsiam", "byol"):
        arms: dict[str, dict[str, Any]] = {
            "plain": {},
            "hard": {"hard": etude.HardViews(4, 0.5)},
            "growing": {"callbacks": [Progressive(8, step=8, warmup=0.0)]},
        }
        for name, options in arms.items():
            found = etude.pretrain(
                pooled(), x, objective=objective, epochs=2, batch_size=20, verbose=0,
                **options,
            )  # fmt: skip
            counts[objective, name] = (found.flops or 0) / (4 * 20 * 256)
    # SimSiam: two views, forward and backward. BYOL: each once more by the copy.
    assert counts["simsiam", "plain"] == 2 * 3
    assert counts["byol", "plain"] == 2 * 3 + 2
    # Four views at a quarter of the pixels.
    assert counts["simsiam", "hard"] == 2 * 3 + 4 / 4
    assert counts["byol", "hard"] == 2 * 3 + 2 + 2 * 4 / 4
    # Half the run at a quarter of the pixels.
    assert counts["simsiam", "growing"] == 2 * 3 * (0.5 + 0.5 / 4)
    assert counts["byol", "growing"] == (2 * 3 + 2) * (0.5 + 0.5 / 4)
