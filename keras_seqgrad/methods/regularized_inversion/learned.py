"""A learned inverse of a recurrent cell: difference target propagation.

    G(x, h) = a(x·W_g + h·V + c)
    d_{t-1} = G(x_t, h_t + d_t) − G(x_t, h_t)

G learns to undo a step: with F the cell and noise ε,

    ½ ‖G(x_t, F(x_t, h_{t-1} + ε)) − (h_{t-1} + ε)‖²    mean over steps taken

All steps of a window are one batch to it, so learning costs a few products and
no loop. `a` is the cell's own activation, so that G can reach every state.

Manchev and Spratling, 2020. Target propagation in recurrent neural networks.
JMLR 21(7).
"""

import keras
import tensorflow as tf

from keras_seqgrad.methods.regularized_inversion.inverse import read
from keras_seqgrad.ops import common
from keras_seqgrad.tensors import replicas


class LearnedInverse(keras.layers.Layer):
    """G of one cell.

    Args:
        cell: A built SimpleRNN or GRU cell.
        activation: Name of the activation that its states have passed.
        name: Name of the layer.
    """

    def __init__(self, cell, activation, name):
        super().__init__(name=name, dtype="float32", autocast=False)
        features, units = cell.kernel.shape[0], cell.units
        self.activation = keras.activations.get(activation)
        self.kernel = self.add_weight(
            shape=(features, units), initializer="glorot_uniform", name="kernel"
        )
        self.recurrent_kernel = self.add_weight(
            shape=(units, units),
            initializer="orthogonal",
            name="recurrent_kernel",
        )
        self.bias = self.add_weight(
            shape=(units,), initializer="zeros", name="bias"
        )
        self.built = True

    def call(self, inputs, states):
        """G of rows (batch, features) and (batch, units)."""
        return self.activation(
            tf.matmul(inputs, read(self.kernel, inputs))
            + tf.matmul(states, read(self.recurrent_kernel, states))
            + read(self.bias, states)
        )


def difference(steps, inverse, rate):
    """The rule above; result as of `simple_rnn.linearized`.

    Args:
        steps: `Steps` of the layer.
        inverse: Its `LearnedInverse`.
        rate: Displacement for a gradient of 1.
    """
    recurrent = read(inverse.recurrent_kernel, steps.outputs)
    row = common.project(steps.inputs, read(inverse.kernel, steps.inputs))
    row += read(inverse.bias, row)
    row += common.project(steps.outputs, recurrent)

    def back(row, origin, delta):
        moved = row - rate * tf.matmul(delta, recurrent)
        return (inverse.activation(moved) - origin) / -rate

    return [row, inverse.activation(row)], back


def reconstruction_loss(steps, mask, inverse, noise):
    """Mean of ½‖G(x, F(x, h + ε)) − (h + ε)‖² over the steps taken.

    Where there are several replicas, this one's part of the mean over all.

    Args:
        steps: `Steps` of the layer.
        mask: Boolean (time, batch, 1), or None.
        inverse: Its `LearnedInverse`.
        noise: ε, (time, batch, units).
    """
    inputs = common.flatten_time(steps.inputs)
    states = common.flatten_time(steps.before + noise)
    after, _ = steps.cell(inputs, [states], training=False)
    after = tf.stop_gradient(tf.cast(after, states.dtype))
    error = inverse(inputs, after) - states
    each = 0.5 * tf.reduce_sum(error * error, axis=1)
    if mask is None:
        return tf.reduce_mean(each) / replicas.count()
    taken = tf.cast(tf.reshape(mask, [-1]), each.dtype)
    # Of a masked step the inputs may be anything.
    each = tf.where(taken > 0, each, 0.0)
    count = replicas.total(tf.reduce_sum(taken))
    return tf.reduce_sum(each) / tf.maximum(count, 1.0)


def uniform_noise(shape, deviation, seed, dtype):
    """Noise of mean 0 and a standard deviation, from integer draws.

    Floats are drawn differently with and without XLA, integers are not. XLA
    on a CPU takes some 80 times as long with the algorithm it would choose.
    """
    drawn = tf.random.stateless_uniform(
        shape, seed, -(2**20), 2**20 + 1, dtype="int32", alg="philox"
    )
    return tf.cast(drawn, dtype) * (3**0.5 * deviation / 2**20)
