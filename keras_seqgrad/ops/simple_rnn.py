"""Fully connected recurrence over time, with a hand-written backward pass.

    h_t = φ(x_t·W + h_{t-1}·U + b)
    dz = dh · φ'(z),  dh = dz · Uᵀ

φ' is saved in the forward pass; gradients of the weights are single products
over all steps after the loop.
"""

import tensorflow as tf

from keras_seqgrad.ops import common
from keras_seqgrad.ops.arguments import prepare

# Each activation with its slope, as a function of the activation's value.
ACTIVATIONS = {
    "tanh": (tf.tanh, lambda h: 1.0 - h * h),
    "relu": (tf.nn.relu, lambda h: tf.cast(h > 0, h.dtype)),
    "sigmoid": (tf.sigmoid, lambda h: h * (1.0 - h)),
    "linear": (tf.identity, tf.ones_like),
}


def simple_rnn(
    inputs,
    state,
    kernel,
    recurrent_kernel,
    bias,
    *,
    activation="tanh",
    mask=None,
    gates=None,
    reset=None,
    reset_state=None,
    twin=None,
):
    """Fully connected recurrence over the time axis of `inputs`.

    What `keras.layers.SimpleRNN` computes, from the same weights, in time
    linear in the number of steps under XLA as without it. Use it where you
    hold weights and state yourself; `ksg.layers.SimpleRNN` is the layer. Not
    for other activations or recurrent dropout: those are `ksg.ops.rnn` over a
    cell.

    Rule: h_t = φ(x_t·W + h_{t-1}·U + b), φ the activation.

    The gradient is exact where `gates` is None or all ones; otherwise the
    gradient of h on its way from step t to the state before it is multiplied
    by gates[t]. First derivatives only.

    Args:
        inputs: (batch, time, features), any floating dtype; the computation
            runs in it.
        state: [h], (batch, units), of the inputs' dtype, as all weights.
        kernel: (features, units).
        recurrent_kernel: (units, units).
        bias: (units,), or None.
        activation: "tanh", "relu", "sigmoid" or "linear".
        mask: bool (batch, time). Where False, the row's state passes
            unchanged and the output repeats it.
        gates: Float (time,) or (batch, time): factors of the gradient that
            crosses from step t to the state before it; gates[0] is the link
            to `state`. No effect on the forward pass, no gradient.
        reset: bool (batch, time). Where True, the row's state is replaced by
            `reset_state` before the step, masked or not; its gradient goes
            there, whatever the gate, and nothing goes further back.
        reset_state: [h] like `state`; None means zeros.
        twin: [inputs, *state] once more, or None. With it all results are
            returned once more, as their twins. A gradient of the twins goes
            back to `twin` alone, in one scan with the gradient of the results.

    Returns:
        Outputs (batch, time, units) and the last state [h]; with `twin`
        followed by their twins, the same again.

    Raises:
        ValueError: Unknown `activation`, a shape does not fit, or
            `reset_state` without `reset`.
        TypeError: A dtype does not fit.

    Reference:
        Elman, 1990. Finding structure in time.

    Example:

    >>> outputs, (h,) = ksg.ops.simple_rnn(
    ...     tf.ones((2, 5, 3)),
    ...     [tf.zeros((2, 4))],
    ...     tf.ones((3, 4)),
    ...     tf.ones((4, 4)),
    ...     tf.zeros(4),
    ... )
    >>> outputs.shape
    TensorShape([2, 5, 4])
    """
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"`activation` must be one of {sorted(ACTIVATIONS)}; write "
            "`ksg.ops.rnn` over a cell for others. "
            f"Received: activation={activation!r}"
        )
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
        state_names=("h",),
        blocks=1,
    )
    activate, slope = ACTIVATIONS[activation]

    @common.first_derivative
    def run(series, twin, state, weights, reset_state):
        kernel, recurrent_kernel, *bias = weights
        projected = common.project(series, kernel)

        def step(row, state):
            row += tf.matmul(state[0], recurrent_kernel)
            h = activate(row + bias[0] if bias else row)
            return [h], [slope(h)]

        outputs, last, saved = common.forward_scan(
            step, projected, state, [given.units], given.links, reset_state
        )

        def gradient(d_outputs, d_h, *d_twin):
            transposed = tf.transpose(recurrent_kernel)
            to_inputs = tf.transpose(kernel)

            def pull(values, d_state):
                d_row = values[0] * d_state[0]
                return [d_row], [common.project(d_row, transposed)]

            (d_rows,), d_state, d_reset, d_back = common.reverse_scan(
                pull, saved, d_outputs, [d_h], [projected], given.links, d_twin
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
