"""Programs in a process of their own, in which one processor is two devices.

TensorFlow takes the number of devices only before it has begun.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HEAD = """
import os
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras, numpy as np, tensorflow as tf
devices = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(devices[0], [tf.config.LogicalDeviceConfiguration()] * 2)
from etude.recipe import Recipe
from etude.training.trainer import Trainer

def mirrored():
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

def weights(model):
    return np.concatenate([keras.ops.convert_to_numpy(v).ravel() for v in model.weights])

"""


def run(program: str, folder: Path) -> None:
    """Runs a program after `HEAD`, which must come to its last line.

    Args:
        program: Its text; it fails by raising.
        folder: Where it is written to.
    """
    path = folder / "program.py"
    path.write_text(HEAD + program + 'print("equal")\n')
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip().endswith("equal")
