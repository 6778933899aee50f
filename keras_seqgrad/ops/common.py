"""What the fast scans share: products over all steps, and their gradients.

Everything in here is time-major, (time, batch, features), so that the rows of
one step lie next to each other.

No loop of this package is ever differentiated: the gradient of a while loop
keeps every intermediate of every step, and under XLA its cost grows with the
square of the number of steps.
"""

import numpy as np
import tensorflow as tf

from keras_seqgrad.tensors.shape import shape_of


@tf.custom_gradient
def last(*tensors):
    """`tensors` as a gradient that has no derivative, and says so."""

    def refuse(*_):
        raise NotImplementedError(
            "The time scans of keras_seqgrad have first derivatives only. "
            "Received: a request for a derivative of their gradient. Use "
            "a `keras.layers.RNN` layer with `unroll=True` where you need "
            "higher ones."
        )

    return list(tensors), refuse


@tf.custom_gradient
def gated(tensor, gates):
    """`tensor`, whose gradient is multiplied by `gates` on its way back."""

    def gradient(d_tensor):
        # A cut link stays cut when the gradient behind it has exploded.
        return tf.math.multiply_no_nan(d_tensor, gates), None

    return tf.identity(tensor), gradient


def first_derivative(function):
    """`tf.custom_gradient`, and an error in place of a second derivative.

    Without the error a second derivative would be silently wrong: it would
    take what the forward loop saved for constants.
    """

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


def with_shape(tensor, shape):
    """A tensor just made, told what is known of its shape.

    For what cells compute: `tf.ensure_shape` has no derivative forward where a
    size is unknown.
    """
    tensor.set_shape(shape)
    return tensor


def project(series, kernel):
    """Multiplies all rows by `kernel` in one product."""
    if series.shape.rank == 2:
        return tf.matmul(series, kernel)
    product = tf.matmul(flatten_time(series), kernel)
    product = tf.reshape(product, [*shape_of(series)[:2], kernel.shape[-1]])
    return with_shape(product, [*series.shape[:2], kernel.shape[-1]])


def kernel_gradient(series, d_rows):
    """Gradient of the kernel that multiplied `series` at every step."""
    return tf.matmul(
        flatten_time(series), flatten_time(d_rows), transpose_a=True
    )


def bias_gradient(d_rows):
    """Gradient of the bias that was added at every step."""
    rows = tf.cast(flatten_time(d_rows), wide(d_rows.dtype))
    total = tf.reduce_sum(rows, axis=0)
    return tf.cast(total, d_rows.dtype)


def wide(dtype):
    """The dtype that many tensors of `dtype` are summed in."""
    # A sum in float16 stands still once it outgrows its summands.
    return tf.float64 if dtype == tf.float64 else tf.float32


def previous(start, series, links, restart):
    """What was before step t, as step t saw it, for every t.

    Args:
        start: (batch, units), what was before the first step.
        series: (time, batch, units), what was after each step.
        links: `Links`.
        restart: [what takes its place at a reset], or [] without resets.
    """
    before = tf.concat([tf.expand_dims(start, 0), series[:-1]], axis=0)
    if links.reset is not None:
        before = tf.where(links.reset, restart[0], before)
    return tf.ensure_shape(before, series.shape)
