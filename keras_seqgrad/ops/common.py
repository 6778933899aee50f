"""What the fast scans share: their loops, forward and in reverse.

A scan is two functions. `step(projected, state)` goes one step forward and
returns the new state and what its derivative needs; `pull(saved, d_state)`
goes the same step back. `forward_scan` and `reverse_scan` drive them, and they
alone know masks, gates and resets. Everything in here is time-major,
(time, batch, features), so that the rows of one step lie next to each other.

No loop of this package is ever differentiated: the gradient of a while loop
keeps every intermediate of every step, and under XLA its cost grows with the
square of the number of steps.
"""

import numpy as np
import tensorflow as tf


def first_derivative(function):
    """`tf.custom_gradient`, and an error in place of a second derivative.

    Without the error a second derivative would be silently wrong: it would
    take what the forward loop saved for constants.
    """

    @tf.custom_gradient
    def last(*tensors):
        def refuse(*_):
            raise NotImplementedError(
                "The time scans of keras_seqgrad have first derivatives only. "
                "Received: a request for a derivative of their gradient. Use "
                "a `keras.layers.RNN` layer with `unroll=True` where you need "
                "higher ones."
            )

        return list(tensors), refuse

    def with_refusal(*arguments):
        result, gradient = function(*arguments)

        def once(*cotangents):
            return last(*gradient(*cotangents))

        return result, once

    # Nothing in here depends on a tensor's value: AutoGraph would only add
    # tracing time.
    return tf.custom_gradient(
        tf.autograph.experimental.do_not_convert(with_refusal)
    )


def constant_blocks(values, units, dtype):
    """One number for each block of a row of gates, (blocks * units,)."""
    return tf.constant(np.repeat(values, units), dtype)


def swap_time(tensor):
    """(batch, time, ...) to (time, batch, ...), and back."""
    axes = [1, 0, *range(2, tensor.shape.rank)]
    return tf.transpose(tensor, axes)


def flatten_time(series):
    """(time, batch, features) to (time * batch, features)."""
    return tf.reshape(series, [-1, series.shape[-1]])


def project(series, kernel):
    """Multiplies all rows by `kernel` in one product."""
    if series.shape.rank == 2:
        return tf.matmul(series, kernel)
    shape = tf.shape(series)
    product = tf.matmul(flatten_time(series), kernel)
    product = tf.reshape(product, [shape[0], shape[1], kernel.shape[-1]])
    return tf.ensure_shape(product, [*series.shape[:2], kernel.shape[-1]])


def kernel_gradient(series, d_rows):
    """Gradient of the kernel that multiplied `series` at every step."""
    return tf.matmul(
        flatten_time(series), flatten_time(d_rows), transpose_a=True
    )


def bias_gradient(d_rows):
    """Gradient of the bias that was added at every step."""
    # A sum in float16 stands still once it outgrows its summands.
    wide = tf.float64 if d_rows.dtype == tf.float64 else tf.float32
    total = tf.reduce_sum(tf.cast(flatten_time(d_rows), wide), axis=0)
    return tf.cast(total, d_rows.dtype)


def previous_outputs(state, outputs, links, reset_state):
    """The output before step t, as step t saw it, for every t."""
    before = tf.concat([state[0][tf.newaxis], outputs], axis=0)
    before = before[: tf.shape(outputs)[0]]
    if links.reset is not None:
        before = tf.where(links.reset, reset_state[0], before)
    return tf.ensure_shape(before, outputs.shape)


def forward_scan(step, projected, state, widths, links, reset_state):
    """Runs `step` over time.

    Args:
        step: `step(projected_t, state) -> state, values`, where `values` are
            the tensors (batch, width) that the reverse scan needs. The first
            tensor of the state is the output.
        projected: (time, batch, features).
        state: List of (batch, units).
        widths: Width of each of `values`.
        links: `Links`.
        reset_state: List like `state`, used where `links.reset` is True.

    Returns:
        Outputs (time, batch, units), the last state, and the list of series
        (time, batch, width) of the values.
    """
    steps = tf.shape(projected)[0]
    outputs = _empty_series(projected, state[0].shape[-1])
    saved = [_empty_series(projected, width) for width in widths]

    def body(time, state, outputs, saved):
        if links.reset is not None:
            replaced = tf.gather(links.reset, time)
            state = _choose(replaced, reset_state, state)
        new_state, values = step(tf.gather(projected, time), state)
        if links.mask is not None:
            valid = tf.gather(links.mask, time)
            new_state = _choose(valid, new_state, state)
        outputs = outputs.write(time, new_state[0])
        saved = [
            series.write(time, value)
            for series, value in zip(saved, values, strict=True)
        ]
        return time + 1, new_state, outputs, saved

    _, state, outputs, saved = tf.while_loop(
        lambda time, *_: time < steps, body, (0, state, outputs, saved)
    )
    return outputs.stack(), state, [series.stack() for series in saved]


def reverse_scan(pull, saved, d_outputs, d_state, buffers, links, d_twin=()):
    """Runs `pull` over time from the last step to the first.

    The gradient of the results' twins goes back beside that of the results,
    stacked with it: both share one product a step, which takes far less time
    than two.

    Args:
        pull: `pull(values, d_state) -> d_rows, d_previous_state`: from the
            saved values of a step and the gradient of its new state, the
            gradients of its rows and of the state it started from. The
            gradients are (batch, units), or (2, batch, units) with a twin.
        saved: Series of `forward_scan`.
        d_outputs: (time, batch, units).
        d_state: Gradient of the last state, a list of (batch, units).
        buffers: Series (time, batch, width) of the shapes of `d_rows`, not
            needed any more: XLA writes `d_rows` over them, which spares
            clearing as much fresh memory.
        links: `Links`.
        d_twin: [d_outputs, *d_state] of the twins; empty without.

    Returns:
        List of series `d_rows`, the gradient of the first state, that of the
        reset state (empty without resets), and for the twins (series `d_rows`,
        gradient of the first state), both empty without.
    """
    steps = tf.shape(d_outputs)[0]
    rows = [
        tf.TensorArray(
            buffer.dtype, size=steps, element_shape=buffer.shape[1:]
        ).unstack(buffer)
        for buffer in buffers
    ]
    zero = tf.zeros((), d_outputs.dtype)
    d_reset = []
    if links.reset is not None:
        d_reset = [tf.zeros_like(tensor) for tensor in d_state]
    if d_twin:
        pairs = zip(d_state, d_twin[1:], strict=True)
        d_state = [tf.stack(pair) for pair in pairs]
        rows += [_empty_series(array, array.shape[-1]) for array in buffers]

    def body(time, d_state, d_reset, rows):
        entering = tf.gather(d_outputs, time)
        if d_twin:
            entering = tf.stack([entering, tf.gather(d_twin[0], time)])
        d_state = [d_state[0] + entering, *d_state[1:]]
        values = [tf.gather(series, time) for series in saved]
        d_rows, d_previous = pull(values, d_state)
        if links.mask is not None:
            valid = tf.gather(links.mask, time)
            d_previous = _choose(valid, d_previous, d_state)
            d_rows = _choose(valid, d_rows, [zero] * len(d_rows))
        if links.reset is not None:
            nothing = [zero] * len(d_state)
            replaced = tf.gather(links.reset, time)
            caught = _choose(replaced, d_previous, nothing)
            if d_twin:
                caught = [tensor[0] for tensor in caught]
            d_reset = [
                total + part
                for total, part in zip(d_reset, caught, strict=True)
            ]
            d_previous = _choose(replaced, nothing, d_previous)
        if links.gates is not None:
            gate = tf.gather(links.gates, time)
            # A cut link stays cut when the gradient behind it has exploded.
            d_previous = [
                tf.math.multiply_no_nan(tensor, gate) for tensor in d_previous
            ]
        if d_twin:
            d_rows = [row[which] for which in (0, 1) for row in d_rows]
        rows = [
            series.write(time, value)
            for series, value in zip(rows, d_rows, strict=True)
        ]
        return time - 1, d_previous, d_reset, rows

    _, d_state, d_reset, rows = tf.while_loop(
        lambda time, *_: time >= 0, body, (steps - 1, d_state, d_reset, rows)
    )
    rows, twin_rows = (
        [series.stack() for series in half]
        for half in (rows[: len(buffers)], rows[len(buffers) :])
    )
    twin_state = []
    if d_twin:
        pairs = [tf.unstack(tensor) for tensor in d_state]
        d_state, twin_state = map(list, zip(*pairs, strict=True))
    return rows, d_state, d_reset, (twin_rows, twin_state)


def _empty_series(like, width):
    return tf.TensorArray(
        like.dtype,
        size=tf.shape(like)[0],
        element_shape=[like.shape[1], width],
    )


def _choose(condition, chosen, other):
    return [
        tf.where(condition, tensor, alternative)
        for tensor, alternative in zip(chosen, other, strict=True)
    ]
