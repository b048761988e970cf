"""Plain Keras for as long, as something to compare a run with."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any

import keras
from rich import box
from rich.console import Console
from rich.table import Table

from etude.problem import Problem
from etude.report import text

if TYPE_CHECKING:
    from etude._command_data import Sets
    from etude.budget import Clock
    from etude.data import Source
    from etude.report import Report

BATCH_SIZE = 32  # Keras' own default
MEMORY = 4 * 2**30


@dataclasses.dataclass(frozen=True)
class Baseline:
    """How plain Keras did.

    Attributes:
        seconds: Time in `model.fit`, compilation and its evaluations included.
        epochs: Passes over the training data.
        outcome: Figures of the last weights, `val_` and `test_`.
    """

    seconds: float
    epochs: float
    outcome: dict[str, float]


class _StopAt(keras.callbacks.Callback):
    """Stops after the first batch that ends later than `seconds` after the start."""

    def __init__(self, seconds: float, clock: Clock) -> None:
        super().__init__()
        self._clock, self._end = clock, clock() + seconds
        self.batches = 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Counts, and looks at the clock."""
        self.batches += 1
        if self._clock() >= self._end:
            self.model.stop_training = True


def plain_fit(
    model: keras.Model,
    sets: Sets,
    seconds: float,
    *,
    task: str | None = None,
    seed: int = 0,
    validation_split: float = 0.15,
    ignore_label: int | None = None,
    batch_size: int = BATCH_SIZE,
    verbose: int = 0,
    clock: Clock = time.monotonic,
) -> Baseline:
    """Trains by `model.fit` with optimizer `"adam"` and Keras' defaults, for so long.

    Data, split, loss and metrics are those that Étude has for the same arguments; the
    validation data are evaluated after each epoch, as `model.fit` does when it gets them.

    Args:
        model: The network, at the weights to start from.
        sets: The data.
        seconds: When to stop.
        task: As for `etude.fit`.
        seed: As for `etude.fit`: the split follows from it.
        validation_split: As for `etude.fit`.
        ignore_label: As for `etude.fit`.
        batch_size: Of training and evaluation.
        verbose: As for `etude.fit`.
        clock: Returns seconds.
    """
    problem = Problem.inspect(
        model,
        sets.train,
        sets.validation,
        task=task,
        test=sets.test,
        seed=seed,
        validation_split=validation_split,
        ignore_label=ignore_label,
    )
    model = problem.model
    model.compile(optimizer="adam", loss=problem.loss, metrics=problem.metrics())
    keras.utils.set_random_seed(seed)
    data, steps = _training_data(problem.train, seed, batch_size)
    validation = problem.validation.in_order(batch_size)
    if verbose:
        print(f"\nPlain Keras trains the same network for {text.duration(seconds)} …", flush=True)
    start = clock()
    stop = _StopAt(seconds, clock)
    model.fit(
        **data,
        epochs=10**9,
        validation_data=validation,
        callbacks=[stop],
        verbose=0,
    )
    spent = clock() - start
    outcome: dict[str, float] = {}
    for prefix, source in (("val_", problem.validation), ("test_", problem.test)):
        if source is not None:
            figures = model.evaluate(source.in_order(batch_size), return_dict=True, verbose=0)
            outcome |= {f"{prefix}{name}": float(figure) for name, figure in figures.items()}
    return Baseline(spent, stop.batches / steps, outcome)


def _training_data(train: Source, seed: int, batch_size: int) -> tuple[dict[str, Any], float]:
    """Arguments of `model.fit`, and the number of batches in an epoch."""
    arrays = train.arrays(MEMORY)
    if arrays is not None:
        data = {"x": arrays.images, "y": arrays.labels, "sample_weight": arrays.weights}
        return {**data, "batch_size": batch_size}, len(arrays) / batch_size
    steps = max(1, (train.size or batch_size) // batch_size)
    stream = train.shuffled(batch_size, seed=seed)
    return {"x": stream, "steps_per_epoch": steps}, steps


def show(
    report: Report, seconds: float, baseline: Baseline, console: Console | None = None
) -> None:
    """Prints both side by side.

    Args:
        report: Étude's report.
        seconds: Wall-clock of the whole Étude run, studies and files included.
        baseline: What plain Keras reached.
        console: Where to; the standard output when left out.
    """
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, header_style="dim")
    table.add_column("")
    table.add_column("Étude", justify="right", style="bold")
    table.add_column("plain Keras, adam", justify="right")
    table.add_row("time", text.duration(seconds), text.duration(baseline.seconds))
    done = report.budget.get("epochs_done")
    epochs = text.MISSING if done is None else f"{done:.1f}"
    table.add_row("epochs", epochs, f"{baseline.epochs:.1f}")
    for name, figure in baseline.outcome.items():
        ours = report.outcome.get(name)
        label = name.replace("val_", "validation ", 1).replace("_", " ")
        table.add_row(label, text.MISSING if ours is None else f"{ours:.4f}", f"{figure:.4f}")
    console = console or Console()
    console.print()
    console.print("[bold cyan]Étude and plain Keras, one after the other[/]")
    console.print(
        "[dim]The same network, initial weights, training data and split; plain Keras stopped\n"
        "when it had taken as long as Étude with its studies. One run each: no spread.[/]"
    )
    console.print(table)
