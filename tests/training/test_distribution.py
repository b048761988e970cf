"""Two replicas on one processor train as one process does."""

from __future__ import annotations

from pathlib import Path

import pytest

from .. import replicas

PROGRAM = """
from etude.data._base import Arrays
from etude.data.resident import Resident

rng = np.random.default_rng(0)
x = rng.random((72, 6, 6, 1)).astype("float32")
y = rng.integers(0, 3, 72)
recipe = Recipe().give(
    optimization={"optimizer": "nesterov", "learning_rate": 0.1, "schedule": "one_cycle"},
    regularization={"ema_decay": 0.8, "clip_norm": 0.2},
)

def train(resident, recipe, epochs=2):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([
        keras.layers.Input((6, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    trainer = Trainer(model, recipe)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    trainer.compile(loss=loss, metrics=["accuracy"])
    if resident:
        data, check = Resident(Arrays(x, y)), Resident(Arrays(x[:20], y[:20]))
        history = trainer.fit(
            data, batch_size=16, epochs=epochs, verbose=0, validation_data=check)
    else:
        history = trainer.fit(x, y, batch_size=16, epochs=epochs, shuffle=False, verbose=0,
                              validation_data=(x[:20], y[:20]))
    values = [history.history[k][-1] for k in ("loss", "val_loss", "val_accuracy")]
    values += trainer.evaluate(x, y, batch_size=16, verbose=0)
    return weights(model), values, trainer.predict(x[:5], verbose=0)

for resident in (False, True):
    for which in (recipe, Recipe()):
        one = train(resident, which)
        with mirrored().scope():
            two = train(resident, which)
        for a, b in zip(one, two):
            np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)
        start = train(resident, which, epochs=1)
        assert np.abs(start[0] - one[0]).max() > 1e-3  # the check can fail
"""


@pytest.mark.slow
def test_mirrored_replicas_equal_one_process(tmp_path: Path) -> None:
    replicas.run(PROGRAM, tmp_path)
