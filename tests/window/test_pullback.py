"""The gradient of a window's loss by its outputs."""

import keras
import pytest
import tensorflow as tf

from keras_seqgrad import SequenceModel, methods
from tests import zoo

L = keras.layers


@pytest.mark.slow
@pytest.mark.parametrize("per_sequence", [False, True])
@pytest.mark.parametrize(
    "method",
    [
        lambda: methods.BPTT(3),
        lambda: methods.TruncatedBPTT(zoo.STEPS, 2),
        lambda: methods.RegularizedInversion(0.5, 0.5),
        lambda: methods.SyntheticGradients(zoo.STEPS, "linear"),
    ],
)
def test_gradient_goes_through_a_softmax(method, per_sequence):
    """Keras' crossentropy looks for the logits behind a softmax."""
    network = zoo.network("gru_before", per_sequence=per_sequence)
    network.add(L.Dense(3, activation="softmax"))
    x, y = zoo.data(per_sequence=per_sequence)
    y = (y[..., 0] > 0).astype("int32")
    loss = keras.losses.SparseCategoricalCrossentropy()
    _, expected = zoo.keras_gradients(network, x, y, loss)
    model = SequenceModel.from_model(network)
    model.compile("sgd", loss, method=method())
    _, found = model.estimate_gradients(x, y)
    zoo.assert_same(found[-2:], expected[-2:])
    if not isinstance(model.method, methods.RegularizedInversion):
        zoo.assert_same(found, expected)


class Counting(L.SimpleRNNCell):
    """Keeps the number of its step beside its state, and adds it."""

    state_size = property(
        lambda self: [self.units, 1], lambda self, value: None
    )

    def get_initial_state(self, batch_size=None):
        count = tf.zeros((batch_size, 1), "int32")
        return [tf.zeros((batch_size, self.units)), count]

    def call(self, x, states, training=False):
        hidden, _ = super().call(x, states[:1], training=training)
        count = states[1] + 1
        return hidden + 0.1 * tf.cast(count, hidden.dtype), [hidden, count]


class Largest(L.Layer):
    def call(self, x):
        return keras.ops.argmax(x, axis=-1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", [methods.BPTT(3), methods.RTRL(3), methods.TruncatedBPTT(9, 3)]
)
def test_integers_have_no_gradient_and_nobody_asks(method, told_by_tensorflow):
    """In states and in outputs: TensorFlow warns of those that are watched."""
    inputs = keras.Input((None, 2))
    hidden = L.RNN(Counting(3), return_sequences=True)(inputs)
    outputs = L.Dense(2)(hidden)
    network = keras.Model(inputs, [outputs, Largest()(outputs)])
    x, y = zoo.data()
    data = x, [y, y[..., 0]]
    found = []
    for each in methods.BPTT(), method:
        model = SequenceModel.from_model(network)
        model.compile("sgd", ["mse", None], method=each)
        _, gradients = model.estimate_gradients(*data)
        found.append(gradients)
    zoo.assert_same(found[1], found[0])
    assert not told_by_tensorflow
