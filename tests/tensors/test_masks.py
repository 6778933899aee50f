"""Masks go along where a tensor is cut in time."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_seqgrad.tensors import masks, pieces

VALID = tf.constant([[True, False, True], [False, True, True]])


def test_a_mask_attached_is_read_by_us_and_by_keras():
    tensor = keras.random.normal((2, 3, 4))
    assert masks.read(tensor) is None
    assert masks.attach(tensor, None) is tensor
    marked = masks.attach(tensor, VALID)
    np.testing.assert_array_equal(masks.read(marked), VALID)
    np.testing.assert_array_equal(marked, tensor)
    lstm = keras.layers.LSTM(2)
    expected = lstm(tensor, mask=VALID)
    np.testing.assert_array_equal(lstm(marked), expected)
    assert np.abs(lstm(tensor) - expected).max() > 1e-3


def test_the_mask_of_a_layer_is_read():
    tensor = keras.layers.Embedding(5, 2, mask_zero=True)(tf.constant([[1, 0]]))
    np.testing.assert_array_equal(masks.read(tensor), [[True, False]])


def test_a_mask_keeps_dtype_and_gradient():
    tensor = tf.constant([[[1, 2]]], "bfloat16")
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        marked = masks.attach(tensor, VALID[:1, :1])
        total = tf.reduce_sum(marked * marked)
    assert marked.dtype == tensor.dtype
    np.testing.assert_array_equal(tape.gradient(total, tensor), 2 * tensor)


def test_combine():
    assert masks.combine(None, None) is None
    assert masks.combine(VALID, None) is VALID
    assert masks.combine(None, VALID) is VALID
    first = tf.cast(VALID, "float32")
    np.testing.assert_array_equal(
        masks.combine(first, ~VALID), np.zeros((2, 3), bool)
    )


def test_clear_leaves_numbers():
    tensor = tf.constant([[1.0, np.nan, 2.0], [-3.0, np.nan, -np.inf]])
    expected = [[1, 0, 2], [-3, np.nan, -np.inf]]
    np.testing.assert_array_equal(masks.clear(tensor, VALID), expected)
    found = masks.clear(tf.constant([[1e19], [7.0]]), tf.constant([False] * 2))
    np.testing.assert_array_equal(found, [[0], [7]])
    half = tf.constant([[6e4, np.inf]], "float16")
    found = masks.clear(half, tf.constant([False]))
    np.testing.assert_array_equal(found, tf.constant([[6e4, 0]], "float16"))
    tokens = tf.constant([[4, -1, 5], [9, 2, 3]])
    expected = [[4, 0, 5], [0, 2, 3]]
    np.testing.assert_array_equal(masks.clear(tokens, VALID), expected)
    words = tf.constant(["a", "b"])
    assert masks.clear(words, tf.constant([True, False])) is words


@pytest.mark.parametrize("tensors", [False, True])
def test_cut(tensors):
    tensor = masks.attach(keras.random.normal((2, 3, 4)), VALID)
    start, length = (tf.constant(1), tf.constant(2)) if tensors else (1, 2)
    found = pieces.cut(tensor, start, length)
    np.testing.assert_array_equal(found, tensor[:, 1:])
    np.testing.assert_array_equal(masks.read(found), VALID[:, 1:])
    assert masks.read(pieces.cut(tf.identity(tensor), start, length)) is None


@pytest.mark.compiled
def test_steps_of_unknown_shapes():
    @tf.function(
        jit_compile=True,
        input_signature=[
            tf.TensorSpec((None, None, 4)),
            tf.TensorSpec((), "int32"),
        ],
    )
    def cut(tensor, start):
        found = pieces.steps(tensor, start, 2)
        assert found.shape.as_list() == [None, None, 4]
        return found

    tensor = keras.random.normal((2, 5, 4))
    np.testing.assert_array_equal(cut(tensor, 3), tensor[:, 3:])
    np.testing.assert_array_equal(cut(tensor[:, :1], 0), tensor[:, :1])
