"""What a SequenceModel keeps from one step to the next, as Keras weights."""

import keras
import numpy as np
import tensorflow as tf


class Rows(keras.layers.Layer):
    """State of every row of a batch, and which rows are fresh.

    A fresh row starts the next window from the model's initial state.

    Args:
        batch_size: Number of rows.
        spec: (shape without batch, dtype) of each flattened state tensor.
    """

    def __init__(self, batch_size, spec):
        super().__init__(name="rows", trainable=False, autocast=False)
        self.batch_size = batch_size
        self.state = [
            self.add_weight(
                shape=(batch_size, *shape),
                dtype=dtype,
                initializer="zeros",
                trainable=False,
                name=f"state_{position}",
            )
            for position, (shape, dtype) in enumerate(spec)
        ]
        self.fresh = self.add_weight(
            shape=(batch_size,),
            dtype="bool",
            initializer="ones",
            trainable=False,
            name="fresh",
        )
        self.built = True


class CarriedState(keras.layers.Layer):
    """The state one kind of run carries from window to window, if any.

    Args:
        run: "training", "evaluation" or "prediction".
        stateful: Whether anything is carried; without it every window starts
            from the initial state.
    """

    def __init__(self, run, stateful):
        super().__init__(name=f"{run}_state", trainable=False)
        self.run = run
        self.stateful = stateful
        self.rows = None
        self.built = True

    @property
    def batch_size(self):
        """Number of rows, or None before the first batch."""
        return None if self.rows is None else self.rows.batch_size

    def prepare(self, batch_size, spec):
        """Makes room for a number of rows; True where it changed."""
        if not self.stateful or batch_size in (None, self.batch_size):
            return False
        self.rows = Rows(batch_size, spec)
        return True

    def read(self, start, batch_size):
        """(state, fresh rows) before the next window.

        Args:
            start: The model's initial state, of the right structure.
            batch_size: Rows of the batch.
        """
        if not self.stateful:
            return start, True
        if not isinstance(batch_size, int):
            raise ValueError(
                "stateful=True needs batches of a known size. Received a "
                "batch of unknown size; use ksg.data.stream, or "
                "dataset.batch(batch_size, drop_remainder=True)."
            )
        if self.rows is None:
            leaves = keras.tree.flatten(start)
            with tf.init_scope():
                spec = [(leaf.shape[1:], leaf.dtype.name) for leaf in leaves]
                self.prepare(batch_size, spec)
        if batch_size != self.batch_size:
            raise ValueError(
                "With stateful=True every batch must have the same number of "
                f"rows. Expected {self.batch_size} rows, received "
                f"{batch_size}. Drop the last, smaller batch."
            )
        state = [tf.convert_to_tensor(v) for v in self.rows.state]
        state = keras.tree.pack_sequence_as(start, state)
        return state, tf.convert_to_tensor(self.rows.fresh)

    def write(self, state):
        """Keeps the state after a window."""
        if not self.stateful:
            return
        leaves = keras.tree.flatten(state)
        for variable, value in zip(self.rows.state, leaves, strict=True):
            variable.assign(value)
        self.rows.fresh.assign(tf.zeros((self.batch_size,), "bool"))

    def reset(self, rows=None):
        """Makes `rows` (indices or a boolean mask; None: all) start anew."""
        if self.rows is None:
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
        for variable in self.rows.state:
            kept = np.array(variable.numpy())
            kept[chosen] = 0
            variable.assign(kept)
        self.rows.fresh.assign(self.rows.fresh.numpy() | chosen)


class Draws(keras.layers.Layer):
    """A counted sequence of seeds for stateless random numbers."""

    def __init__(self, seed=None):
        super().__init__(name="draws", trainable=False, autocast=False)
        if seed is None:
            seed = int(keras.random.randint((), 0, 2**31 - 1))
        self.seed_and_count = self.add_weight(
            shape=(2,),
            dtype="int32",
            initializer=lambda shape, dtype: tf.constant([seed, 0], dtype),
            trainable=False,
            name="seed_and_count",
        )
        self.built = True

    def next(self):
        """The next pair (seed, count), shape (2,)."""
        pair = tf.convert_to_tensor(self.seed_and_count)
        self.seed_and_count.assign(pair + [0, 1])
        return pair


class MethodState(keras.layers.Layer):
    """What a training method learns or draws; saved with the model."""

    def __init__(self):
        super().__init__(name="method_state", autocast=False)
        self.parts = []
        self.built = True

    def add_draws(self, seed=None):
        """A counted sequence of seeds (see `Draws`)."""
        self.parts.append(Draws(seed))
        return self.parts[-1]
