"""What a SequenceModel keeps from one step to the next, as Keras weights."""

import keras
import numpy as np
import tensorflow as tf


class CarriedState(keras.layers.Layer):
    """The state one kind of run carries from window to window, if any.

    Each row of a batch has its state, and a mark whether it is fresh: a fresh
    row starts the next window from the model's initial state.

    Args:
        run: "training", "evaluation" or "prediction".
        stateful: Whether anything is carried; without it every window starts
            from the initial state.
    """

    def __init__(self, run, stateful):
        super().__init__(name=f"{run}_state", trainable=False, autocast=False)
        self.stateful = stateful
        # The state's variables and, as the last one, the marks.
        self.rows = []
        self.built = True

    @property
    def batch_size(self):
        """Number of rows, or None before the first batch."""
        return self.rows[-1].shape[0] if self.rows else None

    @property
    def fresh(self):
        """Boolean variable (batch,), the marks."""
        return self.rows[-1]

    def prepare(self, batch_size, spec):
        """Makes room for a number of rows; True where it changed.

        Args:
            batch_size: Number of rows, or None where it is not known yet.
            spec: (shape without batch, dtype) of each flattened state tensor.
        """
        if not self.stateful or batch_size in (None, self.batch_size):
            return False
        self.rows.clear()
        for shape, dtype in [*spec, ((), "bool")]:
            self.rows.append(
                self.add_weight(
                    shape=(batch_size, *shape),
                    dtype=dtype,
                    initializer="ones" if dtype == "bool" else "zeros",
                    trainable=False,
                    name=f"{self.name}_{len(self.rows)}",
                )
            )
        return True

    def load_own_variables(self, store):
        saved = [store[f"{place}"] for place in range(len(store.keys()))]
        if saved:
            *state, fresh = saved
            kinds = [keras.backend.standardize_dtype(s.dtype) for s in state]
            shapes = [tuple(s.shape[1:]) for s in state]
            spec = list(zip(shapes, kinds, strict=True))
            self.prepare(fresh.shape[0], spec)
        super().load_own_variables(store)

    def read(self, start, batch_size):
        """(state, fresh rows) before the next window.

        Args:
            start: The model's initial state, of the right structure.
            batch_size: Rows of the batch.
        """
        if not self.stateful:
            return start, True
        if tf.distribute.get_strategy().num_replicas_in_sync > 1:
            raise ValueError(
                "stateful=True needs all rows of a batch on one device. "
                "Expected one replica, received a tf.distribute strategy with "
                "several. Train without carried state, or without a strategy."
            )
        known = isinstance(batch_size, int)
        if known and not self.rows:
            leaves = keras.tree.flatten(start)
            with tf.init_scope():
                spec = [(leaf.shape[1:], leaf.dtype.name) for leaf in leaves]
                self.prepare(batch_size, spec)
        if not known or batch_size != self.batch_size:
            raise ValueError(
                "With stateful=True every batch must have the same, known "
                f"number of rows. Expected {self.batch_size or 'a number'}, "
                f"received {batch_size if known else 'an unknown number'}. "
                "Use ksg.data.stream, or dataset.batch(batch_size, "
                "drop_remainder=True), and drop a last, smaller batch."
            )
        *state, fresh = [tf.convert_to_tensor(v) for v in self.rows]
        return keras.tree.pack_sequence_as(start, state), fresh

    def write(self, state):
        """Keeps the state after a window."""
        if not self.stateful:
            return
        nobody = tf.zeros((self.batch_size,), "bool")
        values = [*keras.tree.flatten(state), nobody]
        for variable, value in zip(self.rows, values, strict=True):
            variable.assign(value)

    def reset(self, rows=None):
        """Makes `rows` (indices or a boolean mask; None: all) start anew."""
        if not self.rows:
            return
        chosen = np.ones(self.batch_size, bool)
        if rows is not None:
            rows = np.asarray(rows)
            if rows.dtype == bool and rows.shape != chosen.shape:
                raise ValueError(
                    "A boolean `rows` needs one entry for each row of the "
                    f"batch. Expected shape {chosen.shape}, received "
                    f"{rows.shape}."
                )
            chosen[:] = False
            chosen[rows] = True
        *state, fresh = self.rows
        for variable in state:
            kept = np.array(variable.numpy())
            kept[chosen] = 0
            variable.assign(kept)
        fresh.assign(fresh.numpy() | chosen)
