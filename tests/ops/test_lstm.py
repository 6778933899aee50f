"""The LSTM scan keeps what every scan promises."""

import keras
import tensorflow as tf

from keras_seqgrad.ops.lstm import lstm
from tests.ops.promises import ScanPromises
from tests.ops.reference import Case


def step(x, state, weights):
    h, c = state
    kernel, recurrent_kernel, bias = weights
    i, f, g, o = tf.split(x @ kernel + h @ recurrent_kernel + bias, 4, axis=1)
    c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
    return [tf.sigmoid(o) * tf.tanh(c), c]


class TestLSTM(ScanPromises):
    case = Case(lstm, step, states=2, blocks=4)
    layer = keras.layers.LSTM
