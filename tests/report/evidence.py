"""Invented findings of every learner, as stored reports have them, and a whole report."""

from __future__ import annotations

import base64
import io
import math
import random
from typing import Any

from PIL import Image

from etude.augment.policy import Choice, Policy, Slot
from etude.findings import Cost, Finding
from etude.recipe import Recipe
from etude.report import Report


def finding(learner: str, evidence: dict[str, Any], changes: dict[str, Any] | None = None,
            why: str = "It is so.", writes: str = "optimization") -> Finding:  # fmt: skip
    return Finding(
        learner, ("compute",), writes, changes or {}, why, evidence, Cost(5.8, 150),
        Cost(6.4, 160), "key", 0.2,
    )  # fmt: skip


def range_test(low: float = 1e-3, steps: int = 100, seed: int = 0, best: float = 0.062) -> Any:
    """A loss that falls, is lowest at `best`, and explodes a decade above."""
    draw = random.Random(seed)
    rates = [low * 10 ** (4 * i / (steps - 1)) for i in range(steps)]
    losses: list[float] = []
    for rate in rates:
        decades = math.log10(rate / best)
        level = 1.3 + 1.1 / (1 + math.exp(3.2 * (decades + 1.1))) + 0.9 * max(0.0, decades) ** 2
        losses.append(level + draw.gauss(0, 0.06) + math.exp(6 * (decades - 1.1)))
    end = next((i for i, rate in enumerate(rates) if rate > 13 * best), steps)
    found = {
        "rate": best / 2, "why": f"the loss is lowest at {best:.3g}", "steepest": best / 9,
        "minimum": best, "divergence": rates[end] if end < steps else None, "reliable": True,
        "extend": "", "fall": 0.9, "noise": 0.03,
    }  # fmt: skip
    return {"rates": rates[:end], "losses": losses[:end], "found": found, "spent": end}


def learning_rate() -> Finding:
    return finding(
        "learning_rate",
        {"tests": [range_test()]},
        {"learning_rate": 0.031},
        "In a range test the loss is lowest at 0.062, in a test from 0.001 to 0.8; the peak "
        "rate is that / 2.",
    )


def learning_rate_twice() -> Finding:
    flat = range_test(1e-5, 60, 2, best=2.0)
    flat["found"] |= {"rate": None, "reliable": False, "extend": "up", "minimum": None,
                      "steepest": None}  # fmt: skip
    return finding(
        "learning_rate",
        {
            "tests": [flat, range_test(1e-3, 60, 1)],
            "carried": {"from_batch": 64, "to_batch": 256, "rate": 0.062},
            "confirmed": [
                {"rate": 0.031, "score": 0.871, "steps": 60, "error": 0.004},
                {"rate": 0.062, "score": 0.884, "steps": 60, "error": None},
                {"rate": 0.124, "score": 0.862, "steps": 60, "error": 0.006},
            ],
        },
        {"learning_rate": 0.062},
    )


def batch_size(high: float | None = 410.0) -> Finding:
    sizes = [16, 32, 64, 128, 256, 512, 1024]
    seconds = [0.021 + 0.00008 * n for n in sizes]
    times = [(1 + 210 / n) * t for n, t in zip(sizes, seconds, strict=True)]
    return finding(
        "batch_size",
        {
            "noise_scale": {"value": 210.0, "low": 120.0, "high": high, "gradient": 0.02,
                            "trace": 4.2, "rounds": 12},
            "batch_sizes": sizes,
            "step_seconds": seconds,
            "relative_time": [t / times[2] for t in times],
            "chosen": 256,
            "own": 64,
        },
        {"batch_size": 256},
        "The gradient noise scale is 210 samples (120 to 410, 95 %); of 7 sizes from 16 to 1024 "
        "256 reaches a fixed loss in 23 % less time.",
        writes="compute",
    )  # fmt: skip


def compute() -> Finding:
    rows = [
        ("float32", False, 1, 0.0712, 2.1, ""),
        ("float32", False, 8, 0.0702, 4.4, "1 % faster, less than the 5 % that it must gain"),
        ("float32", True, 1, 0.0421, 21.4, ""),
        ("float32", True, 8, 0.0409, 23.9, ""),
        ("mixed_bfloat16", True, 8, None, None, "failed: Conv2D has no bfloat16 kernel on CPU"),
        ("mixed_float16", True, 1, 0.131, 19.8, "slower: this device computes half precision "
         "in software, and converts every value twice"),
    ]  # fmt: skip
    names = ("precision", "xla", "steps_per_execution", "step_seconds", "compile_seconds", "note")
    variants = [dict(zip(names, row, strict=True)) for row in rows]
    for variant in variants:
        step: Any = variant["step_seconds"]
        variant["samples_per_second"] = None if step is None else 64 / step
    sizes = [16, 32, 64, 128, 256, 512]
    return finding(
        "compute",
        {
            "variants": variants,
            "chosen": 3,
            "batch_sizes": sizes,
            "step_seconds": [0.002 + 0.0006 * n for n in sizes],
            "forward_seconds": [0.001 + 0.0002 * n for n in sizes],
            "fits": {"train": 512, "evaluate": 2048},
        },
        {"xla": True, "steps_per_execution": 8},
        writes="compute",
    )


def optimizer() -> Finding:
    draw = random.Random(3)
    race = []
    for name, rate, end, score, error in (
        ("adam", 0.0031, 0.62, 0.831, 0.004),
        ("sgd", 0.31, 0.66, 0.866, 0.006),
        ("lamb", 0.012, 0.55, 0.804, None),
        ("lion", 0.00042, 0.63, 0.858, 0.005),
    ):
        losses = [end + 1.7 * math.exp(-i / 25) + draw.gauss(0, 0.08) for i in range(120)]
        race.append({"optimizer": name, "rate": rate, "score": score, "error": error,
                     "losses": losses, "steps": 120})  # fmt: skip
    return finding("optimizer", {"race": race, "chosen": "lamb"}, {"optimizer": "lamb"})


def descent(count: int = 8) -> Finding:
    start = {"momentum": 0.9, "weight_decay": 1e-4, "batch_norm_momentum": 0.9,
             "learning_rate": 0.031}  # fmt: skip
    trials: list[dict[str, Any]] = [
        {"values": dict(start), "axis": None, "score": 0.871, "error": None, "kept": True}
    ]
    moves = [
        ("momentum", 0.95, 0.875, True), ("momentum", 0.98, 0.868, False),
        ("weight_decay", 5e-4, 0.878, True), ("weight_decay", 2.5e-3, 0.861, False),
        ("batch_norm_momentum", 0.99, 0.84, False), ("batch_norm_momentum", 0.8, 0.879, False),
        ("learning_rate", 0.046, 0.883, True), ("learning_rate", 0.069, None, False),
    ]  # fmt: skip
    values = dict(start)
    for index in range(count):
        axis, value, score, kept = moves[index % len(moves)]
        trials.append({"values": values | {axis: value}, "axis": axis, "score": score,
                       "error": 0.003, "kept": kept})  # fmt: skip
        values = values | {axis: value} if kept else values
    return finding("descent", {"trials": trials}, {"momentum": 0.95, "weight_decay": 5e-4})


def jpeg(wide: int, tall: int) -> str:
    """A picture as findings hold them."""
    stream = io.BytesIO()
    Image.effect_noise((wide, tall), 60).convert("RGB").save(stream, "JPEG")
    return base64.b64encode(stream.getvalue()).decode("ascii")


def augmentation() -> Finding:
    told = [
        ("off", 2.14, 0, None, True), ("mirrored, colour 3", 1.75, 0, 0.04, True),
        ("mirrored, colour 4", 1.89, 0, 0.05, True), ("colour 3", 1.79, 1, 0.02, False),
        ("mirrored, colour 3, cutmix", 1.7, 1, 0.01, True),
    ]  # fmt: skip
    trials = [
        {"config": [0], "told": name, "score": score, "base": base, "error": error,
         "difference": -0.1, "adopted": adopted}
        for name, score, base, error, adopted in told
    ]  # fmt: skip
    names, magnitudes = ["rotation", "hue"], [0.0, 10.0, 25.0, 50.0, 75.0, 100.0]
    members = [[["rotation", 50.0], ["hue", 50.0]], [["hue", 100.0]]]
    return finding(
        "augmentation",
        {
            "trials": trials,
            "chosen": 4,
            "second_heat": [-0.2, 0.01],
            "distances": {
                "names": names, "magnitudes": magnitudes,
                "values": [[0.0, 0.1, 0.2, 0.4, 1.2, 3.1], [0.0, 0.01, 0.1, 0.31, 0.7, 0.9]],
            },
            "groups": [
                {"cluster": "colour", "index": index, "members": inside, "farthest": 1.0}
                for index, inside in enumerate(members)
            ],
            "pictures": {"sheet": jpeg(24, 16), "samples": jpeg(64, 32)},
        },
        {"policy": Policy((Slot((Choice("hue", 0.0, 50.0),), name="colour"),))},
        writes="augmentation",
    )  # fmt: skip


def sampling() -> Finding:
    return finding(
        "sampling",
        {
            "taus": [1.1, 1.4, 2.2, 3.0, 3.4, 3.5], "steps": [14, 42, 70, 98, 126, 154],
            "forward": 0.2,
            "speed_ups": {"2.0": 1.02, "3.0": 1.13, "4.0": 1.21, "5.0": 1.19, "6.0": 1.1},
            "presample": 4.0, "threshold": 1.809, "open_share": 0.6,
            "heats": [[-0.1, 0.01], [-0.08, 0.01]],
        },
        {"strategy": "upper_bound", "presample": 4.0, "forward": 0.2},
        writes="sampling",
    )  # fmt: skip


def sampled() -> Finding:
    return finding(
        "sampled",
        {
            "strategy": "upper_bound", "epochs": [1.0, 2.0, 3.0, 3.5], "taus": [1.2, 2.1, 3.0, 3.3],
            "open": [0.0, 0.25, 1.0, 1.0], "presample": 4.0, "forward": 0.2, "threshold": 1.8,
            "promised": 1.21, "speed_up": 1.17,
            "scores": {"edges": [0.01, 0.1, 0.5, 1.2], "counts": [40, 12, 3]},
            "draws": {"times": [0, 1, 2, 5], "samples": [30, 16, 8, 1]},
            "most": [5, 2, 2], "least": [0, 0, 0], "pictures": jpeg(120, 80),
        },
        writes="sampling",
    )  # fmt: skip


def unlabeled() -> Finding:
    gaps = {
        f"batch_normalization_{i}": {"wasserstein": 0.18 + 0.05 * i, "control": 0.12,
                                     "divergence": 0.16, "reverse": 0.17, "different": 0.06}
        for i in range(4)
    }  # fmt: skip
    return finding(
        "unlabeled",
        {
            "costs": {"labelled": 1.0, "joint": 1.9, "straight_through": 1.4}, "gaps": gaps,
            "forms": {"straight_through": [-0.08, 0.01], "joint": [0.02, 0.015]},
            "heats": [[-0.08, 0.01], [-0.07, 0.01]],
        },
        {"batch_norm": "straight_through"},
        writes="semisupervised",
    )  # fmt: skip


def unlabeled_use() -> Finding:
    rows: list[dict[str, Any]] = [
        {"arm": "none", "order": 0, "loss": 1.62, "score": 0.431, "seconds": 21.0, "steps": 900},
        {"arm": "pretrained", "order": 0, "loss": 1.66, "score": 0.42, "seconds": 21.4,
         "steps": 610, "against": "none", "difference": 0.04, "error": 0.016, "bound": 2.82},
        {"arm": "noisy_student", "order": 0, "loss": 1.53, "score": 0.452, "seconds": 21.1,
         "steps": 700, "against": "none", "difference": -0.09, "error": 0.02, "bound": 2.82},
        {"arm": "none", "order": 1, "loss": 1.6, "score": 0.437, "seconds": 20.8, "steps": 900},
        {"arm": "noisy_student", "order": 1, "loss": 1.54, "score": 0.449, "seconds": 21.2,
         "steps": 700, "against": "none", "difference": -0.06, "error": 0.019, "bound": 2.82},
    ]  # fmt: skip
    return finding(
        "unlabeled_use",
        {
            "arms": rows, "left_out": {}, "pick": "noisy_student", "monitor": "accuracy",
            "seconds_each": 20.5, "judges": 330, "withheld": 180, "then": "more is studied",
        },
        {"method": "noisy_student"},
        writes="semisupervised",
    )  # fmt: skip


def length() -> Finding:
    return finding(
        "length",
        {
            "steps": 4100, "epochs": 30.9, "seconds": 588.0, "step_seconds": 0.11,
            "evaluation_seconds": 1.9,
            "shares": {"study": 81.0, "training": 451.0, "evaluation": 51.0, "finish": 5.0},
        },
        writes="compute",
    )  # fmt: skip


def findings() -> tuple[Finding, ...]:
    """One of each."""
    return (
        compute(),
        batch_size(),
        learning_rate(),
        optimizer(),
        augmentation(),
        descent(),
        sampling(),
        unlabeled_use(),
        unlabeled(),
        sampled(),
        length(),
    )


def history(rows: int = 24) -> dict[str, list[float]]:
    draw = random.Random(5)
    epochs = [0.5 * (i + 1) for i in range(rows)]
    fall = [math.exp(-e / 3) for e in epochs]
    share = [e / epochs[-1] for e in epochs]
    return {
        "epoch": epochs,
        "learning_rate": [0.031 * max(1e-4, min(s / 0.25, (1 - s) / 0.75)) for s in share],
        "accuracy": [0.97 - 0.6 * f + draw.gauss(0, 0.004) for f in fall],
        "loss": [0.1 + 1.9 * f + draw.gauss(0, 0.02) for f in fall],
        "val_accuracy": [0.925 - 0.55 * f + draw.gauss(0, 0.008) for f in fall],
        "val_loss": [0.26 + 1.6 * f + 0.012 * e + draw.gauss(0, 0.02)
                     for f, e in zip(fall, epochs, strict=True)],
    }  # fmt: skip


COSTS = (
    {"part": "inspection", "predicted": None, "true": 0.43},
    {"part": "measuring", "predicted": None, "true": 13.7},
    {"part": "study: learning rate", "predicted": 5.8, "true": 6.4},
    {"part": "study: batch size", "predicted": 9.1, "true": 7.7},
    {"part": "training", "predicted": 451.0, "true": 472.2},
    {"part": "evaluation", "predicted": 51.0, "true": 44.0},
    {"part": "storing", "predicted": None, "true": 0.6},
    {"part": "last evaluation", "predicted": None, "true": 7.3},
)


def report(**changes: Any) -> Report:
    """A whole report, with every kind of finding."""
    recipe = Recipe().give(compute={"steps_per_execution": 8})
    fields: dict[str, Any] = {
        "problem": {
            "task": "single_label", "classes": 10, "sizes": {"train": 8500, "validation": 1500},
            "monitor": "val_accuracy", "mode": "max",
        },
        "recipe": recipe.learn("learning_rate", optimization={"learning_rate": 0.031}),
        "outcome": {"loss": 0.02, "val_accuracy": 0.9273, "test_accuracy": 0.9214},
        "history": history(),
        "notes": ("15 % of the training data were held out.",),
        "findings": findings(),
        "costs": COSTS,
        "events": ("Step 412: the loss was not finite; step 400 was put back.",),
        "budget": {"time_budget": 600.0, "seconds": 588.1, "steps": 4100, "epochs_done": 30.9},
        "reason": "schedule finished",
        "seed": 0,
        "versions": {"etude": "0.1.0", "keras": "3.15.1"},
        "run_dir": "runs/first",
    }  # fmt: skip
    return Report(**{**fields, **changes})
