"""Lengths to which sequences are padded, so that XLA compiles few programs.

Every length is a program of its own for XLA. Padding each sequence to the next
of a few *bucket lengths* bounds their number. What a bucket length costs is
compiling once; what it saves are padded steps in every epoch.
"""

import numpy as np
import numpy.typing as npt

from keras_seqgrad.tensors import arguments

FEWEST, MOST = 4, 16
# Windows of an epoch for each bucket length. To compile a program takes as long
# as thirty windows of a large model do, or three hundred of a small one, and it
# should pay within a few epochs.
WINDOWS = 50
# Ends of buckets to choose from; more make no difference that could be seen.
PLACES = 512


def default_count(law, row_length):
    """How many bucket lengths to choose by `fewest_steps`."""
    windows = row_length / law.mean_length
    return int(np.clip(windows // WINDOWS, FEWEST, MOST))


def lengths_of(law, row_length):
    """The few lengths of a law's pieces, and that of a whole row.

    Nothing is padded to them but the last piece of a row, which ends with it.
    """
    ages = np.arange(1, row_length)
    return np.append(ages[law.cut_probability(ages) > 0.0], row_length)


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
    ends = np.unique(_spread(1, row_length))
    after = [_steps_of_doubles(end, longer) for end in ends]
    lengths = _choose(ends, longer[ends], after, count)
    return np.unique([*lengths, *_doubles(lengths[-1], row_length)])


def bucket_lengths(lengths: npt.ArrayLike, count: int) -> list[int]:
    """The `count` lengths to which sequences are padded with fewest steps.

    For batches of sequences of different lengths: a batch holds sequences of
    one bucket, each padded on the right to the bucket's length and masked. More
    buckets mean fewer padded steps and more programs for XLA to compile, each
    once. Not for the windows of `ksg.data.stream`, which chooses its own.

    Rule: of all ways to choose `count` lengths, the longest sequence's among
    them, the one with the least sum of padded lengths.

    Args:
        lengths: Integers, the length of each sequence; a sample will do, if
            the longest is in it.
        count: Number of bucket lengths, 1 or more. Fewer are returned where
            sequences have fewer different lengths.

    Returns:
        Increasing list of integers; the last is the longest of `lengths`.

    Raises:
        ValueError: `lengths` are no positive integers, or `count` is not.

    Example:

    >>> ksg.data.bucket_lengths([3, 4, 4, 9, 10, 40], count=3)
    [4, 10, 40]

    Each length is one less than a boundary of
    `tf.data.Dataset.bucket_by_sequence_length`.
    """
    found = _integers(lengths, "lengths")
    count = arguments.positive_integer(count, "count")
    ends, many = np.unique(found, return_counts=True)
    beyond = 1.0 - np.cumsum(many) / found.size
    if ends.size > PLACES:
        kept = np.unique(_spread(1, ends.size)) - 1
        ends, beyond = ends[kept], beyond[kept]
    # Nothing may be longer than the last.
    after = np.full(ends.size, np.inf)
    after[-1] = beyond[-1] = 0.0
    return [int(length) for length in _choose(ends, beyond, after, count)]


def _spread(first, last):
    """Integers from one to another, close where they are small."""
    return np.round(np.geomspace(first, last, PLACES)).astype("int64")


def _choose(ends, beyond, after, count):
    """At most `count` of `ends` with the fewest expected steps.

    Args:
        ends: Increasing integers, the last the longest there is.
        beyond: The share that is longer than each.
        after: Steps that these take where no length is left to choose.
        count: Number of lengths to choose.
    """
    ends = np.concatenate([[0], ends])
    beyond = np.concatenate([[1.0], beyond])
    after = np.concatenate([[np.inf], after])
    # From one end (a row) to the next (a column).
    step = (beyond[:, np.newaxis] - beyond) * ends
    step[np.tril_indices(len(ends))] = np.inf
    choices = []
    for _ in range(count):
        total = step + after
        # None is longer than the last.
        total[-1, -1] = 0.0
        choices.append(total.argmin(axis=1))
        after = total.min(axis=1)
    place, lengths = 0, []
    for choice in reversed(choices):
        place = choice[place]
        lengths.append(ends[place])
    return np.unique(lengths)


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
    if bucket_lengths is None and law.hazard is not None:
        return lengths_of(law, row_length)
    if bucket_lengths is None:
        bucket_lengths = default_count(law, row_length)
    if np.isscalar(bucket_lengths):
        count = arguments.positive_integer(bucket_lengths, "bucket_lengths")
        return fewest_steps(law, row_length, count)
    lengths = _integers(bucket_lengths, "bucket_lengths", ", or their number")
    if lengths.max() < row_length:
        raise ValueError(
            "The longest of `bucket_lengths` must hold a whole row "
            f"({row_length} steps): a piece may be as long as that, and a cut "
            "forced before would bias the gradient. Add the row length, or "
            "make rows shorter by a larger `batch_size`. "
            f"Received: bucket_lengths={bucket_lengths!r}"
        )
    return np.unique(lengths)


def _integers(given, name, or_else=""):
    """An array of positive integers, or the refusal of what is none."""
    wanted = f"integers{or_else}"
    found = arguments.array(given, name, f"a list of positive {wanted}")
    whole = found.ndim == 1 and np.issubdtype(found.dtype, np.integer)
    if not whole or not found.size or found.min() < 1:
        arguments.refuse(given, name, f"a list of positive {wanted}")
    return found
