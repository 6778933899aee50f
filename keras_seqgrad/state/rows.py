"""A tensor that has a part for each row of a batch, and stays."""

import keras
import numpy as np
import tensorflow as tf

from keras_seqgrad.tensors import replicas


class Rows:
    """A variable with a part for each row, on the replica that trains it.

    Made in the scope of a strategy with several replicas, each of them has its
    own rows, and changes them without asking the others. Outside of a step it
    is all rows, in their order.

    Args:
        shape: Shape of all rows, (batch, ...).
        dtype: Name of the type; booleans are True at first, numbers 0.
        name: Name of the variable.
    """

    trainable = False

    def __init__(self, shape, dtype, name):
        self.shape, self.dtype = tuple(shape), dtype
        self.strategy = tf.distribute.get_strategy()
        count = replicas.count()
        self.share = self.shape[0] // count
        kind = {}
        if count > 1:
            kind = {
                "synchronization": tf.VariableSynchronization.ON_READ,
                "aggregation": tf.VariableAggregation.NONE,
            }
        start = np.full([self.share, *shape[1:]], dtype == "bool")
        # XLA on a GPU has no variables of 32-bit integers.
        kept = "int64" if dtype == "int32" else dtype
        self.value = tf.Variable(
            tf.cast(start, kept), trainable=False, name=name, **kind
        )
        # (its rows among all, where they are) of each replica on this machine.
        self.parts = [
            (slice(self.share * place, self.share * (place + 1)), part)
            for place, part in zip(
                replicas.places(self.strategy),
                self.strategy.experimental_local_results(self.value),
                strict=True,
            )
        ]

    @property
    def is_apart(self):
        """Whether what asks must get the rows from several replicas."""
        return replicas.count() == 1 < self.strategy.num_replicas_in_sync

    # --- in a step ---------------------------------------------------------

    def __tf_tensor__(self, dtype=None, name=None):
        """The rows of the replica that asks, or all of them."""
        if self.is_apart:
            rows = tf.concat([part for _, part in self._all_parts()], 0)
            return tf.cast(rows, self.dtype)
        rows = tf.cast(tf.convert_to_tensor(self.value), self.dtype)
        return tf.convert_to_tensor(rows, dtype, name=name)

    def assign(self, value):
        """Puts the rows of the replica that does, or all of them."""
        if not self.is_apart and not tf.distribute.in_cross_replica_context():
            self.value.assign(tf.cast(value, self.value.dtype))
            return
        for place, part in self.parts:
            part.assign(tf.cast(value[place], part.dtype))

    # --- outside of one ----------------------------------------------------

    def numpy(self):
        """All rows; with several machines all of them must ask for them."""
        if len(self.parts) == self.strategy.num_replicas_in_sync:
            rows = np.concatenate([part.numpy() for _, part in self.parts])
            return rows.astype(tf.as_dtype(self.dtype).as_numpy_dtype)
        return self._gathered().numpy()

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.numpy(), dtype)

    def put(self, value, chosen):
        """Puts a number in those rows that are `chosen`, a mask (batch,)."""
        for place, part in self.parts:
            kept = np.array(part.numpy())
            kept[chosen[place]] = value
            part.assign(kept)

    def are_all(self):
        """Whether all is true here, of the rows that this machine has."""
        return all(np.all(part.numpy()) for _, part in self.parts)

    def _all_parts(self):
        if len(self.parts) < self.strategy.num_replicas_in_sync:
            raise ValueError(
                "Rows that several machines carry can be read in a training "
                "step alone. Expected all replicas on this machine, received "
                f"{len(self.parts)} of "
                f"{self.strategy.num_replicas_in_sync}."
            )
        return self.parts

    def _gathered(self):
        """A sum of what everybody has: it leaves no doubt of the order."""
        kind = "int32" if self.dtype == "bool" else self.dtype
        local = iter(self.parts)

        def fill(context):
            place, part = next(local)
            before, after = place.start, self.shape[0] - place.stop
            others = [[0, 0]] * (len(self.shape) - 1)
            return tf.pad(tf.cast(part, kind), [[before, after], *others])

        make = self.strategy.experimental_distribute_values_from_function
        found = self.strategy.reduce("SUM", make(fill), axis=None)
        return tf.cast(found, self.dtype)


def number_in(batch, strategy=None):
    """Number of rows of a batch, or of its spec; None where it is unknown.

    Args:
        batch: What a step gets.
        strategy: The strategy that may have given each replica its share.

    Raises:
        ValueError: Replicas have other numbers of rows.
    """
    x, _, _ = keras.utils.unpack_x_y_sample_weight(batch)
    for leaf in keras.tree.flatten(x):
        shares = [leaf]
        if is_shared(leaf):
            shares = tf.nest.flatten(leaf, expand_composites=True)
        shapes = [tf.TensorShape(getattr(s, "shape", ())) for s in shares]
        if not shapes[0].rank:
            continue
        found = {shape[0] for shape in shapes}
        if len(found) > 1:
            refuse_uneven(strategy, sum(shape[0] for shape in shapes))
        [rows] = found
        if rows is None or not is_shared(leaf):
            return rows
        return rows * strategy.num_replicas_in_sync
    return None


def refuse_uneven(strategy, rows):
    """Says that a number of rows is none that replicas can share."""
    raise ValueError(
        "With stateful=True every replica carries as many rows as any other. "
        f"Expected batches of a multiple of {strategy.num_replicas_in_sync} "
        f"rows, as many as there are replicas, received {rows}."
    )


def is_shared(leaf):
    """Whether replicas have their shares of a tensor, or of its spec."""
    spec = isinstance(leaf, tf.TypeSpec) and "PerReplica" in type(leaf).__name__
    return spec or isinstance(leaf, tf.distribute.DistributedValues)
