"""LSTM over time, with a backward pass written by hand.

With i, f, o = σ(·), g = tanh(·), c_t = f·c + i·g and h_t = o·tanh(c_t):

    dc += dh · o·(1 - tanh²(c_t))
    dz  = (dc, dc, dc, dh) · (g·i', c·f', i·g', tanh(c_t)·o')
    dh  = dz · Uᵀ,  dc = dc · f

Every factor on the right is known in the forward pass and is saved ready-made,
so that a reverse step is one product, a few multiplications and no
transcendental function.
"""

import keras
import tensorflow as tf

from keras_seqgrad.ops import common
from keras_seqgrad.ops.documentation import of_fast_scan
from keras_seqgrad.ops.fast_cell import FastCell, describes, has_usual_gates
from keras_seqgrad.ops.fast_scan import fast_scan


@of_fast_scan("LSTM")
def lstm(
    inputs,
    state,
    kernel,
    recurrent_kernel,
    bias,
    *,
    mask=None,
    gates=None,
    reset=None,
    reset_state=None,
    twin=None,
):
    """Long short-term memory over the time axis of `inputs`.

    {purpose}

    Rule, with σ the logistic function and blocks in Keras' order i, f, g, o:

        i, f, o = σ(x·W + h·U + b)    g = tanh(x·W + h·U + b)
        c = f·c + i·g                 h = o·tanh(c)

    {gradient}

    Args:
        {inputs}
        state: [h, c], each (batch, units), of the inputs' dtype, as all
            weights.
        kernel: (features, 4 * units).
        recurrent_kernel: (units, 4 * units).
        bias: (4 * units,), or None.
        {links}

    {results}

    Reference:
        Hochreiter and Schmidhuber, 1997. Long short-term memory.

    Example:

    >>> inputs = tf.ones((2, 5, 3))
    >>> state = [tf.zeros((2, 4)), tf.zeros((2, 4))]
    >>> outputs, (h, c) = ksg.ops.lstm(
    ...     inputs, state, tf.ones((3, 16)), tf.ones((4, 16)), tf.zeros(16)
    ... )
    >>> outputs.shape
    TensorShape([2, 5, 4])
    """
    weights = kernel, recurrent_kernel, bias
    links = mask, gates, reset, reset_state
    return fast_scan(FastLSTM(), inputs, state, weights, links, twin)


@describes(keras.layers.LSTMCell)
def described(cell):
    return FastLSTM() if has_usual_gates(cell) else None


class FastLSTM(FastCell):
    """The step of an LSTM with its default activations."""

    state_names = ("h", "c")
    blocks = 4
    saved = (4, 1, 1)

    def step_weights(self, kernel, recurrent_kernel, bias):
        units, dtype = recurrent_kernel.shape[0], recurrent_kernel.dtype
        # σ(z) = tanh(z / 2) / 2 + 1 / 2: one function for all four blocks.
        half = common.constant_blocks([0.5, 0.5, 1.0, 0.5], units, dtype)
        shift = common.constant_blocks([0.5, 0.5, 0.0, 0.5], units, dtype)
        offset = None if bias is None else bias * half
        return kernel * half, recurrent_kernel * half, offset, half, shift

    def step(self, row, state, recurrent, offset, half, shift):
        h, c = state
        row += tf.matmul(h, recurrent)
        row = tf.tanh(row if offset is None else row + offset)
        i, f, g, o = tf.split(row * half + shift, 4, axis=1)
        new_c = f * c + i * g
        squashed = tf.tanh(new_c)
        slope = (1.0 - row * row) * (half * half)
        by_gate = slope * tf.concat([g, c, i, squashed], axis=1)
        by_c = o * (1.0 - squashed * squashed)
        return [o * squashed, new_c], [by_gate, by_c, f]

    def pull(self, values, d_state, transposed):
        by_gate, by_c, f = values
        d_h, d_c = d_state
        d_c += d_h * by_c
        d_row = by_gate * tf.concat([d_c, d_c, d_c, d_h], axis=-1)
        return [d_row], [common.project(d_row, transposed), d_c * f]
