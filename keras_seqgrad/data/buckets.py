"""Lengths to which random pieces are padded, so that XLA compiles few programs.

Every window length is a program of its own for XLA. Padding each piece to the
next of a few *bucket lengths* bounds their number.
"""

import numpy as np


def doubling(law, row_length):
    """Half the mean length and its doubles, up to a whole row.

    A piece is padded to less than twice its length (or to half the mean), so
    that the rare long one needs no more memory than twice its own; the number
    of programs grows with the logarithm of the row length. At `alpha` = 4 a
    piece takes 1.5 times its steps on average.

    Args:
        law: A `keras_seqgrad.truncation.Random`.
        row_length: Steps of a row, the longest possible piece.

    Returns:
        Increasing integer array; the last is `row_length`.
    """
    shortest = max(1, round(law.mean_length / 2))
    lengths = shortest * 2 ** np.arange(row_length.bit_length())
    return np.append(lengths[lengths < row_length], row_length)


def check(bucket_lengths, row_length):
    """Returns the lengths as an increasing array, or refuses them."""
    lengths = np.asarray(bucket_lengths)
    whole = lengths.ndim == 1 and np.issubdtype(lengths.dtype, np.integer)
    if not whole or not lengths.size or lengths.min() < 1:
        raise ValueError(
            "`bucket_lengths` must be a list of positive integers. "
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
