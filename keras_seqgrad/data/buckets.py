"""Lengths to which random pieces are padded, so that XLA compiles few programs.

Every window length is a program of its own for XLA. Padding each piece to the
next of a few *bucket lengths* bounds their number; where the lengths lie
decides how many steps are spent on padding.
"""

import numpy as np

MOST_BUCKETS = 6
# Neighbouring candidates differ by this factor: finer gains less than 2 %.
CANDIDATE_RATIO = 2 ** (1 / 4)


def shortest_padding(law, row_length, count=MOST_BUCKETS):
    """Bucket lengths with the least expected number of steps for a piece.

    Minimises, over increasing lengths b_1 < ... < b_count = row_length,

        sum over k of b_k * P(b_{k-1} < piece length <= b_k),   b_0 = 0

    by dynamic programming over a geometric grid of candidates.

    Args:
        law: A `keras_seqgrad.truncation.Random`.
        row_length: Steps of a row, the longest possible piece.
        count: Largest number of buckets.

    Returns:
        Increasing integer array of at most `count` lengths; the last is
        `row_length`.
    """
    candidates = _candidates(law.mean_length, row_length)
    survival = np.cumprod(1.0 - law.cut_probability(np.arange(1, row_length)))
    # P(piece > b) at 0, the candidates; no piece is longer than the row.
    beyond = np.concatenate([[1.0], survival, [0.0]])
    bounds = np.concatenate([[0], candidates])
    beyond = beyond[bounds]
    # cost[i, j]: steps spent on pieces in (bounds[i], bounds[j]].
    cost = bounds * (beyond[:, None] - beyond)
    cost[np.tril_indices(len(bounds))] = np.inf

    best = cost[0]
    previous = []
    for _ in range(min(count, len(candidates)) - 1):
        through = best[:, None] + cost
        # A bucket need not be used: staying is free.
        through[np.diag_indices(len(bounds))] = best
        previous.append(np.argmin(through, axis=0))
        best = np.min(through, axis=0)
    chosen = [len(bounds) - 1]
    for step in reversed(previous):
        chosen.append(step[chosen[-1]])
    return np.unique(bounds[chosen])


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


def _candidates(mean_length, row_length):
    shortest = max(1.0, mean_length / 4)
    count = int(np.log(max(row_length / shortest, 1)) / np.log(CANDIDATE_RATIO))
    grid = np.rint(shortest * CANDIDATE_RATIO ** np.arange(count + 1))
    grid = np.unique(grid.astype("int64"))
    return np.append(grid[grid < row_length], row_length)
