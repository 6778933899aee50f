"""Keras' RNN layer, for any cell, on the scan of this package."""

from typing import Any

import keras

from keras_seqgrad.layers.documentation import of_layer
from keras_seqgrad.layers.truncated import Truncated
from keras_seqgrad.tensors import arguments
from keras_seqgrad.truncation import Truncation


@keras.saving.register_keras_serializable("keras_seqgrad")
@of_layer
class RNN(Truncated, keras.layers.RNN):
    """`keras.layers.RNN`, linear in time under XLA, with truncation.

    Runs any cell that is a Keras layer, and stacks of cells. Takes the
    arguments of the Keras layer and gives its outputs, states and masks. Use
    it in place of the Keras layer for long sequences with `jit_compile=True`,
    where the Keras layer's gradient takes time that grows with the square of
    the length, to save memory (only the states are kept, all else in a step
    is computed again in the backward pass), or to train a plain `keras.Model`
    with truncated gradients.

    Not the choice for a single LSTM, GRU or SimpleRNN cell: the layers of
    these names are the same and say more.

    Rule:

        output_t, s ← cell(x_t, s)
        backward: ds before step t is multiplied by gate_t

    {gradient}

    Random numbers in the cell are drawn again in the backward pass and must
    come from its own generators, as those of Keras' dropout layers do.

    Args:
        cell: A cell, or a list of cells to stack.
        {arguments}
        **kwargs: As for `keras.layers.RNN`.

    Call arguments:
        sequences: (batch, time, ...).
        initial_state: List of (nested) tensors, or None for the cell's own.
        mask: Boolean (batch, time), True = valid.
        training: Whether dropout and truncation apply.

    Returns:
        (batch, ...), or (batch, time, ...) with `return_sequences=True`;
        followed by the states with `return_state=True`.

    Raises:
        ValueError: `unroll=True`, a `truncation` of another kind, or a cell
            that is not a Keras layer.

    Reference:
        Gruslys et al., 2016. Memory-efficient backpropagation through time.
        arXiv:1606.03401. For the truncation see `ksg.truncation`.

    Example:

    >>> cells = [keras.layers.LSTMCell(4), keras.layers.GRUCell(4)]
    >>> layer = ksg.layers.RNN(cells, return_sequences=True, truncation=50)
    >>> layer(np.ones((2, 5, 3))).shape
    TensorShape([2, 5, 4])
    """

    def __init__(
        self,
        cell: Any,
        *args: Any,
        truncation: Truncation = None,
        **kwargs: Any,
    ) -> None:
        if not (isinstance(cell, (list, tuple)) and cell) and not callable(
            getattr(cell, "call", None)
        ):
            wanted = "a Keras cell, or a list of them"
            arguments.refuse(cell, "cell", wanted)
        super().__init__(cell, *args, truncation=truncation, **kwargs)
