"""Cells, and the comparison of their scan with Keras' own layer."""

import keras
import numpy as np
import tensorflow as tf

from keras_seqgrad.layers.scan import scan

BATCH, STEPS, FEATURES, UNITS = 3, 4, 3, 5
# Sums of float32 numbers in another order.
CLOSE = 2e-5


class OwnCell(keras.layers.Layer):
    """One state tensor, sublayers, an output that is not the state."""

    def __init__(self, units=UNITS, rate=0.0, **kwargs):
        super().__init__(**kwargs)
        self.state_size = self.output_size = units
        self.dense = keras.layers.Dense(units)
        self.norm = keras.layers.LayerNormalization()
        self.drop = keras.layers.Dropout(rate, seed=3)

    def build(self, shape):
        self.dense.build((None, shape[-1] + self.state_size))
        self.norm.build((None, self.state_size))

    # Takes no `training`: its dropout layer learns it from the layers above.
    def call(self, inputs, states):
        joined = keras.ops.concatenate([inputs, states[0]], axis=-1)
        new = keras.ops.tanh(self.drop(self.norm(self.dense(joined))))
        return 2 * new, [new]


class SingleCell(OwnCell):
    """Returns its state as a tensor, not as a list of one."""

    def call(self, inputs, states):
        output, [new] = super().call(inputs, states)
        return output, new


def stack(**options):
    return keras.layers.StackedRNNCells(
        [
            keras.layers.LSTMCell(4, seed=1, **options),
            keras.layers.GRUCell(2, seed=2, **options),
            OwnCell(UNITS),
        ]
    )


def random(*shape, seed=0):
    numbers = np.random.default_rng(seed).normal(size=shape)
    return tf.constant(numbers, keras.config.floatx())


def mask_from(first):
    """Random flags; in Keras a leading masked step would output zeros."""
    numbers = np.random.default_rng(first).random((BATCH, STEPS)) > 0.5
    numbers[:, :first] = True
    return tf.constant(numbers)


class Problem:
    """A cell, its layer in Keras, and inputs for both."""

    def __init__(self, cell, shape=(FEATURES,)):
        self.cell = cell
        self.layer = keras.layers.RNN(
            cell, return_sequences=True, return_state=True
        )
        self.inputs = random(BATCH, STEPS, *shape)
        self.layer.build(self.inputs.shape)
        self.state = keras.tree.map_structure(
            lambda zeros: random(*zeros.shape, seed=2),
            self.layer.get_initial_state(BATCH),
        )
        self.variables = [v.value for v in cell.trainable_variables]
        self.changing = cell.non_trainable_variables
        self.start = [v.numpy() for v in self.changing]

    def keras(self, mask=None, training=False):
        outputs, *state = self.layer(
            self.inputs,
            initial_state=self.state,
            mask=mask,
            training=training,
        )
        return outputs, state

    def scan(self, **options):
        return scan(self.cell, self.inputs, self.state, **options)

    def gradients(self, run, **options):
        """Results, and gradients for inputs, states and weights."""
        for variable, value in zip(self.changing, self.start, strict=True):
            variable.assign(value)
        given = [self.inputs, *keras.tree.flatten(self.state)]
        with tf.GradientTape() as tape:
            tape.watch(given)
            results = keras.tree.flatten(run(**options))
            loss = tf.add_n(
                [tf.reduce_sum(r * random(*r.shape, seed=4)) for r in results]
            )
        return results, tape.gradient(
            loss, given + self.variables, unconnected_gradients="zero"
        )


def assert_close(found, expected, tolerance=CLOSE):
    for a, b in zip(
        keras.tree.flatten(found), keras.tree.flatten(expected), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
