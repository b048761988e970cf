"""Kills a run at random moments, calls it again, and compares the weights it ends with.

Every trial forks a process that performs `etude.fit` with a `run_dir` and is killed by
SIGKILL: at a moment drawn evenly over the whole run, or, in every third trial, while a file
is being written. The same call is then repeated until it ends. The weights must be those of
a run that was never stopped, to the bit, and every file must be readable.
"""

from __future__ import annotations

import collections
import hashlib
import os
import random
import shutil
import signal
import tempfile
import time
from pathlib import Path

from _common import finish, parser

import keras  # isort: skip

import etude
import etude._fit  # before any fork: importing takes longer than the run
import etude.storage
from etude.data import fashion_mnist
from etude.recipe import Recipe
from etude.training import conductor, snapshot

SEED, EPOCHS = 5, 12


def perform(folder: Path) -> None:
    """The run: study, training with everything random switched on, files."""
    conductor.STORE_SECONDS, conductor.STORE_SHARE = 0.2, 0.0  # states within segments too
    (x, y), _ = fashion_mnist.load()
    keras.utils.set_random_seed(SEED)
    model = keras.Sequential(
        [
            keras.layers.Input((28, 28, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(8, 3, strides=2, use_bias=False),
            keras.layers.BatchNormalization(momentum=0.9),
            keras.layers.ReLU(),
            keras.layers.RandomTranslation(0.1, 0.1),
            keras.layers.Conv2D(8, 3, strides=2, activation="relu"),
            keras.layers.Dropout(0.2),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    recipe = Recipe().give(
        regularization={"ema_decay": 0.99, "clip_norm": 1.0, "label_smoothing": 0.05}
    )
    etude.fit(
        model, (x[:2000], y[:2000]), recipe=recipe, epochs=EPOCHS, seed=SEED, run_dir=folder,
        verbose=0,
    )  # fmt: skip
    digest = hashlib.sha256()
    for variable in model.variables:
        digest.update(keras.ops.convert_to_numpy(variable).tobytes())
    etude.storage.write_json(folder / "digest.json", digest.hexdigest())


def start(folder: Path) -> int:
    """Begins the run in a process of its own."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            with open(folder.parent / f"{folder.name}.log", "a") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
                perform(folder)
            status = 0
        finally:
            os._exit(status)
    return pid


def ended(pid: int) -> int | None:
    """The exit status, once the process has ended."""
    done, status = os.waitpid(pid, os.WNOHANG)
    return None if done == 0 else os.waitstatus_to_exitcode(status)


def stage(folder: Path) -> str:
    """What the run was doing, by what is on the disk."""
    if any(folder.glob(".unfinished-*")):
        return "writing"
    if (folder / "report.json").exists() or (folder / "model.keras").exists():
        return "reporting"
    if (folder / "state.npz").exists():
        return "training"
    return "study" if (folder / "call.json").exists() else "inspecting"


def unreadable(folder: Path) -> list[str]:
    """Files that cannot be read; unfinished ones are not files of the run."""
    bad = []
    for path in folder.iterdir():
        try:
            if path.name.startswith(".unfinished-"):
                continue
            if path.suffix == ".npz":
                snapshot.read(path)
            elif path.suffix == ".json":
                etude.storage.read_json(path)
            elif path.suffix == ".yaml":
                Recipe.load(path)
        except Exception as error:
            bad.append(f"{path.name}: {error}")
    return bad


def kill_once(folder: Path, moment: float, while_writing: bool) -> str:
    """Starts the run and kills it; returns the stage it was in, or "ended"."""
    pid = start(folder)
    begin = time.monotonic()
    while True:
        status = ended(pid)
        if status is not None:
            if status:
                raise SystemExit(f"the run failed by itself: see {folder}.log")
            return "ended"
        waited = time.monotonic() - begin
        if waited >= moment and (not while_writing or any(folder.glob(".unfinished-*"))):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return stage(folder)
        time.sleep(0.0002 if waited >= moment else 0.005)


def main() -> None:
    """Prints how many ended, how many with the same bits, and where they were killed."""
    made = parser(__doc__)
    made.add_argument("--kills", type=int, default=100)
    options = made.parse_args()
    kills = 3 if options.quick else options.kills
    root = Path(tempfile.mkdtemp(prefix="etude-resume-"))
    reference = root / "reference"
    begin = time.monotonic()
    pid = start(reference)
    while (status := ended(pid)) is None:
        time.sleep(0.05)
    length = time.monotonic() - begin
    if status:
        raise SystemExit(f"the reference failed: see {reference}.log")
    want = etude.storage.read_json(reference / "digest.json")
    rng = random.Random(0)
    stages: collections.Counter[str] = collections.Counter()
    same, readable, trials = 0, 0, 0
    while sum(stages.values()) < kills:
        folder = root / f"run{trials}"
        trials += 1
        folder.mkdir()
        found = kill_once(folder, rng.uniform(0.0, length), while_writing=trials % 3 == 0)
        if found == "ended":  # it was quicker than the moment: not a kill
            shutil.rmtree(folder)
            continue
        stages[found] += 1
        bad = unreadable(folder)
        if kill_once(folder, float("inf"), False) != "ended":
            raise SystemExit(f"{folder} did not end")
        bad += unreadable(folder)
        equal = etude.storage.read_json(folder / "digest.json") == want
        same += equal
        readable += not bad
        if bad or not equal:
            print(f"{folder}: killed while {found}: equal {equal}, unreadable {bad}", flush=True)
        else:
            shutil.rmtree(folder)
        count = sum(stages.values())
        if count % 10 == 0:
            print(f"{count} kills: {same} same bits, {readable} all readable", flush=True)
    print(f"killed while: {dict(stages)}; a whole run takes {length:.1f} s")
    finish(
        "resume",
        n=kills,
        same_bits=same,
        all_files_readable=readable,
        stages=dict(stages),
        run_seconds=length,
        reached=same == kills and readable == kills,
    )


if __name__ == "__main__":
    main()
