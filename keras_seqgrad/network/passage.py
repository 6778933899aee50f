"""What accompanies one pass of a graph over a segment."""

import contextlib

import keras
import tensorflow as tf

from keras_seqgrad.layers.scan import scan as cell_scan
from keras_seqgrad.layers.scan import state_is_output
from keras_seqgrad.tensors import nested


class Passage:
    """What accompanies one pass of a graph over a segment.

    Attributes:
        state: Nested state tensors at the start of the segment, or None to
            start from the initial state.
        start_state: State at the start as the pass took it, set by the pass.
        new_state: State at the end, set by the pass.
        gates: Backward gates, (time,) or (batch, time), or None.
        reset: Boolean (batch, time), or None.
        reset_state: State that rows restart from, or None for zeros.
        mask: Boolean (batch, time), False where the state passes unchanged,
            or None.
        scan: What runs the cell of a recurrent layer, with the arguments of
            `keras_seqgrad.layers.scan.scan`; that one unless another is given.
        kernels: Whether layers may be run by cuDNN instead, where nothing but
            the state accompanies the segment: never under XLA.
    """

    _current = []

    def __init__(
        self,
        state=None,
        gates=None,
        reset=None,
        reset_state=None,
        mask=None,
        scan=None,
        kernels=False,
    ):
        self.state = state
        self.start_state = {}
        self.new_state = {}
        self.gates = gates
        self.reset = reset
        self.reset_state = None if reset is None else reset_state
        self.mask = mask
        self.scan = scan or cell_scan
        self.kernels = kernels and scan is None

    @property
    def is_plain(self):
        """Whether nothing accompanies the segment but its state."""
        extras = (self.gates, self.reset, self.mask)
        return all(extra is None for extra in extras)

    @classmethod
    def current(cls):
        """The innermost open passage, or None."""
        return cls._current[-1] if cls._current else None

    @contextlib.contextmanager
    def open(self):
        """Makes this passage the current one."""
        self._current.append(self)
        try:
            yield self
        finally:
            self._current.pop()


def one_step(
    cell, sequences, state, *, training, mask, previous_output, **links
):
    """The `scan` of a passage over one step that nothing differentiates.

    Without a loop it takes less time, and other formats can be made of it.

    Args:
        cell: A built Keras RNN cell.
        sequences: Nested tensors (batch, 1, ...).
        state: List of the cell's (nested) state tensors.
        training: Whether the cell runs in training mode.
        mask: Boolean (batch, 1), or None.
        previous_output: What a masked step repeats, None for zeros; the state
            where that is the output.
        **links: Gates and resets: none.

    Returns:
        (outputs (batch, 1, ...), the new state).
    """
    inputs = keras.tree.map_structure(lambda series: series[:, 0], sequences)
    output, new_state = cell(inputs, state, training=training)
    if mask is not None:
        if state_is_output(cell):
            previous_output = state[0]
        elif previous_output is None:
            previous_output = nested.zeros_like(output)
        valid = tf.cast(mask[:, 0], "bool")
        new_state = nested.select(valid, list(new_state), list(state))
        output = nested.select(valid, output, previous_output)
    return output[:, None], list(new_state)
