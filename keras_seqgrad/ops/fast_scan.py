"""Runs a described cell over time, with a backward pass written by hand.

The inputs of all steps are multiplied in one product before the loop, and
gradients of the weights are single products over all steps after it. What a
reverse step needs is saved ready-made in the forward pass.
"""

import tensorflow as tf

from keras_seqgrad.ops import common
from keras_seqgrad.ops.arguments import prepare


def fast_scan(cell, inputs, state, weights, links, twin=None):
    """What the public function of a fast cell does.

    Args:
        cell: `FastCell`.
        inputs: (batch, time, features).
        state: List of (batch, units).
        weights: kernel, recurrent_kernel, bias.
        links: mask, gates, reset, reset_state.
        twin: [inputs, *state] once more, or None.

    Returns:
        Outputs (batch, time, units) and the last state; followed by their
        twins if there are any.
    """
    given = prepare(cell, inputs, state, weights, links, twin)
    links, size = given.links, len(given.state)

    @common.first_derivative
    def run(series, twin, state, weights, reset_state):
        kernel, recurrent_kernel, *bias = weights
        to_rows, *step_weights = cell.step_weights(
            kernel, recurrent_kernel, bias[0] if bias else None
        )
        if links.mask is not None:
            # Before all products, for the gradient of the kernel is one: rows
            # of zeros in it do not make up for NaN in a masked step.
            nothing = tf.zeros((), series.dtype)
            series = tf.where(links.mask, series, nothing)
        projected = common.project(series, to_rows)

        def step(row, state):
            return cell.step(row, state, *step_weights)

        widths = [given.units * blocks for blocks in cell.saved]
        outputs, last, saved = common.forward_scan(
            step, projected, state, widths, links, reset_state
        )

        def gradient(d_outputs, *d_last):
            d_last, d_twin = list(d_last[:size]), d_last[size:]
            pull_weights = cell.pull_weights(recurrent_kernel)
            to_inputs = tf.transpose(kernel)

            def pull(values, d_state):
                return cell.pull(values, d_state, *pull_weights)

            buffers = cell.buffers(projected, saved)
            inner, d_state, d_reset, (inner_twin, d_twin) = common.reverse_scan(
                pull, saved, d_outputs, d_last, buffers, links, d_twin
            )
            d_rows = cell.d_rows(inner)
            if twin:
                d_twin_rows = cell.d_rows(inner_twin)
                d_twin = [common.project(d_twin_rows, to_inputs), *d_twin]
            before = common.previous_outputs(state, outputs, links, reset_state)
            return [
                common.project(d_rows, to_inputs),
                *d_twin,
                *d_state,
                common.kernel_gradient(series, d_rows),
                cell.d_recurrent_kernel(before, inner, saved),
                *[cell.d_bias(inner) for _ in bias],
                *d_reset,
            ]

        results = outputs, *last
        return results * (2 if twin else 1), gradient

    results = run(
        given.series,
        given.twin,
        given.state,
        given.weights,
        given.reset_state,
    )
    found = []
    for start in range(0, len(results), 1 + size):
        outputs, *last = results[start : start + 1 + size]
        found += [common.swap_time(outputs), last]
    return tuple(found)
