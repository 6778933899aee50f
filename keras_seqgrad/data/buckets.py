"""Lengths to which random pieces are padded, so that XLA compiles few programs.

Every window length is a program of its own for XLA. Padding each piece to the
next of a few *bucket lengths* bounds their number. What a bucket length costs
is compiling once; what it saves are padded steps in every epoch.
"""

import numpy as np

from keras_seqgrad.tensors.arguments import positive_integer

MOST = 16
# Windows of an epoch for each bucket length: compiling takes as long as some
# tens of windows, and it should pay within a few epochs.
WINDOWS = 8
# Ends of buckets to choose from; more make no difference that could be seen.
PLACES = 512


def default_count(law, row_length):
    """How many bucket lengths to choose by `fewest_steps`."""
    windows = row_length / law.mean_length
    return int(np.clip(windows // WINDOWS, 2, MOST))


def fewest_steps(law, row_length, count):
    """`count` lengths with the fewest expected steps, and their doubles.

    A piece longer than the last of them is rare. It is padded to a double of
    that one, so that it needs no more memory than twice its own, and whoever
    never meets one compiles nothing for it.

    Over all ways to choose, from the longest pieces to the shortest: with k
    lengths left, pieces above a take

        f_k(a) = min over b > a of  P(a < n <= b) b + f_{k-1}(b)

    steps, and f_0 is what the doubles of a take.

    Args:
        law: A `keras_seqgrad.truncation.Random`.
        row_length: Steps of a row, the longest possible piece.
        count: Number of lengths to choose.

    Returns:
        Increasing integer array; the last is `row_length`.
    """
    longer = _chances_of_longer(law, row_length)
    ends = np.geomspace(1, row_length, PLACES)
    ends = np.unique(np.round(ends).astype("int64"))
    ends = np.concatenate([[0], ends])
    chances = longer[ends]
    # From one end (a row) to the next (a column).
    step = (chances[:, np.newaxis] - chances) * ends
    step[np.tril_indices(len(ends))] = np.inf
    after = [_steps_of_doubles(end, longer) for end in ends[1:]]
    after = np.array([np.inf, *after])
    choices = []
    for _ in range(count):
        total = step + after
        # No piece is longer than the row.
        total[-1, -1] = 0.0
        choices.append(total.argmin(axis=1))
        after = total.min(axis=1)
    place, lengths = 0, []
    for choice in reversed(choices):
        place = choice[place]
        lengths.append(ends[place])
    return np.unique([*lengths, *_doubles(lengths[-1], row_length)])


def _chances_of_longer(law, row_length):
    """P(n > j) of the length n of a piece, for j = 0, 1, …, row length."""
    kept = np.cumprod(1.0 - law.cut_probability(np.arange(1, row_length)))
    return np.concatenate([[1.0], kept, [0.0]])


def _doubles(length, row_length):
    """The doubles of a length, up to a whole row."""
    doubles = length * 2 ** np.arange(1, row_length.bit_length() + 1)
    doubles = doubles[doubles < row_length]
    return doubles if length == row_length else np.append(doubles, row_length)


def _steps_of_doubles(length, longer):
    """Expected steps of pieces above `length`, padded to its doubles."""
    lengths = np.append(length, _doubles(length, len(longer) - 1))
    return -np.diff(longer[lengths]) @ lengths[1:]


def check(bucket_lengths, law, row_length):
    """The bucket lengths of a row as an increasing array.

    Args:
        bucket_lengths: A list of lengths, the number of those to choose, or
            None for a number that suits the row.
        law: As for `fewest_steps`; so is `row_length`.
        row_length: See there.
    """
    if bucket_lengths is None:
        bucket_lengths = default_count(law, row_length)
    if np.ndim(bucket_lengths) == 0:
        count = positive_integer(bucket_lengths, "bucket_lengths")
        return fewest_steps(law, row_length, count)
    lengths = np.asarray(bucket_lengths)
    whole = lengths.ndim == 1 and np.issubdtype(lengths.dtype, np.integer)
    if not whole or not lengths.size or lengths.min() < 1:
        raise ValueError(
            "`bucket_lengths` must be a list of positive integers, or one: "
            "their number. "
            f"Received: bucket_lengths={bucket_lengths!r}"
        )
    if lengths.max() < row_length:
        raise ValueError(
            "The longest of `bucket_lengths` must hold a whole row "
            f"({row_length} steps): a piece may be as long as that, and a cut "
            "forced before would bias the gradient. Add the row length, or "
            "make rows shorter by a larger `batch_size`. "
            f"Received: bucket_lengths={bucket_lengths!r}"
        )
    return np.unique(lengths)
