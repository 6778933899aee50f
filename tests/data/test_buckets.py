"""Bucket lengths: the fewest expected steps, by trying every choice."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from keras_seqgrad.data import bucket_lengths, buckets, stream
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
    "row, count", [(10, 4), (50 * 375, 7), (50 * 800, 16), (10**6, 16)]
)
def test_default_number_is_one_for_fifty_windows(row, count):
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


def test_a_law_of_few_lengths_needs_no_padding():
    law = Random(8, hazard=0.5)
    ages = np.arange(1, 400)
    few = [*ages[law.cut_probability(ages) > 0], 400]
    assert len(few) < 25
    *pieces, last = stream(np.arange(801), 2, law, seed=0)
    for x, _, weight in pieces:
        assert x["inputs"].shape[1] in few
        assert np.all(x["mask"])
        np.testing.assert_allclose(weight, x["inputs"].shape[1] / 8)
    # The last piece ends with the row.
    assert last[0]["inputs"].shape[1] in few
    # Other buckets may be asked for.
    buckets = {
        x["inputs"].shape[1]
        for x, _, _ in stream(
            np.arange(801), 2, law, bucket_lengths=[100, 400], seed=0
        )
    }
    assert buckets <= {100, 400}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_no_other_buckets_pad_less(count):
    lengths = np.array([2, 2, 3, 5, 5, 5, 8, 9, 13, 20])
    different = np.unique(lengths)

    def padded(chosen):
        return sum(min(b for b in chosen if b >= n) for n in lengths)

    choices = [
        (*choice, 20)
        for choice in itertools.combinations(different[:-1], count - 1)
    ]
    found = bucket_lengths(lengths, count)
    assert len(found) == count and found[-1] == 20
    assert padded(found) == min(map(padded, choices))
    # More than there are different ones are all of those.
    assert bucket_lengths(lengths, 99) == different.tolist()


def test_buckets_of_many_different_lengths():
    """From 1 to 5000, all alike: equal steps pad least."""
    lengths = np.arange(1, 5001)
    found = np.array(bucket_lengths(lengths, 10))
    padded = found[np.searchsorted(found, lengths)]
    assert found[-1] == 5000
    assert padded.sum() / lengths.sum() == pytest.approx(1.1, abs=0.005)


def test_a_batch_is_padded_to_its_bucket():
    """As docs/data.md has it."""
    lengths = [3, 4, 4, 9, 10, 40]
    found = bucket_lengths(lengths, 3)
    dataset = tf.data.Dataset.from_tensor_slices(lengths).map(
        lambda n: tf.ones([n])
    )
    dataset = dataset.bucket_by_sequence_length(
        lambda x: tf.shape(x)[0],
        bucket_boundaries=[length + 1 for length in found],
        bucket_batch_sizes=[32] * (len(found) + 1),
        pad_to_bucket_boundary=True,
    )
    assert sorted(x.shape[1] for x in dataset) == found == [4, 10, 40]


@pytest.mark.parametrize(
    "lengths, count, text",
    [
        ([], 2, "`lengths` must be a list of positive integers. Received"),
        ([1.5], 2, "`lengths` must be a list of positive integers"),
        ([4, 0], 2, "`lengths` must be a list of positive integers"),
        ([4], 0, "`count` must be an integer of 1 or more"),
    ],
)
def test_refusals(lengths, count, text):
    with pytest.raises(ValueError, match=text):
        bucket_lengths(lengths, count)
