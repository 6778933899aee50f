"""The state of each row of a batch, from window to window."""

import contextlib

import keras
import numpy as np
import tensorflow as tf

from keras_seqgrad.state.rows import Rows, refuse_uneven
from keras_seqgrad.tensors import nested, replicas


class CarriedState(keras.layers.Layer):
    """The state one kind of run carries from window to window, if any.

    Each row of a batch has its state, and a mark whether it is fresh: a fresh
    row starts the next window from the model's initial state. Made in the
    scope of a `tf.distribute` strategy, each replica carries the rows that it
    trains; rows are counted over all of them.

    Args:
        run: "training", "evaluation" or "prediction".
        stateful: Whether anything is carried; without it every window starts
            from the initial state.
        spec: Function () -> list of (shape without batch, dtype) of each
            state tensor (`nested.leaves`), where something is carried.
    """

    def __init__(self, run, stateful, spec=None):
        super().__init__(name=f"{run}_state", trainable=False, autocast=False)
        self.stateful = stateful
        self.spec = spec
        # The state's variables and, as the last one, the marks; and the same
        # for each number of rows there has been: what is compiled for it
        # holds its variables. Past Keras' tracking: no weights.
        vars(self).update(rows=[], rooms={})
        self.strategy = tf.distribute.get_strategy()
        self.released = False
        # Whether a step has asked for the state.
        self.is_asked = False
        self.built = True

    # --- room for rows -----------------------------------------------------

    @property
    def batch_size(self):
        """Number of rows, or None before the first batch."""
        return self.rows[-1].shape[0] if self.rows else None

    @property
    def variables(self):
        """The `Rows` of the state and, as the last ones, the marks."""
        return list(self.rows)

    @property
    def weights(self):
        """The same: nothing that layers draw from."""
        return self.variables

    @property
    def fresh(self):
        """Boolean `Rows` (batch,), the marks."""
        return self.rows[-1]

    def release(self):
        """Lets another number of rows take the place: a run is over."""
        self.released = True

    @property
    def is_fresh(self):
        """Whether all rows there are start anew."""
        return not self.rows or self.fresh.are_all()

    @property
    def is_replaceable(self):
        """Whether nothing is lost where another number of rows comes in."""
        return self.released or self.is_fresh

    def admit(self, batch_size):
        """Makes sure that there is room for the rows of the next batch.

        Raises:
            ValueError: Other rows are in the middle of their sequences.
        """
        if self.stateful and batch_size != self.batch_size:
            if not self.is_replaceable:
                self.refuse(batch_size)
            self._change_room(batch_size)
        self.released = False

    def refuse(self, batch_size):
        """Says that a batch does not continue the rows there are."""
        raise ValueError(
            "With stateful=True every batch must have the same number of "
            "rows: row k of a batch continues row k of the batch before. "
            f"Expected {self.batch_size}, received {batch_size}. Drop a last, "
            "smaller batch (ksg.data.stream and dataset.batch(batch_size, "
            "drop_remainder=True) do), or call `reset_state()` before batches "
            "of another size."
        )

    def _change_room(self, batch_size):
        count = self.strategy.num_replicas_in_sync
        if batch_size % count:
            refuse_uneven(self.strategy, batch_size)
        if batch_size not in self.rooms:
            kinds = enumerate([*self.spec(), ((), "bool")])
            alone = contextlib.nullcontext()
            with self.strategy.scope() if count > 1 else alone:
                self.rooms[batch_size] = [
                    Rows((batch_size, *shape), dtype, f"{self.name}_{place}")
                    for place, (shape, dtype) in kinds
                ]
        self.rows[:] = self.rooms[batch_size]
        self.reset()

    # --- a step ------------------------------------------------------------

    def read(self, start, batch_size):
        """(state, fresh rows) before the next window.

        Args:
            start: The model's initial state, of the right structure.
            batch_size: Rows of the batch, or of this replica's share.
        """
        self.is_asked = True
        if not self.stateful:
            return start, True
        if not isinstance(batch_size, int):
            raise ValueError(
                "With stateful=True a step must know how many rows its batch "
                f"has. Expected {self.batch_size or 'a number'}, received an "
                "unknown number. Use `fit`, `evaluate` and `predict`, or give "
                "the tensors a known first axis."
            )
        rows = batch_size * replicas.count()
        if rows != self.batch_size:
            if replicas.count() > 1 and self.rows:
                self.refuse(rows)
            if replicas.count() > 1:
                raise ValueError(
                    "Replicas make no room for rows inside of a step. Expected "
                    "`fit`, `evaluate` or `predict`, received a call of the "
                    "step itself."
                )
            with tf.init_scope():
                self.admit(rows)
        *state, fresh = [tf.convert_to_tensor(v) for v in self.rows]
        return nested.packed(start, state), fresh

    def write(self, state):
        """Keeps the state after a window."""
        if not self.stateful:
            return
        nobody = tf.zeros((self.batch_size // replicas.count(),), "bool")
        values = [*nested.leaves(state), nobody]
        for variable, value in zip(self.rows, values, strict=True):
            variable.assign(value)

    def restart(self, rows):
        """`reset` inside of a step.

        Args:
            rows: Boolean tensor (batch,).
        """
        for variable in self.rows[:-1]:
            value = tf.convert_to_tensor(variable)
            here = tf.reshape(rows, [-1] + [1] * (value.shape.rank - 1))
            variable.assign(tf.where(here, tf.zeros((), value.dtype), value))
        for fresh in self.rows[-1:]:
            fresh.assign(tf.logical_or(fresh, rows))

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
        for variable in self.rows:
            variable.put(variable is self.fresh, chosen)

    # --- saving ------------------------------------------------------------

    def save_own_variables(self, store):
        for place, variable in enumerate(self.rows):
            store[f"{place}"] = variable.numpy()

    def load_own_variables(self, store):
        """Takes the rows of a file; what does not fit here is left out."""
        saved = [store[f"{place}"] for place in range(len(store.keys()))]
        if not (self.stateful and saved):
            return
        *state, fresh = saved
        shapes = [tuple(values.shape[1:]) for values in state]
        if shapes != [tuple(shape) for shape, _ in self.spec()]:
            return
        if self.batch_size != fresh.shape[0]:
            uneven = fresh.shape[0] % self.strategy.num_replicas_in_sync
            if uneven or not self.is_replaceable:
                return
            self._change_room(fresh.shape[0])
        for variable, values in zip(self.rows, saved, strict=True):
            variable.assign(np.asarray(values))
        # Rows that go on are still in the file.
        self.released = True
