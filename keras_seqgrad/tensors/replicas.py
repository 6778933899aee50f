"""The replicas of a `tf.distribute` strategy, as a step sees them.

Replica k of n trains the k-th n-th part of the rows of a batch, in order.
"""

import keras
import tensorflow as tf

from keras_seqgrad.tensors.shape import shape_of


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
    rows = shape_of(of_all)[axis] // count()
    places = place * rows + tf.range(rows)
    known = of_all.shape.as_list()
    if known[axis] is not None:
        known[axis] //= count()
    return tf.ensure_shape(tf.gather(of_all, places, axis=axis), known)


def number(scalar):
    """A scalar, such as the variable of an optimizer, as a number of Python.

    Of one that is mirrored `float` knows nothing.
    """
    return keras.ops.convert_to_numpy(scalar).item()


def places(strategy):
    """Numbers, among all, of the replicas that are on this machine."""
    if strategy.num_replicas_in_sync == 1:
        return [0]
    found = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(context.replica_id_in_sync_group)
    )
    return [int(p) for p in strategy.experimental_local_results(found)]


class ForKeras:
    """A strategy with which Keras' own loops run, on several machines too.

    Before the first step Keras reduces the first batch, to know its shapes: a
    nested value, which TensorFlow refuses with several machines, and perhaps
    one of booleans, which it refuses anyway. And what a step logs, a scalar,
    Keras reduces over its first axis if it knows of several machines: here it
    does not, and shows a batch's logs as those of its own machine.

    Args:
        strategy: The strategy.
    """

    def __init__(self, strategy):
        self.strategy = strategy

    def __getattr__(self, name):
        return getattr(self.strategy, name)

    def reduce(self, reduce_op, value, axis=None):
        """As that of the strategy, for every tensor of nested ones.

        What is no number that has a mean, such as ids or marks, is that of
        one replica.
        """

        def reduce(leaf):
            local = self.strategy.experimental_local_results(leaf)
            if not local[0].dtype.is_floating:
                return local[0]
            return self.strategy.reduce(reduce_op, leaf, axis=axis)

        return keras.tree.map_structure(reduce, value)


def for_keras(strategy):
    """The strategy of a model, as Keras is to see it."""
    tpu = isinstance(strategy, tf.distribute.TPUStrategy)
    several = strategy.num_replicas_in_sync > 1
    return ForKeras(strategy) if several and not tpu else strategy
