"""The way back: from windows of a stream to the series they were cut from."""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_seqgrad.tensors import arguments


def rejoin(
    windows: Any, batch_size: int, length: int, mask: Any = None
) -> np.ndarray:
    """Joins what windows of a stream hold to one series: undoes `stream`.

    For predictions, targets or anything else that has one entry for each step
    of the windows of `keras_seqgrad.data.stream`, in the order of the windows.
    Entry t of the result belongs to step t of the sequence, wherever it was
    cut. Not for outputs that have one entry a window.

    `stream` leaves out the ends of the rows that fill no window, with
    `drop_remainder=True`, and the steps behind the last full row. Steps that no
    window holds are NaN in the result. Integers have no such value: give
    floats, or windows that leave nothing out.

    Random windows are cut anew whenever the stream is read. Keep the windows
    of one reading, and give their masks:

        kept = ksg.data.stream(...).cache()
        masks = [x["mask"] for x, *_ in kept]
        series = ksg.data.rejoin(model.predict(kept), batch_size, length, masks)

    Args:
        windows: What `predict` gives on a stream: all windows one after the
            other, (number of windows * batch_size, steps, ...), a
            `tf.RaggedTensor` where their steps differ. Or a list, or another
            iterable, of windows (batch_size, steps, ...).
        batch_size: That of the stream.
        length: Number of steps of the sequence as the stream counts them:
            `len(targets)`, or `len(tokens) - 1` where the targets are the next
            tokens.
        mask: Boolean, or numbers that are not 0, at each step that is no
            padding; in the form of `windows`. Sample weights of the stream
            will do.

    Returns:
        Array (length, ...).

    Raises:
        ValueError: The windows are not all those of such a stream, or steps of
            integers are left out.

    Example:

    >>> targets = np.arange(14.0)
    >>> dataset = ksg.data.stream(targets, 2, 3, targets=targets)
    >>> ksg.data.rejoin([x for x, y in dataset], batch_size=2, length=14)
    array([ 0.,  1.,  2.,  3.,  4.,  5., nan,  7.,  8.,  9., 10., 11., 12.,
           nan])
    """
    batch_size = arguments.positive_integer(batch_size, "batch_size")
    row_length = arguments.positive_integer(length, "length") // batch_size
    pieces = _windows(windows, batch_size, "windows")
    widest = max(piece.shape[1] for piece in pieces)
    if mask is not None:
        pieces = _without_padding(pieces, _windows(mask, batch_size, "mask"))
    rows = np.concatenate(pieces, axis=1)
    missing = row_length - rows.shape[1]
    if not 0 <= missing < widest:
        raise ValueError(
            "The windows must be all those of one pass over a stream of "
            f"`length` steps. Expected {batch_size} rows of {row_length} "
            f"steps, or fewer by less than a window of {widest}. Received "
            f"{len(pieces)} windows of {rows.shape[1]} steps in all (a random "
            "window is padded: give its mask)."
        )
    left_out = length - batch_size * rows.shape[1]
    series = np.zeros((length, *rows.shape[2:]), rows.dtype)
    if left_out and not keras.backend.is_float_dtype(rows.dtype):
        raise ValueError(
            f"{left_out} of {length} steps are in no window, and there is no "
            f"{rows.dtype} to say so. Give floats, in which they are NaN, or "
            "let the stream leave nothing out: drop_remainder=False, and a "
            f"`length` that batch_size={batch_size} divides."
        )
    if left_out:
        series.fill(np.nan)
    whole = series[: batch_size * row_length]
    whole = whole.reshape(batch_size, row_length, *rows.shape[2:])
    whole[:, : rows.shape[1]] = rows
    return series


def _windows(given, batch_size, name):
    """A list of arrays (batch_size, steps, ...)."""
    if isinstance(given, tf.RaggedTensor):
        given = [
            given[start : start + batch_size].to_tensor()
            for start in range(0, given.shape[0], batch_size)
        ]
    elif not isinstance(given, Iterable) or isinstance(given, (str, dict)):
        wanted = "windows, arrays (batch_size, steps, ...), or one array"
        arguments.refuse(given, name, wanted)
    elif hasattr(given, "shape"):
        given = np.asarray(given)
        starts = range(0, len(given), batch_size)
        given = [given[start : start + batch_size] for start in starts]
    found = [keras.ops.convert_to_numpy(window) for window in given]
    shapes = [window.shape for window in found]
    right = [len(s) >= 2 and s[0] == batch_size for s in shapes]
    if not (found and all(right)):
        wrong = shapes[right.index(False)] if found else "none"
        raise ValueError(
            f"`{name}` must hold windows of batch_size={batch_size} rows, "
            f"with an entry for each step. Expected ({batch_size}, steps, "
            f"...), received {wrong}."
        )
    return found


def _without_padding(pieces, masks):
    """The steps of windows that are valid, which are the first ones."""
    if [m.shape for m in masks] != [piece.shape[:2] for piece in pieces]:
        raise ValueError(
            "`mask` must have an entry for each step of `windows`. Expected "
            f"{[piece.shape[:2] for piece in pieces]}, received "
            f"{[m.shape for m in masks]}."
        )
    found = []
    for piece, mask in zip(pieces, masks, strict=True):
        valid = mask != 0
        steps = np.count_nonzero(valid[0])
        if np.any(valid != (np.arange(valid.shape[1]) < steps)):
            raise ValueError(
                "`mask` must be that of a stream: padding stands behind the "
                "steps of a window, behind as many in all rows. Received: "
                f"{valid.tolist()}"
            )
        found.append(piece[:, :steps])
    return found
