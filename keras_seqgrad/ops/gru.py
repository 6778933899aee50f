"""GRU over time, with a backward pass written by hand.

With z, r = σ(·), k = h·U_h + b' and g = tanh(x·W_h + b + r·k),
h_t = z·h + (1 - z)·g, every gradient of a step is dh times something known in
the forward pass, with a = (1 - z)·g':

    dz = dh · (h - g)·z'    dr = dh · a·k·r'    dk = dh · a·r    dg = dh · a
    dh = dh · z + (dz, dr, dk) · Uᵀ

These factors are saved ready-made, and gradients of the weights are single
products over all steps after the loop. With `reset_after=False` the gate r
acts on h before the product, g = tanh(x·W_h + b + (r·h)·U_h), and two products
take the place of one.
"""

import tensorflow as tf

from keras_seqgrad.ops import common
from keras_seqgrad.ops.arguments import prepare


def gru(
    inputs,
    state,
    kernel,
    recurrent_kernel,
    bias,
    *,
    reset_after=True,
    mask=None,
    gates=None,
    reset=None,
    reset_state=None,
    twin=None,
):
    """Gated recurrent unit over the time axis of `inputs`.

    What `keras.layers.GRU` computes with its default activations, from the
    same weights, in time linear in the number of steps under XLA as without
    it. Use it where you hold weights and state yourself; `ksg.layers.GRU` is
    the layer. Not for other activations or recurrent dropout: those are
    `ksg.ops.rnn` over a cell.

    Rule, with σ the logistic function and blocks in Keras' order z, r, g:

        z, r = σ(x·W + h·U + b)
        g = tanh(x·W_g + b_g + r·(h·U_g + b'_g))    reset_after=True
        g = tanh(x·W_g + b_g + (r·h)·U_g)           reset_after=False
        h = z·h + (1 - z)·g

    The gradient is exact where `gates` is None or all ones; otherwise the
    gradient of h on its way from step t to the state before it is multiplied
    by gates[t]. First derivatives only.

    Args:
        inputs: (batch, time, features), any floating dtype; the computation
            runs in it.
        state: [h], (batch, units), of the inputs' dtype, as all weights.
        kernel: (features, 3 * units).
        recurrent_kernel: (units, 3 * units).
        bias: (2, 3 * units) with `reset_after`, for the input and for the
            recurrent product, else (3 * units,); or None.
        reset_after: Whether the gate r acts after the recurrent product.
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
        ValueError: A shape does not fit, or `reset_state` without `reset`.
        TypeError: A dtype does not fit.

    Reference:
        Cho et al., 2014. Learning phrase representations using RNN
        encoder-decoder. arXiv:1406.1078.

    Example:

    >>> outputs, (h,) = ksg.ops.gru(
    ...     tf.ones((2, 5, 3)),
    ...     [tf.zeros((2, 4))],
    ...     tf.ones((3, 12)),
    ...     tf.ones((4, 12)),
    ...     tf.zeros((2, 12)),
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
        state_names=("h",),
        blocks=3,
        bias_rows=(2,) if reset_after else (),
    )
    scan = _reset_after(given) if reset_after else _reset_before(given)
    return common.batch_major(scan, given)


def _halved(tensor):
    """Halves what a σ is taken of: σ(z) = tanh(z / 2) / 2 + 1 / 2."""
    half = common.constant_blocks(
        [0.5, 0.5, 1.0], tensor.shape[-1] // 3, tensor.dtype
    )
    return tensor * half


def _reset_after(given):
    units = given.units

    @common.first_derivative
    def run(series, twin, state, weights, reset_state):
        kernel, recurrent_kernel, *bias = weights
        projected = common.project(series, _halved(kernel))
        recurrent = _halved(recurrent_kernel)
        offsets = tf.unstack(_halved(bias[0])) if bias else None

        def step(row, state):
            (h,) = state
            product = tf.matmul(h, recurrent)
            if offsets is not None:
                row += offsets[0]
                product += offsets[1]
            row_gates, row_g = tf.split(row, [2 * units, units], axis=1)
            from_h, k = tf.split(product, [2 * units, units], axis=1)
            z, r = tf.split(0.5 * tf.tanh(row_gates + from_h) + 0.5, 2, axis=1)
            g = tf.tanh(row_g + r * k)
            by_g = (1.0 - z) * (1.0 - g * g)
            by_k = by_g * r
            by_product = tf.concat(
                [(h - g) * (z * (1.0 - z)), by_k * k * (1.0 - r), by_k], axis=1
            )
            return [g + z * (h - g)], [by_product, by_g, z]

        outputs, last, saved = common.forward_scan(
            step,
            projected,
            state,
            [3 * units, units, units],
            given.links,
            reset_state,
        )

        def gradient(d_outputs, d_h, *d_twin):
            transposed = tf.transpose(recurrent_kernel)
            to_inputs = tf.transpose(kernel)

            def pull(values, d_state):
                by_product, by_g, z = values
                (d_h,) = d_state
                d_product = by_product * tf.concat([d_h] * 3, axis=-1)
                d_before = common.project(d_product, transposed) + d_h * z
                return [d_product, d_h * by_g], [d_before]

            buffers = [projected, saved[1]]
            rows, d_state, d_reset, d_back = common.reverse_scan(
                pull, saved, d_outputs, [d_h], buffers, given.links, d_twin
            )
            d_products = rows[0]

            def joined(d_products, d_g):
                return tf.concat([d_products[..., : 2 * units], d_g], axis=2)

            d_rows = joined(*rows)
            twin_rows, twin_state = d_back
            d_back = [joined(*twin_rows)] if twin_rows else [], twin_state
            before = common.previous_outputs(
                state, outputs, given.links, reset_state
            )
            d_bias = [
                tf.stack(
                    [common.bias_gradient(d) for d in (d_rows, d_products)]
                )
                for _ in bias
            ]
            return [
                common.project(d_rows, to_inputs),
                *common.twin_gradient(*d_back, to_inputs),
                *d_state,
                common.kernel_gradient(series, d_rows),
                common.kernel_gradient(before, d_products),
                *d_bias,
                *d_reset,
            ]

        results = outputs, *last
        return results * (2 if twin else 1), gradient

    return run


def _reset_before(given):
    units = given.units

    @common.first_derivative
    def run(series, twin, state, weights, reset_state):
        kernel, recurrent_kernel, *bias = weights
        projected = common.project(series, _halved(kernel))
        for_gates, for_g = tf.split(
            _halved(recurrent_kernel), [2 * units, units], axis=1
        )
        offset = _halved(bias[0]) if bias else None

        def step(row, state):
            (h,) = state
            if offset is not None:
                row += offset
            row_gates, row_g = tf.split(row, [2 * units, units], axis=1)
            gates = 0.5 * tf.tanh(row_gates + tf.matmul(h, for_gates)) + 0.5
            z, r = tf.split(gates, 2, axis=1)
            kept = r * h
            g = tf.tanh(row_g + tf.matmul(kept, for_g))
            by_z = (h - g) * (z * (1.0 - z))
            by_g = (1.0 - z) * (1.0 - g * g)
            return [g + z * (h - g)], [by_z, by_g, kept * (1.0 - r), z, r, kept]

        outputs, last, saved = common.forward_scan(
            step, projected, state, [units] * 6, given.links, reset_state
        )

        def gradient(d_outputs, d_h, *d_twin):
            to_inputs = tf.transpose(kernel)
            to_gates, to_g = tf.split(
                tf.transpose(recurrent_kernel), [2 * units, units]
            )

            def pull(values, d_state):
                by_z, by_g, by_r, z, r, _ = values
                (d_h,) = d_state
                d_g = d_h * by_g
                d_kept = common.project(d_g, to_g)
                d_gates = tf.concat([d_h * by_z, d_kept * by_r], axis=-1)
                d_before = d_h * z + d_kept * r
                d_before += common.project(d_gates, to_gates)
                return [tf.concat([d_gates, d_g], axis=-1)], [d_before]

            (d_rows,), d_state, d_reset, d_back = common.reverse_scan(
                pull, saved, d_outputs, [d_h], [projected], given.links, d_twin
            )
            before = common.previous_outputs(
                state, outputs, given.links, reset_state
            )
            d_gates, d_g = tf.split(d_rows, [2 * units, units], axis=2)
            d_recurrent = [
                common.kernel_gradient(before, d_gates),
                common.kernel_gradient(saved[-1], d_g),
            ]
            return [
                common.project(d_rows, to_inputs),
                *common.twin_gradient(*d_back, to_inputs),
                *d_state,
                common.kernel_gradient(series, d_rows),
                tf.concat(d_recurrent, axis=1),
                *[common.bias_gradient(d_rows) for _ in bias],
                *d_reset,
            ]

        results = outputs, *last
        return results * (2 if twin else 1), gradient

    return run
