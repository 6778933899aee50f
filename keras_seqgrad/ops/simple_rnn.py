"""Fully connected recurrence over time, with a hand-written backward pass.

    h_t = φ(x_t·W + h_{t-1}·U + b)
    dz = dh · φ'(z),  dh = dz · Uᵀ

φ' is a function of h_t, so that nothing beside the outputs is saved.
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_seqgrad.ops import activations, common
from keras_seqgrad.ops.documentation import of_fast_scan
from keras_seqgrad.ops.fast_cell import FastCell, describes
from keras_seqgrad.ops.fast_scan import fast_scan
from keras_seqgrad.tensors import arguments


@of_fast_scan("SimpleRNN")
def simple_rnn(
    inputs: Any,
    state: Sequence[Any],
    kernel: Any,
    recurrent_kernel: Any,
    bias: Any,
    *,
    activation: activations.Name = "tanh",
    mask: Any = None,
    gates: Any = None,
    reset: Any = None,
    reset_state: Any = None,
    twin: Any = None,
) -> tuple:
    """Fully connected recurrence over the time axis of `inputs`.

    {purpose}

    Rule: h_t = φ(x_t·W + h_{t-1}·U + b), φ the activation.

    {gradient}

    Args:
        {inputs}
        state: [h], (batch, units), of the inputs' dtype, as all weights.
        kernel: (features, units).
        recurrent_kernel: (units, units).
        bias: (units,), or None.
        activation: "tanh", "relu", "sigmoid", "linear", or another one whose
            slope follows from its value: "elu", "exponential", "hard_sigmoid",
            "leaky_relu", "relu6", "selu", "softplus", "softsign".
        {links}

    {results}

    Reference:
        Elman, 1990. Finding structure in time.

    Example:

    >>> inputs, state = tf.ones((2, 5, 3)), [tf.zeros((2, 4))]
    >>> weights = tf.ones((3, 4)), tf.ones((4, 4)), tf.zeros(4)
    >>> outputs, (h,) = ksg.ops.simple_rnn(inputs, state, *weights)
    >>> outputs.shape
    TensorShape([2, 5, 4])
    """
    arguments.choice(
        activation,
        "activation",
        sorted(activations.ACTIVATIONS),
        "; write `ksg.ops.rnn` over a cell for others",
    )
    cell = FastSimpleRNN(activation)
    weights = kernel, recurrent_kernel, bias
    links = mask, gates, reset, reset_state
    return fast_scan(cell, inputs, state, weights, links, twin)


@describes(keras.layers.SimpleRNNCell)
def described(cell):
    name = activations.name_of(cell.activation)
    return None if name is None else FastSimpleRNN(name)


class FastSimpleRNN(FastCell):
    """The step of a fully connected recurrence.

    Args:
        activation: Name of one of `ACTIVATIONS`.
    """

    def __init__(self, activation):
        self.activation = activations.ACTIVATIONS[activation]

    def step(self, row, state, recurrent_kernel, bias):
        row += tf.matmul(state[0], recurrent_kernel)
        h = self.activation.value(row if bias is None else row + bias)
        return [h], []

    def pull(self, values, before, h, d_state, transposed):
        d_row = self.activation.slope(h) * d_state[0]
        return [d_row], [common.project(d_row, transposed)]
