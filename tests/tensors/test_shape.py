import numpy as np
import pytest
import tensorflow as tf

from keras_seqgrad.tensors.shape import shape_of


@pytest.mark.parametrize("make", [np.zeros, tf.zeros])
def test_what_is_known_is_a_number(make):
    assert shape_of(make((2, 0, 3))) == [2, 0, 3]


@pytest.mark.compiled
def test_only_what_is_unknown_is_computed():
    kinds = []

    @tf.function(input_signature=[tf.TensorSpec((None, 4, None))])
    def sizes(tensor):
        found = shape_of(tensor)
        kinds.append([isinstance(size, int) for size in found])
        return tf.stack(found)

    np.testing.assert_array_equal(sizes(tf.zeros((2, 4, 3))), [2, 4, 3])
    assert kinds == [[False, True, False]]
