"""GRU over time, with a backward pass written by hand.

With z, r = σ(·), k = h·U_h + b' and g = tanh(x·W_h + b + r·k),
h_t = z·h + (1 - z)·g and h = h_{t-1}:

    dg = dh · (1 - z)·(1 - g²)        dk = dg · r
    dz = dh · (h - g)·z·(1 - z)       dr = dk · k·(1 - r)
    dh = dh · z + (dz, dr, dk) · Uᵀ

A step saves z, r, g and k. With `reset_after=False` the gate r acts on h before
the product, g = tanh(x·W_h + b + (r·h)·U_h): two products take the place of
one, and r·h that of k.
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
from keras_seqgrad.tensors import arguments


@of_fast_scan("GRU")
def gru(
    inputs: Any,
    state: Sequence[Any],
    kernel: Any,
    recurrent_kernel: Any,
    bias: Any,
    *,
    reset_after: bool = True,
    mask: Any = None,
    gates: Any = None,
    reset: Any = None,
    reset_state: Any = None,
    twin: Any = None,
) -> tuple:
    """Gated recurrent unit over the time axis of `inputs`.

    {purpose}

    Rule, with σ the logistic function and blocks in Keras' order z, r, g:

        z, r = σ(x·W + h·U + b)
        g = tanh(x·W_g + b_g + r·(h·U_g + b'_g))    reset_after=True
        g = tanh(x·W_g + b_g + (r·h)·U_g)           reset_after=False
        h = z·h + (1 - z)·g

    {gradient}

    Args:
        {inputs}
        state: [h], (batch, units), of the inputs' dtype, as all weights.
        kernel: (features, 3 * units).
        recurrent_kernel: (units, 3 * units).
        bias: (2, 3 * units) with `reset_after`, for the input and for the
            recurrent product, else (3 * units,); or None.
        reset_after: Whether the gate r acts after the recurrent product.
        {links}

    {results}

    Reference:
        Cho et al., 2014. Learning phrase representations using RNN
        encoder-decoder. arXiv:1406.1078.

    Example:

    >>> inputs, state = tf.ones((2, 5, 3)), [tf.zeros((2, 4))]
    >>> weights = tf.ones((3, 12)), tf.ones((4, 12)), tf.zeros((2, 12))
    >>> outputs, (h,) = ksg.ops.gru(inputs, state, *weights)
    >>> outputs.shape
    TensorShape([2, 5, 4])
    """
    reset_after = arguments.flag(reset_after, "reset_after")
    cell = ResetAfter() if reset_after else ResetBefore()
    weights = kernel, recurrent_kernel, bias
    links = mask, gates, reset, reset_state
    return fast_scan(cell, inputs, state, weights, links, twin)


@describes(keras.layers.GRUCell)
def described(cell):
    names = gated_names(cell)
    if None in names:
        return None
    return (ResetAfter if cell.reset_after else ResetBefore)(*names)


def _split(tensor, axis=-1):
    """The two gates, and what g is made of."""
    units = tensor.shape[axis] // 3
    return tf.split(tensor, [2 * units, units], axis=axis)


class FastGRU(FastCell):
    """The step of a GRU, with φ for tanh and σ.

    Args:
        activation, gate: Names of two of `ACTIVATIONS`, for g and the gates.
    """

    def __init__(self, activation="tanh", gate="sigmoid"):
        self.activation, self.gate = ACTIVATIONS[activation], ACTIVATIONS[gate]


class ResetAfter(FastGRU):
    """g = tanh(x·W_g + b_g + r·(h·U_g + b'_g))."""

    blocks = 3
    bias_rows = (2,)
    saved = (2, 1, 1)
    inner = (3, 1)

    def step_weights(self, kernel, recurrent_kernel, bias):
        offsets = None if bias is None else tf.unstack(bias)
        return kernel, recurrent_kernel, offsets

    def step(self, row, state, recurrent, offsets):
        (h,) = state
        product = tf.matmul(h, recurrent)
        if offsets is not None:
            row += offsets[0]
            product += offsets[1]
        row_gates, row_g = _split(row)
        from_h, k = _split(product)
        gates = self.gate.value(row_gates + from_h)
        z, r = tf.split(gates, 2, axis=1)
        g = self.activation.value(row_g + r * k)
        return [g + z * (h - g)], [gates, g, k]

    def pull(self, values, h, output, d_state, transposed):
        gates, g, k = values
        z, r = tf.split(gates, 2, axis=1)
        (d_h,) = d_state
        by_g = (1.0 - z) * self.activation.slope(g)
        by_k = by_g * r
        by_gates = [(h - g) * self.gate.slope(z), by_g * k * self.gate.slope(r)]
        by_product = tf.concat([*by_gates, by_k], axis=1)
        d_product = by_product * tf.concat([d_h] * 3, axis=-1)
        d_g = d_h * by_g
        d_before = common.project(d_product, transposed) + d_h * z
        return [d_product, d_g], [d_before]

    def d_rows(self, inner):
        d_product, d_g = inner
        return tf.concat([_split(d_product)[0], d_g], axis=-1)

    def d_bias(self, inner):
        rows = self.d_rows(inner), inner[0]
        return tf.stack([common.bias_gradient(d) for d in rows])


class ResetBefore(FastGRU):
    """g = tanh(x·W_g + b_g + (r·h)·U_g)."""

    blocks = 3
    saved = (2, 1, 1)
    inner = (3,)

    def step_weights(self, kernel, recurrent_kernel, bias):
        return kernel, *_split(recurrent_kernel), bias

    def step(self, row, state, for_gates, for_g, bias):
        (h,) = state
        if bias is not None:
            row += bias
        row_gates, row_g = _split(row)
        gates = self.gate.value(row_gates + tf.matmul(h, for_gates))
        z, r = tf.split(gates, 2, axis=1)
        kept = r * h
        g = self.activation.value(row_g + tf.matmul(kept, for_g))
        return [g + z * (h - g)], [gates, g, kept]

    def pull_weights(self, recurrent_kernel):
        return _split(tf.transpose(recurrent_kernel), axis=0)

    def pull(self, values, h, output, d_state, to_gates, to_g):
        gates, g, kept = values
        z, r = tf.split(gates, 2, axis=1)
        (d_h,) = d_state
        d_new = d_h * (1.0 - z)
        d_g = d_new * self.activation.slope(g)
        d_kept = common.project(d_g, to_g)
        d_z = d_h * (h - g) * self.gate.slope(z)
        d_r = d_kept * h * self.gate.slope(r)
        d_before = d_h * z + d_kept * r
        d_gates = tf.concat([d_z, d_r], axis=-1)
        d_before += common.project(d_gates, to_gates)
        return [tf.concat([d_gates, d_g], axis=-1)], [d_before]

    def d_recurrent_kernel(self, before, inner, saved):
        d_gates, d_g = _split(inner[0])
        pairs = (before, d_gates), (saved[-1], d_g)
        parts = [common.kernel_gradient(*pair) for pair in pairs]
        return tf.concat(parts, axis=1)
