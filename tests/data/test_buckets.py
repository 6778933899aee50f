"""Bucket lengths: the fewest expected steps, by trying every choice."""

import itertools

import numpy as np
import pytest

from keras_seqgrad.data import buckets, stream
from keras_seqgrad.truncation import Random


def expected_steps(law, lengths, row):
    """Mean padded length of a piece, summed over all lengths."""
    alive = np.cumprod(1 - law.cut_probability(np.arange(1, row)))
    probability = -np.diff(np.concatenate([[1.0], alive, [0.0]]))
    padded = [min(b for b in lengths if b >= n) for n in range(1, row + 1)]
    return probability @ np.array(padded)


def with_doubles(lengths, row):
    found = list(lengths)
    while found[-1] < row:
        found.append(min(2 * found[-1], row))
    return found


@pytest.mark.parametrize("mean, alpha", [(5, 4.0), (3, None)])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_no_other_choice_takes_fewer_steps(mean, alpha, count):
    law, row = Random(mean, alpha), 21
    found = buckets.fewest_steps(law, row, count).tolist()
    choices = itertools.combinations(range(1, row + 1), count)
    choices = [with_doubles(choice, row) for choice in choices]
    least = min(expected_steps(law, choice, row) for choice in choices)
    assert found in choices
    assert expected_steps(law, found, row) == pytest.approx(least)
    others = [expected_steps(law, choice, row) for choice in choices]
    assert np.median(others) > 1.05 * least


@pytest.mark.parametrize("row", [1, 2, 5])
def test_a_row_shorter_than_what_is_asked_for(row):
    """As many lengths as there are, all of them."""
    found = buckets.fewest_steps(Random(50), row, 9)
    assert found.tolist() == list(range(1, row + 1))


@pytest.mark.parametrize(
    "row, count", [(10, 2), (50 * 40, 5), (50 * 128, 16), (10**6, 16)]
)
def test_default_number_is_that_of_eight_windows_each(row, count):
    assert buckets.default_count(Random(50), row) == count


@pytest.mark.parametrize("alpha, most", [(3.0, 1.21), (4.0, 1.17), (6.0, 1.17)])
def test_padding_of_the_default_is_a_sixth_of_drawn_pieces(alpha, most):
    law, row = Random(50, alpha), 42_187
    lengths = law.draw_lengths(100_000, np.random.default_rng(0), row)
    chosen = buckets.check(None, law, row)
    padded = chosen[np.searchsorted(chosen, lengths)]
    assert 1.05 < padded.sum() / lengths.sum() < most
    # A long piece is padded to less than twice its length.
    assert np.all(padded[lengths > 50] < 2 * lengths[lengths > 50])


def test_a_number_of_lengths_is_chosen_by_the_law():
    law = Random(8)
    windows = stream(np.arange(801), 2, law, bucket_lengths=3, seed=0)
    shapes = {x["inputs"].shape[1] for x, _, _ in windows}
    assert shapes <= set(buckets.fewest_steps(law, 400, 3).tolist())
    assert len(shapes) > 2
