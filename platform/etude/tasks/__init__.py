"""What labels mean: one file per task, one row here."""

from __future__ import annotations

from etude.errors import DataError
from etude.tasks import binary, depth, multi_label, semantic_segmentation, single_label
from etude.tasks._base import Evidence, Task
from etude.tasks._labels import balanced_weights, shape_text

__all__ = ["NEEDS", "TASKS", "Evidence", "Task", "balanced_weights", "choose", "task_class"]

TASKS: dict[str, type[Task]] = {
    "binary": binary.Binary,
    "single_label": single_label.SingleLabel,
    "multi_label": multi_label.MultiLabel,
    "depth": depth.Depth,
    "semantic_segmentation": semantic_segmentation.SemanticSegmentation,
}

NEEDS: dict[str, str] = {
    "binary": binary.NEEDS,
    "single_label": single_label.NEEDS,
    "multi_label": multi_label.NEEDS,
    "depth": depth.NEEDS,
    "semantic_segmentation": semantic_segmentation.NEEDS,
}

SYNONYMS: dict[str, str] = {
    "binary_classification": "binary",
    "classification": "single_label",
    "categorical": "single_label",
    "multiclass": "single_label",
    "multi_class": "single_label",
    "single_label_classification": "single_label",
    "multilabel": "multi_label",
    "multi_label_classification": "multi_label",
    "depth_estimation": "depth",
    "monocular_depth": "depth",
    "segmentation": "semantic_segmentation",
    "semantic": "semantic_segmentation",
}


def task_class(name: object) -> type[Task]:
    """The task of that name, or of a synonym (`"multiclass"`, `"segmentation"`, …).

    Raises:
        DataError: No task has this name.
    """
    plain = (
        name.strip().lower().replace("-", "_").replace(" ", "_") if isinstance(name, str) else ""
    )
    found = TASKS.get(SYNONYMS.get(plain, plain))
    if found is None:
        raise DataError(
            "There is no task of this name.",
            required=f"one of {sorted(TASKS)}, or None to let Étude choose",
            received=repr(name),
            advice="mend `task`, or leave it out",
        )
    return found


def choose(evidence: Evidence, name: object = None) -> Task:
    """The task that the user named, or the one that fits labels and outputs.

    Raises:
        EtudeError: No task fits, or the named one does not.
    """
    if name is not None:
        return task_class(name)(evidence)
    for cls in TASKS.values():
        if cls.fits(evidence):
            return cls(evidence)
    raise DataError(
        "The labels and the model's outputs fit no task that Étude knows.",
        required="; or ".join(f"{task}: {needs}" for task, needs in NEEDS.items()),
        received=(
            f"labels of shape {shape_text(evidence.label_shape)} and dtype "
            f"{evidence.label_dtype}, outputs of shape {shape_text(evidence.output_shape)}"
        ),
        advice="change the model's last layer to one of these, or mend the labels",
    )
