"""Whether tensors are numbers, and in which rows they are not."""

import keras
import tensorflow as tf

from keras_seqgrad.tensors import replicas
from keras_seqgrad.tensors.shape import shape_of

NAMED = 8  # rows
SMALL = 2.0**-64


def floats(structure):
    """The tensors that could be no numbers."""
    return [t for t in keras.tree.flatten(structure) if t.dtype.is_floating]


def _values(gradient):
    """Those of a gradient, which may be sparse."""
    sparse = isinstance(gradient, tf.IndexedSlices)
    return gradient.values if sparse else gradient


def is_finite(tensor):
    """Whether a floating tensor is finite everywhere."""
    # One sum is a third of the time of asking every number, and numbers as
    # small as these have a sum.
    if tensor.dtype.size < 4:
        tensor = tf.cast(tensor, "float32")
    return tf.math.is_finite(tf.reduce_sum(tensor * SMALL))


def choose(condition, chosen, other):
    """One of two tensors of the same shape by a scalar.

    `tf.where` would spread the condition, which takes three times as long.
    """
    return tf.compat.v1.where(condition, chosen, other)


def are_finite(tensors):
    """Whether all of some tensors, of which some may be None, are finite."""
    fine = tf.constant(True)
    for tensor in tensors:
        if tensor is not None and tensor.dtype.is_floating:
            fine &= is_finite(_values(tensor))
    return fine


def cleared(gradient, fine):
    """The gradient, or zeros where it is not `fine`."""
    if gradient is None:
        return None
    values = _values(gradient)
    values = choose(fine, values, tf.zeros_like(values))
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return values


def rows_not_finite(structure):
    """Rows in which a tensor is not finite, (batch,), or None."""
    found = None
    for tensor in floats(structure):
        bad = ~tf.math.is_finite(tensor)
        bad = tf.reduce_any(bad, axis=[*range(1, bad.shape.rank)])
        found = bad if found is None else found | bad
    return found


def told(rows):
    """How many rows there are in a mask (batch,), and the first ones.

    As (1 + NAMED,) integers, -1 where there are no more.
    """
    if rows is None:
        return tf.constant([0, *[-1] * NAMED], "int64")
    rows = tf.concat([rows, tf.zeros([NAMED], "bool")], 0)
    places = tf.where(rows, tf.range(shape_of(rows)[0]), -1)
    count = tf.reduce_sum(tf.cast(rows, "int64"))
    return tf.concat([[count], tf.cast(_first(places), "int64")], 0)


def _first(places):
    """The NAMED least of the places (..., count) that are not negative."""
    # Those that are not there come last.
    order = tf.where(places >= 0, -places, places.dtype.min)
    first = tf.math.top_k(order, NAMED).values
    return tf.where(first > places.dtype.min, -first, -1)


def of_all(table, rows):
    """What replicas tell of their rows, as one that has all of them would.

    Args:
        table: Lines (a number that is above 0 or not, *`told`) of integers.
        rows: Number of rows of a replica.
    """
    count = replicas.count()
    if count == 1:
        return table
    context = tf.distribute.get_replica_context()
    here = context.replica_id_in_sync_group
    shift = tf.cast(here * rows, table.dtype) + 1
    places = tf.where(table[:, 2:] >= 0, table[:, 2:] + shift, 0)
    # A sum of what stands apart is all of it, side by side.
    own = tf.one_hot(here, count, dtype=table.dtype)[:, None]
    apart = tf.concat([table[:, :2], *tf.unstack(own[:, None] * places)], 1)
    told_by_all = replicas.total(apart)
    first = _first(told_by_all[:, 2:] - 1)
    return tf.concat([told_by_all[:, :2], first], 1)
