import pytest
import tensorflow as tf

from keras_seqgrad.tensors import pieces


@pytest.mark.parametrize(
    "steps, near, length",
    [
        (400, 20, 20),
        (200, 14, 10),
        (100_000, 316, 250),
        (20_000, 141, 125),
        (950, 256, 190),
        (300, 256, 300),  # all of them at once
    ],
)
def test_a_length_that_leaves_nothing_over(steps, near, length):
    assert pieces.dividing(steps, near) == length
    assert pieces.divide(steps, length)[1] == 0


@pytest.mark.parametrize("steps, near", [(97, 10), (2 * 97, 20), (100, 256)])
def test_what_nothing_near_divides_is_left_as_it_is(steps, near):
    assert pieces.dividing(steps, near) == near
    assert pieces.dividing(tf.constant(steps), near) == near


def test_never_below_the_least():
    assert pieces.dividing(950, 256, least=200) == 475
    assert pieces.dividing(998, 256, least=499) == 499
