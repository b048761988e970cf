"""Pure functions on gradients: accumulation over micro-batches, clipping."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops


def global_norm(gradients: Sequence[Any]) -> Any:
    """The Euclidean norm of all gradients together, a float32 scalar; `None`s count 0."""
    squares = [ops.sum(ops.square(ops.cast(g, "float32"))) for g in gradients if g is not None]
    return ops.sqrt(sum(squares[1:], start=squares[0]))


def clip_by_global_norm(
    gradients: Sequence[Any], limit: Any, whole: Sequence[Any] | None = None
) -> list[Any]:
    """Gradients scaled down together so that their norm is at most `limit`.

    Args:
        gradients: Tensors, or `None` where there is no gradient.
        limit: The norm's bound.
        whole: The gradients whose norm it is, where these are only a replica's part of them.
    """
    norm = global_norm(gradients if whole is None else whole)
    scale = ops.minimum(1.0, limit / ops.maximum(norm, 1e-30))
    return [None if g is None else g * ops.cast(scale, g.dtype) for g in gradients]


def micro_batch(values: Any, index: int, count: int) -> tuple[Any, Any]:
    """Micro-batch `index` of `count` and its share of the batch.

    Sizes differ by one at most, the larger ones first. Where a batch has fewer samples than
    micro-batches, the empty ones, which come last, hold one sample each, with share 0: a mean
    over no samples is not a number.

    Args:
        values: `(batch, ...)`.
        index: From 0.
        count: How many micro-batches there are.

    Returns:
        The part, and its float32 share in [0, 1].
    """
    size = ops.shape(values)[0]
    least, larger = size // count, size % count
    start = least * index + ops.minimum(index, larger)
    stop = start + least + ops.cast(index < larger, "int32")
    share = ops.cast(stop - start, "float32") / ops.cast(size, "float32")
    first = ops.minimum(start, size - 1)
    return values[first : ops.maximum(stop, first + 1)], share


def weighted_sum(total: Sequence[Any] | None, part: Sequence[Any], share: Any) -> list[Any]:
    """`total + share · part`, gradient by gradient; `None` stays `None`."""
    scaled = [None if g is None else g * ops.cast(share, g.dtype) for g in part]
    if total is None:
        return scaled
    return [
        t if p is None else p if t is None else t + p for t, p in zip(total, scaled, strict=True)
    ]
