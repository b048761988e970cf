"""Real depth: a network learns a few frames by heart, and the report says what evaluate says."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import etude
from etude.recipe import Recipe

FRAMES = Path(__file__).parents[2] / "shared/data/rgbd-7scenes/rgbd320.tar"


def frames(part: str, count: int, step: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 and depths uint16 in millimetres of every so many frames, at 240/step lines."""
    from PIL import Image

    with tarfile.open(FRAMES) as tar:

        def read(name: str) -> Any:
            return Image.open(io.BytesIO(tar.extractfile(name).read()))

        names = sorted(n for n in tar.getnames() if n.startswith(part) and n.endswith("color.jpg"))
        names = names[:: len(names) // count][:count]
        small = (320 // step, 240 // step)
        x = np.stack([np.asarray(read(n).resize(small, Image.Resampling.BOX)) for n in names])
        depths = [np.asarray(read(n.replace("color.jpg", "depth.png"))) for n in names]
    return x, np.stack(depths)[:, step // 2 :: step, step // 2 :: step]


@pytest.mark.slow
@pytest.mark.skipif(not FRAMES.exists(), reason="needs ../shared/data/rgbd-7scenes")
@pytest.mark.parametrize("unit", ["metres", "millimetres"])
def test_a_few_real_frames_are_learned_by_heart(unit: str) -> None:
    x, y = frames("train", 8)
    held_x, held_y = frames("val", 8)
    assert 0.03 < (y == 0).mean() < 0.3 and 500 < y[y > 0].min() < y.max() < 5000
    scale = 1 if unit == "millimetres" else 1000
    if scale > 1:
        y, held_y = (y / 1000).astype(np.float32), (held_y / 1000).astype(np.float32)
    model = etude.models.build(
        "dispnet", x.shape[1:], 1, width=16, nearest=500 / scale, farthest=5000 / scale, seed=0
    )
    stated = Recipe().give(compute={"batch_size": 8}, optimization={"learning_rate": 0.005})
    report = etude.fit(
        model,
        (x, y),
        (x, y),
        test=(held_x, held_y),
        task="depth",
        epochs=150,
        recipe=stated,
        keep=["compute", "optimization", "augmentation", "regularization"],
        verbose=0,
    )
    assert report.outcome["val_delta_1"] > 0.95
    values = model.evaluate(held_x, held_y, verbose=0, return_dict=True)
    for name, value in values.items():
        assert report.outcome[f"test_{name}"] == pytest.approx(value, rel=1e-4)
    # By a loop, on the frames that it never saw.
    guesses = np.asarray(model.predict(held_x, verbose=0), np.float64)[..., 0]
    hits, count = 0, 0
    for place in np.ndindex(*held_y.shape):
        if held_y[place] > 0:
            count += 1
            hits += max(guesses[place] / held_y[place], held_y[place] / guesses[place]) < 1.25
    assert values["delta_1"] == pytest.approx(hits / count, abs=1e-3)
