"""Layers, inputs and comparisons of the tests in this folder."""

import keras
import numpy as np
import tensorflow as tf

import keras_seqgrad as ksg

BATCH, STEPS, FEATURES, UNITS = 3, 5, 2, 4
CLOSE = 2e-5
GATED_OR_NOT = ["SimpleRNN", "GRU", "LSTM"]


def random(*shape, seed=0):
    numbers = np.random.default_rng(seed).normal(size=shape)
    return tf.constant(numbers, "float32")


INPUTS = random(BATCH, STEPS, FEATURES)
MASK = tf.constant([[0, 0, 1, 1, 0], [1, 0, 0, 1, 1], [0, 0, 0, 0, 0]]) > 0


def make(module, kind, features=FEATURES, **options):
    """The layer `kind` of `keras.layers` or `ksg.layers`, built."""
    cells = [keras.layers.LSTMCell(3), keras.layers.GRUCell(UNITS)]
    first = cells if kind == "RNN" else UNITS
    layer = getattr(module, kind)(first, **options)
    layer.build((BATCH, STEPS, features))
    return layer


def pair(name, **options):
    """A layer of Keras and one of ours with its weights."""
    theirs = make(keras.layers, name, **options)
    ours = make(ksg.layers, name, **options)
    ours.set_weights(theirs.get_weights())
    return theirs, ours


def gradients(layer, training=True, inputs=INPUTS, **options):
    """Results of `layer`, and gradients for its inputs and weights."""
    variables = [v.value for v in layer.trainable_variables]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        results = layer(inputs, training=training, **options)
        results = keras.tree.flatten(results)
        loss = tf.add_n(
            [tf.reduce_sum(r * random(*r.shape, seed=4)) for r in results]
        )
    return results, tape.gradient(loss, [inputs, *variables])


def assert_close(found, expected, tolerance=CLOSE):
    for a, b in zip(
        keras.tree.flatten(found), keras.tree.flatten(expected), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
