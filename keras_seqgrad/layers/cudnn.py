"""Keras' own cuDNN kernels, where they can serve: on a GPU, outside XLA."""

from typing import NamedTuple

import keras
import tensorflow as tf

from keras_seqgrad.layers import cells
from keras_seqgrad.layers.scan import (
    is_linear,
    is_stack,
    state_is_output,
    uses_fast_scan,
)
from keras_seqgrad.tensors import devices

KINDS = (keras.layers.LSTM, keras.layers.GRU)
# No bfloat16: of that Keras, too, would only learn while the step runs.
DTYPES = ("float16", "float32", "float64")
TANH = (keras.activations.tanh, keras.ops.tanh, tf.tanh)
SLOWER = ("fast", "linear", "general")
SIGMOID = (keras.activations.sigmoid, keras.ops.sigmoid, tf.sigmoid)


class Choice(NamedTuple):
    """Which scan runs a recurrent layer, and why.

    Attributes:
        scan: "cudnn", Keras' kernel; "fast", a scan of this package for the
            cell's kind; "linear", `ksg.ops.linear_scan`; or "general", the one
            for any cell. Of stacked cells, which have one each, the last of
            these that is among them.
        why: What speaks for it, or against the one before it in that order.
    """

    scan: str
    why: str


def choose(layer, obstacle=None):
    """Which scan runs a layer in training.

    Args:
        layer: A recurrent Keras layer.
        obstacle: What keeps a cuDNN kernel from running it, beside the layer
            itself and the machine, or None.
    """
    against = refusal(layer) or obstacle
    if against is None:
        return Choice("cudnn", "a GPU is visible, and XLA is not used")
    return _of_cell(layer.cell, against)


def _of_cell(cell, against):
    if is_stack(cell):
        own = [_of_cell(one, "each of its cells has one") for one in cell.cells]
        return max(own, key=lambda choice: SLOWER.index(choice.scan))
    if uses_fast_scan(cell, training=True):
        return Choice("fast", against)
    if is_linear(cell):
        return Choice("linear", "its recurrence is linear in the state")
    return Choice("general", _has_no_fast_scan(cell))


def refusal(layer):
    """Why no cuDNN kernel runs a layer; None where Keras runs it by one."""
    kind = next((kind for kind in KINDS if isinstance(layer, kind)), None)
    if kind is None:
        return f"cuDNN has no kernel for {type(layer).__name__}"
    if layer.use_cudnn is False:
        return "use_cudnn=False"
    cell = layer.cell
    if not state_is_output(cell):
        return "its cell is not that of Keras"
    asked = {
        "activation='tanh'": cell.activation in TANH,
        "recurrent_activation='sigmoid'": cell.recurrent_activation in SIGMOID,
        "use_bias=True": cell.use_bias,
        "reset_after=True": getattr(cell, "reset_after", True),
        "unroll=False": not layer.unroll,
        "recurrent_dropout=0": not cell.recurrent_dropout,
        "one mask of dropout": cells.drops_inputs_alone(cell),
        f"a dtype of {DTYPES}": cell.compute_dtype in DTYPES,
    }
    for what, holds in asked.items():
        if not holds:
            return f"cuDNN needs {what}"
    return None if devices.gpu_is_visible() else "no GPU is visible"


def is_forced(layer):
    """Whether a layer asks for its cuDNN kernel, or an error."""
    return getattr(layer, "use_cudnn", False) is True


def run(layer, sequences, state, training=False):
    """Runs a layer's loop as Keras does.

    Args:
        layer: A layer without a `refusal`.
        sequences: (batch, time, features).
        state: The tensors of its state, each (batch, units).
        training: Whether the layer runs in training mode.

    Returns:
        (outputs, the last state). Outputs are (batch, time, units), or
        (batch, 1, units) where the layer returns the last one alone.
    """
    kind = next(kind for kind in KINDS if isinstance(layer, kind))
    dtype, cell = layer.cell.compute_dtype, layer.cell
    sequences = tf.cast(sequences, dtype)
    state = [tf.cast(tensor, dtype) for tensor in state]
    # A mask of dropout is drawn for this call and left to no other.
    cell.reset_dropout_mask()
    _, outputs, end = kind.inner_loop(
        layer, sequences, state, mask=None, training=training
    )
    cell.reset_dropout_mask()
    # Before Keras 3.12 the one tensor of a GRU is in no list.
    steps = sequences.shape[1] if layer.return_sequences else 1
    outputs = tf.ensure_shape(outputs, [sequences.shape[0], steps, cell.units])
    end = [
        tf.ensure_shape(new, old.shape)
        for new, old in zip(keras.tree.flatten(end), state, strict=True)
    ]
    return outputs, end


def _has_no_fast_scan(cell):
    """Why a cell is run by the general scan."""
    if not state_is_output(cell):
        return f"there is no fast scan for {type(cell).__name__}"
    if not cells.drops_inputs_alone(cell):
        return "dropout within the step"
    return "activations without a fast scan"
