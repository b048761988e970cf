"""Étude studies a Keras vision model and its data, then trains it with what it learned.

Example:
    ```python
    import etude

    report = etude.fit(model, train_data, validation_data)
    report.summary()
    ```

Names are resolved when they are first used (PEP 562), so that `import etude` takes
milliseconds and brings in neither TensorFlow nor Keras nor NumPy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from etude import augment as augment
    from etude import data as data
    from etude import errors as errors
    from etude import metalearners as metalearners
    from etude import models as models
    from etude import sampling as sampling
    from etude._fit import fit as fit
    from etude._fit import plan as plan
    from etude._fit import train as train
    from etude._fit import tune as tune
    from etude._pretrain import Pretraining as Pretraining
    from etude._pretrain import pretrain as pretrain
    from etude._self_training import Round as Round
    from etude._self_training import SelfTraining as SelfTraining
    from etude._self_training import distill as distill
    from etude._self_training import noisy_student as noisy_student
    from etude.findings import Finding as Finding
    from etude.problem import Problem as Problem
    from etude.recipe import Recipe as Recipe
    from etude.report import Plan as Plan
    from etude.report import Report as Report
    from etude.report import Tuning as Tuning
    from etude.saving import load_model as load_model
    from etude.training.importance_sampling import ImportanceSampling as ImportanceSampling
    from etude.training.pretrainer import HardViews as HardViews
    from etude.training.progressive import Progressive as Progressive
    from etude.training.trainer import Trainer as Trainer

__version__ = "0.1.0"

# Where each public name lives.
_HOMES = {
    "fit": "etude._fit",
    "plan": "etude._fit",
    "train": "etude._fit",
    "tune": "etude._fit",
    "pretrain": "etude._pretrain",
    "noisy_student": "etude._self_training",
    "distill": "etude._self_training",
    "load_model": "etude.saving",
    "Finding": "etude.findings",
    "HardViews": "etude.training.pretrainer",
    "ImportanceSampling": "etude.training.importance_sampling",
    "Plan": "etude.report",
    "Pretraining": "etude._pretrain",
    "Problem": "etude.problem",
    "Progressive": "etude.training.progressive",
    "Recipe": "etude.recipe",
    "Report": "etude.report",
    "Round": "etude._self_training",
    "SelfTraining": "etude._self_training",
    "Trainer": "etude.training.trainer",
    "Tuning": "etude.report",
}
_MODULES = frozenset({"augment", "data", "errors", "metalearners", "models", "sampling"})

__all__ = [
    "Finding",
    "HardViews",
    "ImportanceSampling",
    "Plan",
    "Pretraining",
    "Problem",
    "Progressive",
    "Recipe",
    "Report",
    "Round",
    "SelfTraining",
    "Trainer",
    "Tuning",
    "__version__",
    "augment",
    "data",
    "distill",
    "errors",
    "fit",
    "load_model",
    "metalearners",
    "models",
    "noisy_student",
    "plan",
    "pretrain",
    "sampling",
    "train",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"etude.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'etude' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
