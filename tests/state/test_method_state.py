"""Draws of a method that was given no seed."""

import keras
import numpy as np

from keras_seqgrad.state.method_state import Draws


def test_the_seed_of_all_is_that_of_the_draws():
    """Also where Keras' own generator has been drawn from before."""
    found = []
    for seed in (5, 5, 6):
        keras.utils.set_random_seed(seed)
        found.append(np.array(Draws().next()))
        keras.random.normal((2,))
    np.testing.assert_array_equal(found[0], found[1])
    assert found[0][0] != found[2][0]
    assert found[0][1] == 0
