"""LSTM over time, with a backward pass written by hand.

With i, f, o = σ(·), g = tanh(·), c_t = f·c + i·g and h_t = o·tanh(c_t):

    dc += dh · o·(1 - tanh²(c_t))
    dz  = (dc, dc, dc, dh) · (g·i', c·f', i·g', tanh(c_t)·o')
    dh  = dz · Uᵀ,  dc = dc · f

Every factor on the right is known in the forward pass and is saved ready-made,
so that a reverse step is one product, a few multiplications and no
transcendental function. Gradients of the weights are single products over all
steps after the loop.
"""

import tensorflow as tf

from keras_seqgrad.ops import common
from keras_seqgrad.ops.arguments import prepare


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

    What `keras.layers.LSTM` computes with its default activations, from the
    same weights, in time linear in the number of steps under XLA as without
    it. Use it where you hold weights and state yourself; `ksg.layers.LSTM` is
    the layer. Not for other activations or recurrent dropout: those are
    `ksg.ops.rnn` over a cell.

    Rule, with σ the logistic function and blocks in Keras' order i, f, g, o:

        i, f, o = σ(x·W + h·U + b)    g = tanh(x·W + h·U + b)
        c = f·c + i·g                 h = o·tanh(c)

    The gradient is exact where `gates` is None or all ones; otherwise the
    gradient of h and c on its way from step t to the state before it is
    multiplied by gates[t]. First derivatives only.

    Args:
        inputs: (batch, time, features), any floating dtype; the computation
            runs in it.
        state: [h, c], each (batch, units), of the inputs' dtype, as all
            weights.
        kernel: (features, 4 * units).
        recurrent_kernel: (units, 4 * units).
        bias: (4 * units,), or None.
        mask: bool (batch, time). Where False, the row's state passes
            unchanged and the output repeats h.
        gates: Float (time,) or (batch, time): factors of the gradient that
            crosses from step t to the state before it; gates[0] is the link
            to `state`. No effect on the forward pass, no gradient.
        reset: bool (batch, time). Where True, the row's state is replaced by
            `reset_state` before the step, masked or not; its gradient goes
            there, whatever the gate, and nothing goes further back.
        reset_state: [h, c] like `state`; None means zeros.
        twin: [inputs, *state] once more, or None. With it all results are
            returned once more, as their twins. A gradient of the twins goes
            back to `twin` alone, in one scan with the gradient of the results.

    Returns:
        Outputs (batch, time, units) and the last state [h, c]; with `twin`
        followed by their twins, the same again.

    Raises:
        ValueError: A shape does not fit, or `reset_state` without `reset`.
        TypeError: A dtype does not fit.

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
    given = prepare(
        inputs,
        state,
        kernel,
        recurrent_kernel,
        bias,
        mask,
        gates,
        reset,
        reset_state,
        twin,
        state_names=("h", "c"),
        blocks=4,
    )
    units = given.units
    half = common.constant_blocks([0.5, 0.5, 1.0, 0.5], units, given.dtype)
    shift = common.constant_blocks([0.5, 0.5, 0.0, 0.5], units, given.dtype)

    @common.first_derivative
    def run(series, twin, state, weights, reset_state):
        kernel, recurrent_kernel, *bias = weights
        # σ(z) = tanh(z / 2) / 2 + 1 / 2: one function for all four blocks.
        projected = common.project(series, kernel * half)
        recurrent = recurrent_kernel * half
        offset = bias[0] * half if bias else None

        def step(row, state):
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

        outputs, last, saved = common.forward_scan(
            step,
            projected,
            state,
            [4 * units, units, units],
            given.links,
            reset_state,
        )

        def gradient(d_outputs, d_h, d_c, *d_twin):
            transposed = tf.transpose(recurrent_kernel)
            to_inputs = tf.transpose(kernel)

            def pull(values, d_state):
                by_gate, by_c, f = values
                d_h, d_c = d_state
                d_c += d_h * by_c
                d_row = by_gate * tf.concat([d_c, d_c, d_c, d_h], axis=-1)
                return [d_row], [common.project(d_row, transposed), d_c * f]

            (d_rows,), d_state, d_reset, d_back = common.reverse_scan(
                pull,
                saved,
                d_outputs,
                [d_h, d_c],
                [projected],
                given.links,
                d_twin,
            )
            before = common.previous_outputs(
                state, outputs, given.links, reset_state
            )
            return [
                common.project(d_rows, to_inputs),
                *common.twin_gradient(*d_back, to_inputs),
                *d_state,
                common.kernel_gradient(series, d_rows),
                common.kernel_gradient(before, d_rows),
                *[common.bias_gradient(d_rows) for _ in bias],
                *d_reset,
            ]

        results = outputs, *last
        return results * (2 if twin else 1), gradient

    return common.batch_major(run, given)
