"""Contiguous windows of one long sequence, for training with a carried state.

    tokens   a b c d e f g h i j k l ...
    rows     a b c d | e f g h | i j k l      batch_size = 3, row length 4
    window 0 (a b, e f, i j), window 1 (c d, g h, k l)

Window k + 1 continues window k in every row, so a state that a model carries
from one window to the next is always the state of the same text.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_seqgrad.data import buckets
from keras_seqgrad.tensors import arguments
from keras_seqgrad.truncation import Random


def stream(
    tokens: npt.ArrayLike,
    batch_size: int,
    window: int | Random,
    *,
    targets: npt.ArrayLike | None = None,
    document_starts: npt.ArrayLike | None = None,
    bucket_lengths: int | Sequence[int] | None = None,
    drop_remainder: bool = True,
    seed: int | None = None,
) -> tf.data.Dataset:
    """Cuts one long sequence into windows that continue each other.

    For models that carry their state from one window to the next (Keras'
    `stateful=True` or `keras_seqgrad.SequenceModel`). One pass over the dataset
    is one epoch: reset the state before each. Not for data made of many short
    independent sequences: batch and pad those.

    The sequence is cut into `batch_size` rows of equal length, one after the
    other: `(len(tokens) - 1) // batch_size` steps each, or
    `len(tokens) // batch_size` with `targets`. The tokens behind the last full
    row, fewer than `batch_size`, are never seen.

    **Constant windows** (`window` is an integer). Yields `(x, y)`, both
    (batch, window), where `y` is the token after `x`. What remains of the rows
    after the last full window is dropped, or kept as one shorter window with
    `drop_remainder=False`.

    **Random windows** (`window` is a `keras_seqgrad.truncation.Random`). Every
    epoch the rows are cut anew into pieces whose lengths follow the law; all
    rows have the same cuts. A window is a piece padded on the right to a
    *bucket length*, so that XLA compiles one program for each bucket and no
    more. The longest bucket is a whole row: a cut forced by a shorter one
    would be a bias that no weight can undo. Yields

        ({"inputs": x, "mask": mask}, y, sample_weight)

    where `mask` (batch, bucket) is False on padding. Give it to the recurrent
    layers as `mask=`: they pass the state through the padding and hand the
    mask on, so that Keras takes the mean of the loss over the other steps. A
    mean for each window would count a step of a short piece more than one of a
    long piece. So a step of a piece of n steps has the sample weight
    n / mean_length, which makes the loss of a window

        sum over its steps / (batch_size * mean_length)

    and every step of the epoch counts the same. Padding has weight 0. The
    stream only cuts: for gradients without bias the links inside a window must
    be weighted by `window.link_weights`. Weighted metrics count steps of long
    pieces more; measure on a stream with an integer window.

    The number of random windows differs from epoch to epoch, but `fit` takes
    the number of its first epoch for all the others and cuts longer ones
    short. Give it an endless stream and the expected number instead:

        model.fit(dataset.repeat(), epochs=epochs,
                  steps_per_epoch=round(row_length / mean_length))

    **Documents.** With `document_starts`, `x` is a dictionary with one more
    entry, `"reset"` (batch, time): True at each step whose token begins a
    document, which means that the state before this step is forgotten. The
    target of a document's last token is still the token that follows it.

    Args:
        tokens: Integer array (time,), or with `targets` any array
            (time, ...).
        batch_size: Number of rows.
        window: Steps of a window: an integer, or a `Random` law.
        targets: Array (time, ...) of what to predict at each step. Default:
            the next token.
        document_starts: Boolean array (time,), or integer positions of the
            first token of each document.
        bucket_lengths: Lengths to which random windows are padded, the longest
            of which must be the row length or more; or their number, for
            those with the least expected padding under the law (and their
            doubles for rare long pieces, which few epochs meet). Default: one
            for 50 expected windows of an epoch, at least 4 and at most 16;
            under a law with a `hazard` the few lengths of its pieces, without
            any padding but at the end of a row. More take less time a step
            and more time to compile, each once.
        drop_remainder: Whether to drop the last, shorter window of an integer
            `window`.
        seed: Integer seed of the cuts. The same seed gives the same sequence
            of epochs. Default: drawn from NumPy's global generator, which
            `keras.utils.set_random_seed` seeds.

    Returns:
        A finite `tf.data.Dataset`. Its cardinality is known for integer
        windows; random windows have another count in every epoch. What its
        windows hold goes back to one series by `keras_seqgrad.data.rejoin`.

    Raises:
        ValueError: An argument has the wrong form, the sequence is shorter
            than one window in each row, or no bucket holds a whole row.

    Reference:
        Tallec and Ollivier, 2017. Unbiasing truncated backpropagation through
        time. arXiv:1705.08209 (random windows).

    Example:

    >>> dataset = ksg.data.stream(np.arange(13), batch_size=3, window=2)
    >>> for x, y in dataset:
    ...     print(x.numpy().tolist(), y.numpy()[0].tolist())
    [[0, 1], [4, 5], [8, 9]] [1, 2]
    [[2, 3], [6, 7], [10, 11]] [3, 4]
    """
    batch_size = arguments.positive_integer(batch_size, "batch_size")
    arguments.flag(drop_remainder, "drop_remainder")
    seed = arguments.seed(seed)
    tokens = arguments.array(tokens, "tokens")
    if targets is not None:
        targets = arguments.array(targets, "targets")
    if not tokens.ndim:
        arguments.refuse(tokens, "tokens", "an array (time, ...)")
    starts = _check_starts(document_starts, len(tokens))
    tokens, targets = _check_arrays(tokens, targets)
    length = _row_length(len(targets), batch_size, window)
    rows = {
        "inputs": _rows(tokens, batch_size, length),
        "targets": _rows(targets, batch_size, length),
    }
    if starts is not None:
        rows["reset"] = _rows(starts, batch_size, length)
    if isinstance(window, Random):
        return _random_windows(rows, length, window, bucket_lengths, seed)
    _refuse_for_constant(bucket_lengths=bucket_lengths, seed=seed)
    return _constant_windows(rows, length, window, drop_remainder)


def _constant_windows(rows, length, window, drop_remainder):
    count = length // window if drop_remainder else -(-length // window)
    static_time = window if length % window == 0 or drop_remainder else None

    def cut(index):
        pieces = _slice(rows, index * window, (index + 1) * window, static_time)
        inputs, targets = pieces["inputs"], pieces["targets"]
        if "reset" in pieces:
            inputs = {"inputs": inputs, "reset": pieces["reset"]}
        return inputs, targets

    dataset = tf.data.Dataset.range(count).map(cut, tf.data.AUTOTUNE)
    return dataset.prefetch(tf.data.AUTOTUNE)


def _random_windows(rows, length, law, bucket_lengths, seed):
    bucket_lengths = buckets.check(bucket_lengths, law, length)
    if seed is None:
        seed = np.random.randint(2**31)
    epochs = iter(range(2**63))

    def draw_epoch():
        generator = np.random.default_rng([seed, next(epochs)])
        ends = _draw_ends(law, length, generator)
        starts = np.concatenate([[0], ends[:-1]])
        bucket = bucket_lengths[np.searchsorted(bucket_lengths, ends - starts)]
        return np.array([starts, ends, bucket], "int32").T

    def pieces(_):
        # No Python generator: an iterator that is left before its end would
        # ask for it to be closed, maybe when Python is no more.
        drawn = tf.numpy_function(draw_epoch, [], "int32")
        return tf.data.Dataset.from_tensor_slices(
            tf.ensure_shape(drawn, [None, 3])
        )

    def cut(bounds):
        start, end, bucket = tf.unstack(bounds)
        pieces = {
            name: _pad(piece, bucket - (end - start))
            for name, piece in _slice(rows, start, end, None).items()
        }
        mask = tf.repeat(
            (tf.range(bucket) < end - start)[tf.newaxis],
            rows["targets"].shape[0],
            axis=0,
        )
        inputs = {"inputs": pieces["inputs"], "mask": mask}
        if "reset" in pieces:
            inputs["reset"] = pieces["reset"]
        weight = tf.cast(end - start, "float32") / law.mean_length
        return inputs, pieces["targets"], tf.where(mask, weight, 0.0)

    dataset = tf.data.Dataset.range(1).flat_map(pieces)
    return dataset.map(cut, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _draw_ends(law, length, generator):
    """Ends of the pieces of a row; the last one is the end of the row."""
    # A piece that outlives the row ends with it: no loss is left behind it.
    ends = np.zeros(1, dtype="int64")
    while ends[-1] < length:
        count = 1 + int(length / law.mean_length)
        drawn = law.draw_lengths(count, generator, longest=length + 1)
        ends = np.concatenate([ends, ends[-1] + np.cumsum(drawn)])
    return np.append(ends[1:][ends[1:] < length], length)


def _rows(array, batch_size, length):
    used = array[: batch_size * length]
    with tf.device("CPU:0"):
        return tf.constant(used.reshape(batch_size, length, *array.shape[1:]))


def _slice(rows, start, end, static_time):
    pieces = {name: row[:, start:end] for name, row in rows.items()}
    for name, piece in pieces.items():
        shape = rows[name].shape
        piece.set_shape([shape[0], static_time, *shape[2:]])
    return pieces


def _pad(piece, steps):
    others = [[0, 0]] * (piece.shape.rank - 2)
    return tf.pad(piece, [[0, 0], [0, steps], *others])


def _check_arrays(tokens, targets):
    if targets is None:
        if tokens.ndim != 1 or not np.issubdtype(tokens.dtype, np.integer):
            raise ValueError(
                "`tokens` must be a 1-D array of integer ids when the target "
                "is the next token. For other sequences give what to predict "
                "at each step: stream(tokens, ..., targets=targets). "
                f"Received: tokens of shape {tokens.shape} and dtype "
                f"{tokens.dtype}"
            )
        return tokens[:-1], tokens[1:]
    if targets.shape[:1] != tokens.shape[:1]:
        raise ValueError(
            "`targets` must have one entry for each step of `tokens`. "
            f"Received: tokens of shape {tokens.shape} and targets of shape "
            f"{targets.shape}"
        )
    return tokens, targets


def _check_starts(document_starts, length):
    if document_starts is None:
        return None
    starts = arguments.array(document_starts, "document_starts")
    if starts.shape == (length,) and starts.dtype == bool:
        return starts
    if starts.ndim == 1 and np.issubdtype(starts.dtype, np.integer):
        if not starts.size or 0 <= starts.min() <= starts.max() < length:
            return np.isin(np.arange(length), starts)
    raise ValueError(
        "`document_starts` must be a boolean array with one entry for each "
        "token, or the integer positions (0 and more) of the first tokens of "
        f"the documents. Received: an array of shape {starts.shape} and dtype "
        f"{starts.dtype} for {length} tokens"
    )


def _row_length(steps, batch_size, window):
    if isinstance(window, Random):
        least = 1
    elif arguments.is_integer(window):
        least = arguments.positive_integer(window, "window")
    else:
        raise ValueError(
            "`window` must be an integer (constant windows) or a "
            "keras_seqgrad.truncation.Random (random windows). "
            f"Received: window={arguments.told(window)}"
        )
    length = steps // batch_size
    if length < least:
        raise ValueError(
            f"A row must hold at least one window of {least} steps, but "
            f"{steps} input steps make {batch_size} rows of {length}. Use a "
            f"smaller `batch_size` or `window`. Received: window={window!r}, "
            f"batch_size={batch_size}"
        )
    return length


def _refuse_for_constant(**arguments):
    for name, value in arguments.items():
        if value is not None:
            raise ValueError(
                f"`{name}` is for random windows only "
                "(window=keras_seqgrad.truncation.Random(...)); an integer "
                f"window draws nothing. Received: {name}={value!r}"
            )
