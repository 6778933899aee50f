"""The replicas of a `tf.distribute` strategy, as a step sees them.

Replica k of n trains the k-th n-th part of the rows of a batch, in order.
"""

import tensorflow as tf


def count():
    """Number of replicas that share a batch; 1 without a strategy."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def total(tensors):
    """Nested sums over this replica's rows as sums over those of all."""
    if count() == 1:
        return tensors
    context = tf.distribute.get_replica_context()
    return context.all_reduce("SUM", tensors)


def any_of(flag):
    """Whether a scalar is true in some replica."""
    return flag if count() == 1 else total(tf.cast(flag, "int32")) > 0


def share(of_all, axis):
    """This replica's rows of a tensor that has those of all replicas.

    What is drawn for rows is drawn for all of them everywhere, so that a row
    has its own draws wherever it is.
    """
    if count() == 1:
        return of_all
    place = tf.distribute.get_replica_context().replica_id_in_sync_group
    rows = tf.shape(of_all)[axis] // count()
    places = place * rows + tf.range(rows)
    known = of_all.shape.as_list()
    if known[axis] is not None:
        known[axis] //= count()
    return tf.ensure_shape(tf.gather(of_all, places, axis=axis), known)
