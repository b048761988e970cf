"""Saved models load in a fresh process, with Étude's classes and without them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import keras
import numpy as np
import pytest

from etude import models
from etude.optim._registry import build
from etude.problem import Problem
from etude.recipe import Optimization
from etude.tasks import choose
from etude.tasks._base import Evidence

SET = """
import numpy as np
rng = np.random.default_rng(0)
x = rng.integers(0, 256, (6, 8, 8, 1)).astype("uint8")
y = rng.integers(0, 2, (6, 8, 8)).astype("uint8")
y[:, :2] = 7
"""

LOAD = """
import sys, json, etude
assert "keras" not in sys.modules
model = etude.load_model(sys.argv[1])
print(json.dumps(model.evaluate(x, y, verbose=0, return_dict=True)))
"""

BY_PATH = """
import sys, json
from etude.problem import Problem
model = Problem.inspect(sys.argv[1], (x, y), ignore_label=7).model
print(json.dumps(model.evaluate(x, y, verbose=0, return_dict=True)))
"""

BY_COMMAND = """
import sys, json
from etude import _command_data
from etude.data import open_source
model = _command_data.model_maker(sys.argv[1], open_source((x, y)))()
print(json.dumps(model.evaluate(x, y, verbose=0, return_dict=True)))
"""

PLAIN = """
import sys, json, keras
try:
    keras.saving.load_model(sys.argv[1])
except TypeError as error:
    assert "Masked" in str(error)
else:
    raise AssertionError("the control must fail: nobody told Keras of the class")
plain = keras.saving.load_model(sys.argv[1], compile=False)
assert not plain.compiled and plain.output_shape == (None, 8, 8, 1)
"""


OPTIMIZERS = """
import sys, keras, numpy as np
for name in ("lamb", "lars"):
    path = f"{sys.argv[1]}/{name}.keras"
    try:
        keras.saving.load_model(path)
    except TypeError as error:
        assert name.upper() in str(error)
    else:
        raise AssertionError("the control must fail: Keras has another Lamb")
import etude
set_ = np.load(f"{sys.argv[1]}/set.npz")
for name in ("lamb", "lars"):
    model = etude.load_model(f"{sys.argv[1]}/{name}.keras")
    model.fit(set_["x"], set_["y"], batch_size=4, epochs=2, shuffle=False, verbose=0)
    np.savez(f"{sys.argv[1]}/{name}.npz", *model.get_weights())
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A segmentation model with Étude's loss and metrics, and what it evaluates to."""
    names: dict[str, Any] = {}
    exec(SET, names)
    evidence = Evidence(
        label_shape=(8, 8),
        label_dtype="uint8",
        labels=names["y"],
        output_shape=(8, 8, 1),
        logits=True,
        image_shape=(8, 8, 1),
        ignore=7,
    )
    task = choose(evidence, "semantic_segmentation")
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Rescaling(1 / 255), keras.layers.Conv2D(1, 3, padding="same")]
    model = keras.Sequential([keras.Input((8, 8, 1)), *layers])
    model.compile("adam", task.loss(), metrics=task.metrics())
    figures = model.evaluate(names["x"], names["y"], verbose=0, return_dict=True)
    assert np.isfinite(list(figures.values())).all() and len(figures) == 3
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    model.save(path)
    return path, figures


@pytest.mark.parametrize(
    "code",
    [SET + LOAD, PLAIN + SET + LOAD.replace("assert", "#"), SET + BY_PATH, SET + BY_COMMAND],
    ids=["etude", "keras first", "by path", "by command"],
)
def test_a_fresh_process_loads_and_evaluates_alike(saved, code) -> None:
    path, figures = saved
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == pytest.approx(figures, rel=1e-6)


def test_a_fresh_process_trains_on_with_the_optimizers_of_etude(tmp_path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 5)).astype("float32"), rng.normal(size=(12, 2)).astype("float32")
    np.savez(tmp_path / "set.npz", x=x, y=y)
    trained = {}
    for name in ("lamb", "lars"):
        settings = Optimization(name, learning_rate=0.1, momentum=0.8, weight_decay=0.01)
        model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(2)])
        model.compile(build(settings), "mse")
        model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
        model.save(tmp_path / f"{name}.keras")
        model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
        trained[name] = model
    done = subprocess.run(
        [sys.executable, "-c", OPTIMIZERS, str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    for name, model in trained.items():
        found = np.load(tmp_path / f"{name}.npz")
        for index, weight in enumerate(model.get_weights()):
            np.testing.assert_array_equal(found[f"arr_{index}"], weight)


DEPTH = """
import sys, json, numpy as np, etude
set_ = np.load(f"{sys.argv[1]}/set.npz")
model = etude.load_model(f"{sys.argv[1]}/depth.keras")
np.save(f"{sys.argv[1]}/outputs.npy", model(set_["x"].astype("float32")))
print(json.dumps(model.evaluate(set_["x"], set_["y"], verbose=0, return_dict=True)))
"""


def test_a_fresh_process_loads_a_network_of_depth_with_its_measures(tmp_path) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (6, 9, 12, 3)).astype("uint8")
    y = rng.uniform(0.5, 5.0, (6, 9, 12)).astype("float32")
    y[:, :2] = 0.0
    np.savez(tmp_path / "set.npz", x=x, y=y)
    model = models.build("dispnet", (9, 12, 3), 1, width=2, levels=2, farthest=6.0, seed=0)
    task = Problem.inspect(model, (x, y)).task
    model.compile("adam", task.loss(), metrics=task.metrics())
    figures = model.evaluate(x, y, verbose=0, return_dict=True)
    assert len(figures) == 7 and np.isfinite(list(figures.values())).all()
    model.save(tmp_path / "depth.keras")
    done = subprocess.run(
        [sys.executable, "-c", DEPTH, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == pytest.approx(figures, rel=1e-6)
    outputs = np.asarray(model(x.astype("float32")))
    np.testing.assert_array_equal(np.load(tmp_path / "outputs.npy"), outputs)
