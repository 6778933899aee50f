"""Activations and their slopes against those of Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_seqgrad.ops import activations


@pytest.mark.parametrize("name", activations.ACTIVATIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_value_and_slope_are_those_of_keras(name, dtype):
    # On both sides of every kink; far out, where a slope has all but gone.
    given = np.linspace(-7.3, 7.4, 48)
    z = tf.constant(given, dtype)
    with tf.GradientTape() as tape:
        tape.watch(z)
        expected = keras.activations.get(name)(z)
    found = activations.ACTIVATIONS[name]
    value = found.value(z)
    slope = found.slope(value)
    assert value.dtype == slope.dtype == z.dtype
    close = 1e-6 if dtype == "float32" else 3e-8  # of attributes in float32
    np.testing.assert_allclose(value, expected, rtol=close, atol=close)
    np.testing.assert_allclose(
        slope, tape.gradient(expected, z), rtol=close, atol=close
    )


def test_named_by_the_function_that_a_cell_holds():
    cell = keras.layers.LSTMCell(2, activation="selu")
    assert activations.name_of(cell.activation) == "selu"
    assert activations.name_of(None) is None
    assert activations.name_of(keras.activations.silu) is None
    # A layer has a call of its own, with weights perhaps.
    assert activations.name_of(keras.layers.LeakyReLU(0.3)) is None
