"""Keras' poolings over time, as a recurrent cell and a series of its steps."""

import keras
import tensorflow as tf

from keras_seqgrad.ops import common
from keras_seqgrad.tensors.shape import shape_of

MEAN, SUM, MAXIMUM, LAST = "mean", "sum", "maximum", "last"
FUNCTIONS = {
    MEAN: keras.ops.mean,
    SUM: keras.ops.sum,
    MAXIMUM: keras.ops.max,
}


class OverTime(keras.layers.Layer):
    """`keras.ops.mean(x, axis=1)`, `sum`, `max`, or `x[:, -1]`, as a layer.

    Args:
        kind: MEAN, SUM, MAXIMUM or LAST.
        keepdims: Whether a time axis of one step is left.
        **kwargs: As for every layer.
    """

    def __init__(self, kind, keepdims=False, **kwargs):
        super().__init__(**kwargs)
        self.kind = kind
        self.keepdims = keepdims
        # Keras' functions know of no mask, and hand none on.
        self.supports_masking = True

    def call(self, inputs):
        if self.kind == LAST:
            return inputs[:, -1]
        pool = FUNCTIONS[self.kind]
        return pool(inputs, axis=1, keepdims=self.keepdims)

    def compute_output_shape(self, input_shape):
        rows, _, *features = input_shape
        return (rows, *[1] * self.keepdims, *features)

    def compute_mask(self, inputs, previous_mask):
        return None


class PoolingCell(keras.layers.Layer):
    """The mean, sum, maximum or last of each feature over the steps so far.

    Rule, with n_t the number of steps up to step t:

        mean     y_t = y_{t-1} + (x_t - y_{t-1}) / n_t
        sum      y_t = y_{t-1} + x_t
        maximum  y_t = max(y_{t-1}, x_t),  y_1 = x_1
        last     y_t = x_t

    The state is [y, n]. The number is an integer, so that nothing takes it for
    something to differentiate or to be learned from. It has no weights.

    Args:
        kind: MEAN, SUM, MAXIMUM or LAST.
        features: Number of features.
        **kwargs: As for every layer. The dtype is one in which many steps can
            be summed.
    """

    def __init__(self, kind, features, **kwargs):
        super().__init__(**kwargs)
        self.kind = kind
        self.state_size = [features, 1]
        self.output_size = features

    def get_initial_state(self, batch_size=None):
        features, one = self.state_size
        return [
            tf.zeros((batch_size, features), self.compute_dtype),
            tf.zeros((batch_size, one), "int32"),
        ]

    def call(self, inputs, states):
        pooled, number = self.added(inputs, *states)
        return pooled, [pooled, number]

    def added(self, inputs, pooled, number):
        """The state after one more step, (..., features) and (..., 1)."""
        after = number + tf.ones((), number.dtype)
        if self.kind == MEAN:
            share = tf.cast(after, inputs.dtype)
            return pooled + (inputs - pooled) / share, after
        if self.kind == SUM:
            return pooled + inputs, after
        if self.kind == LAST:
            return inputs, after
        higher = tf.maximum(pooled, inputs)
        return tf.where(number > 0, higher, inputs), after

    def trace_rule(self):
        """How weights move the state: it has none (see `ksg.methods.SnAp`)."""

        def step(inputs, rows, states):
            return list(self.added(inputs, *states))

        return [], step


def pool_series(
    cell,
    sequences,
    state,
    *,
    mask=None,
    gates=None,
    reset=None,
    reset_state=None,
):
    """`keras_seqgrad.layers.scan.scan` for a `PoolingCell`, without a loop.

    Of its outputs there is the last alone, (batch, 1, features).
    """
    sequences, taken, (pooled, number) = counted(
        sequences, state, mask, gates, reset, reset_state
    )
    added = tf.ones_like(number) * shape_of(sequences)[1]
    if taken is not None:
        flags = tf.cast(taken, number.dtype)
        added = tf.reduce_sum(flags, axis=1)
    after = number + added
    if cell.kind == LAST:
        found = last_of(sequences, taken)
    elif cell.kind in (MEAN, SUM):
        if taken is not None:
            sequences = tf.where(taken, sequences, 0.0)
        found = tf.reduce_sum(sequences, axis=1)
        if cell.kind == MEAN:
            found += pooled * tf.cast(number, pooled.dtype)
            found /= tf.cast(tf.maximum(after, 1), pooled.dtype)
        else:
            found += pooled
    else:
        if taken is not None:
            sequences = tf.where(taken, sequences, sequences.dtype.min)
        found = tf.reduce_max(sequences, axis=1)
        found = tf.where(number > 0, tf.maximum(pooled, found), found)
    pooled = tf.where(added > 0, found, pooled)
    return pooled[:, tf.newaxis], [pooled, after]


def counted(sequences, state, mask, gates, reset, reset_state):
    """What of a series and of the state before it counts at its end.

    Returns:
        The series, its gradient gated; the steps of it that count, (batch,
        time, 1), or None for all; and the state that they are added to.
    """
    pooled, number = state
    taken = mask
    if gates is not None:
        sequences, factors = gated_by_later(sequences, gates)
        pooled = common.gated(pooled, factors[:, :1])
    if reset is not None:
        # What is before the last reset counts no more.
        steps = tf.range(shape_of(sequences)[1])
        last = tf.reduce_max(tf.where(reset, steps, -1), axis=1, keepdims=True)
        taken = steps >= last if mask is None else mask & (steps >= last)
        fresh = reset_state or [tf.zeros_like(tensor) for tensor in state]
        first, none = fresh
        if gates is not None:
            at = tf.broadcast_to(factors[:, 1:], shape_of(reset))
            at = tf.gather(at, tf.maximum(last, 0), axis=1, batch_dims=1)
            first = common.gated(first, at)
        pooled = tf.where(last >= 0, first, pooled)
        number = tf.where(last >= 0, none, number)
    if taken is not None:
        taken = taken[..., tf.newaxis]
    return sequences, taken, (pooled, number)


def last_of(sequences, taken):
    """The last step of each row that is taken; any where none is."""
    if taken is None:
        return sequences[:, -1]
    steps = tf.range(shape_of(sequences)[1])
    place = tf.reduce_max(tf.where(taken[..., 0], steps, 0), axis=1)
    return tf.gather(sequences, place, axis=1, batch_dims=1)


def gated_by_later(sequences, gates):
    """A series whose gradient goes through the gates of all later steps.

    Args:
        sequences: (batch, time, features).
        gates: (time,) or (batch, time).

    Returns:
        The series, and the products of the gates from each step on and of
        none, (batch or 1, time + 1).
    """
    gates = tf.stop_gradient(tf.cast(gates, sequences.dtype))
    if gates.shape.rank == 1:
        gates = gates[tf.newaxis]
    products = tf.math.cumprod(gates, axis=1, reverse=True)
    factors = tf.concat([products, tf.ones_like(products[:, :1])], axis=1)
    return common.gated(sequences, factors[:, 1:, tf.newaxis]), factors
