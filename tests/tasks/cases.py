"""One case for each kind of labels that a task takes: what the conformance suite runs over."""

from __future__ import annotations

import dataclasses

import numpy as np

from etude.tasks import Evidence

N, H, W, C = 12, 4, 5, 3


@dataclasses.dataclass(frozen=True)
class Case:
    """Labels of a task, `name` for the test, `key` for the task; `ignore` for pixels.

    `asked` is the task that has to be named, where labels alone do not tell it.
    """

    name: str
    key: str
    labels: np.ndarray
    output_shape: tuple[int, ...]
    ignore: int | None = None
    asked: str | None = None

    def evidence(self, logits: bool) -> Evidence:
        return Evidence(
            label_shape=self.labels.shape[1:],
            label_dtype=self.labels.dtype.name,
            labels=self.labels,
            output_shape=self.output_shape,
            logits=logits or self.key == "depth",
            image_shape=(H, W, 1),
            ignore=self.ignore,
        )

    @property
    def categorical(self) -> bool:
        """Whether classes exclude each other over the last axis of the outputs."""
        return self.key in ("single_label", "semantic_segmentation") and self.output_shape[-1] > 1

    def dense(self) -> tuple[np.ndarray, np.ndarray]:
        """Targets of the outputs' shape, and which of them count, by plain NumPy."""
        y = self.labels
        if self.key == "depth":
            return self._depths()
        if y.shape[1:] == self.output_shape and not (
            self.key == "semantic_segmentation" and self.output_shape[-1] == 1
        ):
            valid = np.ones(y.shape[:-1] if y.ndim > 1 else y.shape, bool)
            if self.key == "semantic_segmentation":
                valid = y.sum(-1) > 0
            return y.astype(np.float64), valid
        if self.key == "semantic_segmentation":
            pixels = y[..., 0] if y.ndim == 4 else y
            valid = np.ones(pixels.shape, bool) if self.ignore is None else pixels != self.ignore
            if self.output_shape[-1] == 1:
                return np.where(valid, pixels, 0)[..., None].astype(np.float64), valid
            return np.eye(C)[np.where(valid, pixels, 0)] * valid[..., None], valid
        if self.key == "single_label":
            return np.eye(C)[y.reshape(-1).astype(int)], np.ones(len(y), bool)
        return y.reshape(len(y), *self.output_shape).astype(np.float64), np.ones(len(y), bool)

    def _depths(self) -> tuple[np.ndarray, np.ndarray]:
        """Depths `(N, H, W, 1)`, pixel by pixel; 0 where there is none."""
        found = np.zeros((N, H, W, 1))
        for place in np.ndindex(N, H, W):
            value = float(self.labels.reshape(N, H, W)[place])
            if 0.0 < value < np.inf and value != self.ignore:
                found[place] = value
        return found, found[..., 0] > 0.0


def _cases() -> list[Case]:
    rng = np.random.default_rng(7)
    bits = rng.permutation(np.arange(N) % 2)
    numbers = rng.permutation(np.arange(N) % C)
    soft = rng.dirichlet(np.ones(C), N).astype(np.float32)
    multi = rng.integers(0, 2, (N, C)).astype(np.uint8)
    multi[0] = (1, 1, 0)
    masks = rng.integers(0, C, (N, H, W))
    void = rng.random((N, H, W)) < 0.25
    one_hot = np.eye(C, dtype=np.float32)[masks]
    binary = rng.integers(0, 2, (N, H, W)).astype(np.uint8)

    def ignoring(base: np.ndarray, value: int, dtype: str) -> np.ndarray:
        return np.where(void, value, base.astype(int)).astype(dtype)

    metres = rng.uniform(0.6, 6.0, (N, H, W))
    holes = np.where(void, rng.choice([0.0, -1.0, np.nan, np.inf, -np.inf], (N, H, W)), metres)
    holes[3] = 0.0  # a sample without any depth
    millimetres = np.round(1000 * np.where(void, 0, metres)).astype(np.uint16)
    seg = "semantic_segmentation"
    return [
        Case("binary_int", "binary", bits, (1,)),
        Case("binary_bool", "binary", bits.astype(bool), (1,)),
        Case("binary_float_column", "binary", bits[:, None].astype(np.float32), (1,)),
        Case("binary_scalar_output", "binary", bits.astype(np.uint8), ()),
        Case("single_int", "single_label", numbers, (C,)),
        Case("single_column", "single_label", numbers[:, None].astype(np.uint8), (C,)),
        Case("single_float", "single_label", numbers.astype(np.float32), (C,)),
        Case("single_one_hot", "single_label", np.eye(C, dtype=np.float32)[numbers], (C,)),
        Case("single_soft", "single_label", soft, (C,)),
        Case("multi_hot", "multi_label", multi, (C,)),
        Case("multi_hot_bool", "multi_label", multi.astype(bool), (C,)),
        Case("depth", "depth", metres.astype(np.float32), (H, W, 1)),
        Case("depth_holes", "depth", holes[..., None], (H, W, 1)),
        Case("depth_holes_half", "depth", holes.astype(np.float16), (H, W, 1)),
        Case("depth_integers", "depth", millimetres, (H, W, 1), asked="depth"),
        Case("depth_ignored", "depth", np.where(void, 65535, millimetres)[..., None],
             (H, W, 1), 65535, "depth"),
        Case("masks", seg, masks.astype(np.uint8), (H, W, C)),
        Case("masks_channel", seg, masks[..., None], (H, W, C)),
        Case("masks_one_hot", seg, one_hot, (H, W, C)),
        Case("masks_one_hot_void", seg, one_hot * ~void[..., None], (H, W, C)),
        Case("masks_ignore_c", seg, ignoring(masks, C, "uint8"), (H, W, C), C),
        Case("masks_ignore_255", seg, ignoring(masks, 255, "uint8")[..., None], (H, W, C), 255),
        Case("masks_ignore_minus", seg, ignoring(masks, -1, "int8"), (H, W, C), -1),
        Case("masks_ignore_inside", seg, masks, (H, W, C), 0),
        Case("binary_masks", seg, binary, (H, W, 1)),
        Case("binary_masks_channel", seg, binary[..., None].astype(bool), (H, W, 1)),
        Case("binary_masks_255", seg, ignoring(binary, 255, "uint8")[..., None], (H, W, 1), 255),
        Case("binary_masks_minus", seg, ignoring(binary, -1, "int32"), (H, W, 1), -1),
    ]  # fmt: skip


CASES = _cases()
