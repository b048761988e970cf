"""Perfect shuffles: what the order of samples is, and streams of sample positions.

One function, `permutation`, says what epoch `e` of a run with seed `s` looks like. Everything else
(streams of ids, shuffled arrays, shuffled folders, restarts) is a view of the endless concatenation
`permutation(n, s, 0), permutation(n, s, 1), ...`, cut into batches. A batch may cross the border of
two epochs, so every batch is full, every sample is seen equally often and a position is a number.

`tf.random.experimental.index_shuffle` is not used: its neighbouring epochs are correlated.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from etude.errors import DataError

if TYPE_CHECKING:
    import tensorflow as tf

_SEED_MASK = 2**63 - 1
_GRAPH_SEED = 20_250_101


def seed_number(seed: int) -> int:
    """`seed` as a non-negative 63-bit number, which TensorFlow and NumPy both take.

    Raises:
        DataError: It is no integer.
    """
    if isinstance(seed, bool) or not hasattr(seed, "__index__"):
        raise DataError(
            "The seed is not a whole number.",
            required="an integer, for example seed=0",
            received=repr(seed),
            advice="mend `seed`",
        )
    return operator.index(seed) & _SEED_MASK


def _permuted(n: int, seed: int, epoch: Any) -> Any:
    """The order of an epoch as an int64 tensor `(n,)`; `epoch` may be a tensor."""
    import tensorflow as tf

    key = tf.stack([tf.constant(seed_number(seed), tf.int64), tf.cast(epoch, tf.int64)])
    # The generator is named: left to choose, TensorFlow takes another one on another device.
    return tf.random.experimental.stateless_shuffle(
        tf.range(n, dtype=tf.int64), seed=key, alg="philox"
    )


def permutation(n: int, seed: int, epoch: int) -> np.ndarray[Any, Any]:
    """The order of the samples in one epoch: THE definition of the shuffle.

    Args:
        n: Number of samples, at least 1.
        seed: Seed of the run.
        epoch: Which epoch, from 0.

    Returns:
        A permutation of `0..n-1`, int64, shape `(n,)`; a function of the arguments alone.
    """
    import tensorflow as tf

    with tf.device("CPU:0"):
        return np.asarray(_permuted(n, seed, epoch))


def id_stream(n: int, batch_size: int, seed: int, start: int = 0) -> tf.data.Dataset:
    """Endless batches of sample ids: step `s` holds positions `s*b` to `(s+1)*b - 1`.

    Positions count along the concatenated permutations of epochs 0, 1, 2, ...

    Args:
        n: Number of samples.
        batch_size: Ids in a batch; may exceed `n`.
        seed: Seed of the run.
        start: The step to begin with. Nothing before it is produced: a restart costs nothing.

    Returns:
        A dataset of int64 tensors `(batch_size,)`. Their static shape is open, so that one trace
        of a step serves every size.
    """
    import tensorflow as tf

    if n < 1 or batch_size < 1 or start < 0:
        raise ValueError(
            f"n and batch_size must be at least 1 and start at least 0; "
            f"received n={n}, batch_size={batch_size}, start={start}."
        )
    first_epoch, offset = divmod(start * batch_size, n)

    def epoch_ids(epoch: Any) -> Any:
        skipped = tf.where(tf.equal(epoch, first_epoch), tf.constant(offset, tf.int64), 0)
        return _permuted(n, seed, epoch)[skipped:]

    # `rebatch` cuts whole epochs by slices: ids never pass through tf.data one at a time.
    epochs = tf.data.Dataset.counter(first_epoch).map(epoch_ids)
    return untuned(epochs.rebatch(batch_size, drop_remainder=False))


def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The dataset without TensorFlow's autotuning.

    Every iterator of a tuned dataset has a thread of its own, and giving the iterator back waits
    for that thread, now and then for as long again as it was used, up to a minute. Where a
    pipeline leaves its parallelism to TensorFlow, it has one call per thread without tuning.
    """
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def ids_in_order(n: int, batch_size: int) -> tf.data.Dataset:
    """One pass over the ids `0..n-1`, int64, in order; the last batch may be smaller."""
    import tensorflow as tf

    starts = tf.data.Dataset.range(0, n, batch_size)
    return untuned(starts.map(lambda first: tf.range(first, tf.minimum(first + batch_size, n))))


def shuffled_passes(
    samples: tf.data.Dataset, buffer_size: int, seed: int, *, endless: bool
) -> tf.data.Dataset:
    """Endless passes over a dataset of single samples, each through its own shuffle buffer.

    The seed of every pass is drawn from `seed`, and each iterator of the result begins anew. When
    a pass comes up empty (a generator that can be read once only), the stream ends, it does not
    hang.

    Args:
        samples: Single samples.
        buffer_size: Samples in the buffer.
        seed: Seed of the run.
        endless: Whether `samples` is endless by itself, hence one pass.
    """
    import tensorflow as tf

    def passes(_: Any) -> tf.data.Dataset:
        # Inside a traced function this fixes the seed of this function's graph only; else the
        # order would also depend on the process-wide seed of TensorFlow.
        tf.compat.v1.set_random_seed(_GRAPH_SEED)
        mixed = samples.shuffle(buffer_size, seed=seed_number(seed), reshuffle_each_iteration=True)
        # Without something in between TensorFlow fuses the shuffle with the repetition, and the
        # fused operation spins for ever on a pass that comes up empty.
        return mixed if endless else mixed.prefetch(1).repeat()

    return untuned(tf.data.Dataset.from_tensors(0).flat_map(passes))


def flat_passes(
    one_pass: Callable[[Any], tf.data.Dataset], n: int, buffer_size: int, seed: int
) -> tf.data.Dataset:
    """Endless passes over `n` groups of samples: groups permuted, then samples in a buffer.

    Args:
        one_pass: From an order of groups, int64 `(n,)`, to its single samples.
        n: Number of groups.
        buffer_size: Samples in the buffer of each pass.
        seed: Seed of the run; pass `p` takes its order and its buffer's draws from `(seed, p)`.
    """
    import tensorflow as tf

    def passed(epoch: Any) -> tf.data.Dataset:
        tf.compat.v1.set_random_seed(_GRAPH_SEED)
        key = tf.stack([tf.constant(seed_number(seed), tf.int64), tf.cast(epoch, tf.int64)])
        draw = tf.random.stateless_uniform(
            (), key, minval=0, maxval=2**62, dtype=tf.int64, alg="philox"
        )
        samples = one_pass(_permuted(n, seed, epoch))
        return samples.shuffle(buffer_size, seed=draw, reshuffle_each_iteration=False)

    return untuned(tf.data.Dataset.counter(0).flat_map(passed))
