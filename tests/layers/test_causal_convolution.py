"""A causal convolution: that of Keras, which segments do not change."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from tests import zoo
from tests.layers.common import assert_close, random

INPUTS = random(3, 7, 4)
LOSS = keras.losses.MeanSquaredError()


def values_and_gradients(layer):
    weights = layer.trainable_variables
    with tf.GradientTape() as tape:
        inputs = tf.constant(INPUTS)
        tape.watch(inputs)
        outputs = layer(inputs)
        loss = tf.reduce_sum(outputs * random(*outputs.shape, seed=4))
    return outputs, tape.gradient(loss, [inputs, *weights])


class Grouped:
    """A causal Conv1D of Keras, one convolution a group.

    TensorFlow pulls a gradient through groups on some processors alone.
    """

    def __init__(self, layer):
        self.layer = layer
        self.trainable_variables = layer.trainable_variables

    def __call__(self, inputs):
        groups = self.layer.groups
        before = self.layer.kernel_size[0] - 1
        padded = tf.pad(inputs, [[0, 0], [before, 0], [0, 0]])
        parts = tf.split(padded, groups, axis=-1)
        kernels = tf.split(self.layer.kernel, groups, axis=-1)
        made = map(keras.ops.conv, parts, kernels)
        return tf.tanh(tf.concat(list(made), axis=-1) + self.layer.bias)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("kernel_size", [1, 4, 9])
def test_it_is_the_layer_of_keras(kernel_size, groups):
    given = {"activation": "tanh", "bias_initializer": "ones"}
    given |= {"groups": groups}
    theirs = keras.layers.Conv1D(8, kernel_size, padding="causal", **given)
    ours = ksg.layers.CausalConv1D(8, kernel_size, **given)
    for layer in (theirs, ours):
        layer.build(INPUTS.shape)
    ours.set_weights(theirs.get_weights())
    assert_close(ours(INPUTS), theirs(INPUTS))
    grouped = Grouped(theirs) if groups > 1 else theirs
    assert_close(values_and_gradients(ours), values_and_gradients(grouped))


def network(convolution):
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((None, zoo.FEATURES)),
            convolution,
            keras.layers.LSTM(3, return_sequences=True),
            keras.layers.Dense(2),
        ]
    )


def test_before_an_lstm_the_exact_gradient_is_that_of_keras():
    x, y = zoo.data(3)
    theirs = network(keras.layers.Conv1D(4, 3, padding="causal"))
    ours = network(ksg.layers.CausalConv1D(4, 3))
    ours.set_weights(theirs.get_weights())
    _, exact = zoo.keras_gradients(theirs, x, y, LOSS)
    for method in (ksg.methods.BPTT(), ksg.methods.BPTT(2)):
        model = ksg.SequenceModel.from_model(ours)
        model.compile("sgd", LOSS, method=method)
        zoo.assert_same(model.estimate_gradients(x, y)[1], exact)


def test_keras_own_is_refused_with_what_to_write():
    stock = network(keras.layers.Conv1D(4, 3, padding="causal", name="front"))
    with pytest.raises(ValueError, match="front.*ksg.layers.CausalConv1D"):
        model = ksg.SequenceModel.from_model(stock)
        model.compile("sgd", "mse", method="snap")


def test_step_by_step_is_the_series():
    layer = ksg.layers.CausalConv1D(6, 3, groups=2, use_bias=False)
    expected = layer(INPUTS)
    state = layer.cell.get_initial_state(len(INPUTS))
    found = []
    for step in range(INPUTS.shape[1]):
        output, state = layer.cell(INPUTS[:, step], state)
        found.append(output)
    assert_close(np.stack(found, axis=1), expected)
