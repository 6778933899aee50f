"""LSTM over time, with a backward pass written by hand.

With i, f, o = σ(·), g = tanh(·), c_t = f·c + i·g and h_t = o·tanh(c_t):

    dc += dh · (o - h·s)         s = h_t/o = tanh(c_t)
    dz  = (dc, dc, dc, dh) · (g·i', c·f', i·g', s·o')
    dh  = dz · Uᵀ,  dc = dc · f

with h = h_t, c = c_{t-1}, i' = i·(1 - i), so f' and o', and g' = 1 - g². A step
saves its gates and c_{t-1}; a reverse step is one product, some multiplications
and no transcendental function.
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_seqgrad.ops import common
from keras_seqgrad.ops.activations import ACTIVATIONS
from keras_seqgrad.ops.documentation import of_fast_scan
from keras_seqgrad.ops.fast_cell import FastCell, describes, gated_names
from keras_seqgrad.ops.fast_scan import fast_scan


@of_fast_scan("LSTM")
def lstm(
    inputs: Any,
    state: Sequence[Any],
    kernel: Any,
    recurrent_kernel: Any,
    bias: Any,
    *,
    mask: Any = None,
    gates: Any = None,
    reset: Any = None,
    reset_state: Any = None,
    twin: Any = None,
) -> tuple:
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
    names = gated_names(cell)
    if names == ["tanh", "sigmoid"]:
        return FastLSTM()
    return None if None in names else OtherLSTM(*names)


class FastLSTM(FastCell):
    """The step of an LSTM with its default activations."""

    state_names = ("h", "c")
    blocks = 4
    saved = (4, 1)
    inner = (4,)

    def step_weights(self, kernel, recurrent_kernel, bias):
        units, dtype = recurrent_kernel.shape[0], recurrent_kernel.dtype
        # σ(z) = tanh(z / 2) / 2 + 1 / 2: one function for all four blocks.
        half = common.constant_blocks([0.5, 0.5, 1.0, 0.5], units, dtype)
        shift = common.constant_blocks([0.5, 0.5, 0.0, 0.5], units, dtype)
        return kernel, recurrent_kernel, bias, half, shift

    def step(self, row, state, recurrent, bias, half, shift):
        h, c = state
        row += tf.matmul(h, recurrent)
        if bias is not None:
            row += bias
        # Halved here, not in the weights: a product more in what is computed
        # anyway costs nothing, three more tensors a segment cost launches.
        gates = tf.tanh(row * half) * half + shift
        i, f, g, o = tf.split(gates, 4, axis=1)
        new_c = f * c + i * g
        return [o * tf.tanh(new_c), new_c], [gates, c]

    def pull_weights(self, recurrent_kernel):
        units, dtype = recurrent_kernel.shape[0], recurrent_kernel.dtype
        # σ' = σ·(1 - σ), tanh' = 1 - tanh²
        linear = common.constant_blocks([1.0, 1.0, 0.0, 1.0], units, dtype)
        return tf.transpose(recurrent_kernel), linear, 1.0 - linear

    def pull(self, values, before, h, d_state, transposed, linear, constant):
        gates, c = values
        d_h, d_c = d_state
        i, f, g, o = tf.split(gates, 4, axis=1)
        squashed = tf.math.divide_no_nan(h, o)
        d_c += d_h * (o - h * squashed)
        slope = gates * (linear - gates) + constant
        factors = slope * tf.concat([g, c, i, squashed], axis=1)
        d_row = factors * tf.concat([d_c, d_c, d_c, d_h], axis=-1)
        return [d_row], [common.project(d_row, transposed), d_c * f]


class OtherLSTM(FastCell):
    """The step of an LSTM with φ for tanh and another σ.

    It saves s = φ(c_t), too: a gate o may be 0.

    Args:
        activation, gate: Names of two of `ACTIVATIONS`.
    """

    state_names = ("h", "c")
    blocks = 4
    saved = (4, 1, 1)
    inner = (4,)

    def __init__(self, activation, gate):
        self.activation, self.gate = ACTIVATIONS[activation], ACTIVATIONS[gate]

    def step(self, row, state, recurrent, bias):
        h, c = state
        row += tf.matmul(h, recurrent)
        if bias is not None:
            row += bias
        gates = self._by_block("value", row)
        i, f, g, o = tf.split(gates, 4, axis=1)
        new_c = f * c + i * g
        squashed = self.activation.value(new_c)
        return [o * squashed, new_c], [gates, c, squashed]

    def pull(self, values, before, h, d_state, transposed):
        gates, c, squashed = values
        d_h, d_c = d_state
        i, f, g, o = tf.split(gates, 4, axis=1)
        d_c += d_h * (o * self.activation.slope(squashed))
        slope = self._by_block("slope", gates)
        factors = slope * tf.concat([g, c, i, squashed], axis=1)
        d_row = factors * tf.concat([d_c, d_c, d_c, d_h], axis=-1)
        return [d_row], [common.project(d_row, transposed), d_c * f]

    def _by_block(self, what, row):
        """The value or slope of each block's activation."""
        units = row.shape[1] // 4
        i_f, g, o = tf.split(row, [2 * units, units, units], axis=1)
        gate, activation = (
            getattr(each, what) for each in (self.gate, self.activation)
        )
        return tf.concat([gate(i_f), activation(g), gate(o)], axis=1)
