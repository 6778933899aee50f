"""The GRU scan, in both of its forms, keeps what every scan promises."""

import functools

import keras
import tensorflow as tf

from keras_seqgrad.ops.gru import gru
from tests.ops.promises import ScanPromises
from tests.ops.reference import UNITS, Case


def step_after(x, state, weights):
    (h,) = state
    kernel, recurrent_kernel, bias = weights
    from_x = tf.split(x @ kernel + bias[0], 3, axis=1)
    from_h = tf.split(h @ recurrent_kernel + bias[1], 3, axis=1)
    z = tf.sigmoid(from_x[0] + from_h[0])
    r = tf.sigmoid(from_x[1] + from_h[1])
    g = tf.tanh(from_x[2] + r * from_h[2])
    return [z * h + (1.0 - z) * g]


def step_before(x, state, weights):
    (h,) = state
    kernel, recurrent_kernel, bias = weights
    from_x = tf.split(x @ kernel + bias, 3, axis=1)
    for_z, for_r, for_g = tf.split(recurrent_kernel, [UNITS] * 3, axis=1)
    z = tf.sigmoid(from_x[0] + h @ for_z)
    r = tf.sigmoid(from_x[1] + h @ for_r)
    g = tf.tanh(from_x[2] + (r * h) @ for_g)
    return [z * h + (1.0 - z) * g]


class TestResetAfter(ScanPromises):
    case = Case(gru, step_after, states=1, blocks=3, bias_rows=(2,))
    layer = keras.layers.GRU


class TestResetBefore(ScanPromises):
    case = Case(
        functools.partial(gru, reset_after=False),
        step_before,
        states=1,
        blocks=3,
    )
    layer = functools.partial(keras.layers.GRU, reset_after=False)
