"""Recurrent layers inside a traced graph."""

import functools

import keras
import tensorflow as tf

from keras_seqgrad.layers import cudnn
from keras_seqgrad.layers.cells import is_as_written
from keras_seqgrad.layers.pooling import (
    MAXIMUM,
    MEAN,
    OverTime,
    PoolingCell,
)
from keras_seqgrad.layers.scan import state_is_output
from keras_seqgrad.network.passage import Passage
from keras_seqgrad.tensors import masks, origin
from keras_seqgrad.tensors.shape import shape_of

POOLINGS = {
    keras.layers.GlobalAveragePooling1D: MEAN,
    keras.layers.GlobalMaxPooling1D: MAXIMUM,
}


@functools.cache
def means_over_rows():
    """Whether this Keras divides activity regularisers by the batch size.

    Earlier versions do not.
    """
    # In float32, since some versions have no L1 in another.
    layer = keras.layers.Activation(
        "linear", activity_regularizer="l1", dtype="float32"
    )
    layer(tf.ones((1, 1)))
    [of_one] = layer.losses
    layer(tf.ones((2, 1)))
    [of_two] = layer.losses
    return float(of_two) < 1.5 * float(of_one)


class Node(keras.layers.Layer):
    """Stands for a layer in the traced graph; owns no weights.

    Attributes:
        held: What it runs, and the layer of the model that it runs for.
    """

    def __init__(self, layer, key, original=None):
        super().__init__(name=key, dtype=layer.dtype_policy)
        self.supports_masking = True
        self.key = key
        # In a tuple, so that the weights stay with their own model alone.
        self.held = (layer, original or layer)

    @property
    def original(self):
        """The layer of the model for which it stands."""
        return self.held[1]


class RecurrentNode(Node):
    """Stands for a recurrent layer, or what is run as one.

    Attributes:
        constant_start: The initial state, where the graph gives a constant.
        starts_late: Whether the graph gives one that is known at the end of a
            sequence: then none is carried.
    """

    def __init__(self, layer, key, constant_start=None, original=None):
        super().__init__(layer, key, original)
        self.constant_start, self.starts_late = constant_start, False
        # Asked here, where nothing is being traced.
        self.means_over_rows = (
            self.original.activity_regularizer is not None and means_over_rows()
        )

    def call(self, sequences, initial_state=None, mask=None, training=False):
        layer = self.held[0]
        passage = Passage.current() or Passage()
        carried = (passage.state or {}).get(self.key)
        if carried is None:
            carried = self.start(shape_of(sequences)[0], initial_state)
        if not self.starts_late:
            passage.start_state[self.key] = carried
        state, previous = self.split(carried)
        reset_state = (passage.reset_state or {}).get(self.key)
        if reset_state is not None:
            reset_state, _ = self.split(reset_state)
        mask = mask[0] if isinstance(mask, (list, tuple)) else mask
        mask = masks.combine(mask, passage.mask)
        if self.takes_kernel(passage, mask):
            outputs, state = cudnn.run(layer, sequences, state, training)
        else:
            outputs, state = passage.scan(
                layer.cell,
                sequences,
                state,
                training=training,
                mask=mask,
                gates=passage.gates,
                reset=passage.reset,
                reset_state=reset_state,
                previous_output=previous[0] if previous else None,
            )
        if self.carries_output or not layer.return_sequences:
            last = outputs[:, -1]
        if layer.zero_output_for_mask and mask is not None:
            outputs = masks.zeroed(outputs, mask)
        state = list(state)
        if not self.starts_late:
            passage.new_state[self.key] = (
                [*state, last] if self.carries_output else state
            )
        result = outputs if layer.return_sequences else last
        made = (result, *state) if layer.return_state else result
        if self.original.activity_regularizer is not None:
            for tensor in keras.tree.flatten(made):
                self.original.add_loss(self.activity_loss(tensor))
        return made

    def activity_loss(self, tensor):
        """What Keras adds to the loss for a tensor that the layer gives."""
        loss = self.original.activity_regularizer(tensor)
        rows = tf.cast(shape_of(tensor)[0], loss.dtype)
        return loss / rows if self.means_over_rows else loss

    def takes_kernel(self, passage, mask):
        """Whether cuDNN runs the layer in a passage.

        Raises:
            ValueError: Data come with a mask or resets, of which cuDNN knows
                nothing, and the layer says use_cudnn=True.
        """
        layer = self.held[0]
        if not passage.kernels or cudnn.refusal(layer):
            return False
        steps_apart = mask is not None or passage.reset is not None
        if steps_apart and cudnn.is_forced(layer):
            raise ValueError(
                f"Layer {self.key!r} cannot be run by cuDNN on a window with a "
                "mask or resets. Expected inputs alone, since the layer says "
                'use_cudnn=True. Set use_cudnn="auto", and the layer takes '
                "the scan for such windows."
            )
        return not steps_apart and passage.gates is None

    @property
    def carries_output(self):
        """Whether the last output is carried beside the cell's own state.

        A masked step repeats the output before it, which may lie in the
        segment before; for the built-in cells that output is the state h.
        """
        return not state_is_output(self.held[0].cell)

    def split(self, carried):
        """(the cell's state, [output carried beside it] or [])."""
        if self.carries_output:
            return carried[:-1], carried[-1:]
        return carried, []

    def learned(self, carried):
        """The leaves of a state whose start can be learned."""
        state, _ = self.split(carried)
        leaves = keras.tree.flatten(state)
        return [leaf for leaf in leaves if leaf.dtype.is_floating]

    def moved(self, carried, weights):
        """A state, the next of the weights added to each leaf of `learned`."""
        learned = {id(leaf) for leaf in self.learned(carried)}

        def move(leaf):
            if id(leaf) not in learned:
                return leaf
            return leaf + tf.cast(next(weights), leaf.dtype)

        return keras.tree.map_structure(move, carried)

    def start(self, batch_size, initial_state=None):
        """State at the start of a sequence, as a list."""
        layer = self.held[0]
        zeros = layer.get_initial_state(batch_size)
        state = zeros
        if initial_state is not None:
            if not isinstance(initial_state, (list, tuple)):
                initial_state = [initial_state]
            state = keras.tree.map_structure(
                lambda given, zero: tf.broadcast_to(
                    tf.cast(given, zero.dtype), shape_of(zero)
                ),
                list(initial_state),
                zeros,
            )
        if not self.carries_output:
            return list(state)
        shape = layer.compute_output_shape((None, 1, *self.step_shape))
        if layer.return_state:
            shape = shape[0]
        features = shape[2:] if layer.return_sequences else shape[1:]
        output = tf.zeros((batch_size, *features), layer.compute_dtype)
        return [*state, output]

    def build(self, sequences_shape, initial_state_shape=None):
        self.step_shape = tuple(sequences_shape[2:])

    def compute_output_shape(self, sequences_shape, initial_state_shape=None):
        return self.held[0].compute_output_shape(sequences_shape)

    def compute_mask(self, inputs, mask):
        return self.held[0].compute_mask(inputs, mask)


class PoolingNode(RecurrentNode):
    """Stands for one of Keras' poolings over time, or an `OverTime`.

    A recurrent layer of a `PoolingCell` is what it holds.
    """

    def __init__(self, layer, key, shape):
        exact = layer.compute_dtype == "float64"
        dtype = "float64" if exact else "float32"
        cell = PoolingCell(pooling_of(layer), shape[-1], dtype=dtype)
        held = keras.layers.RNN(cell, name=layer.name, dtype=dtype)
        held.build(shape)
        super().__init__(held, key, original=layer)

    def learned(self, carried):
        # Nothing was pooled at the start, whatever the state says.
        return []

    def call(self, sequences, initial_state=None, mask=None, training=False):
        layer = self.original
        if type(layer) is not keras.layers.GlobalAveragePooling1D:
            mask = None  # it knows of none
        pooled = super().call(sequences, None, mask, training)
        pooled = tf.cast(pooled, layer.compute_dtype)
        return pooled[:, tf.newaxis] if layer.keepdims else pooled

    def compute_output_spec(self, sequences, **kwargs):
        shape = self.original.compute_output_shape(sequences.shape)
        return keras.KerasTensor(shape, self.original.compute_dtype)


def pooling_of(layer):
    """What a layer does over the second of three axes, or None."""
    if isinstance(layer, OverTime):
        return layer.kind
    if getattr(layer, "data_format", None) != "channels_last":
        return None
    return POOLINGS.get(type(layer))


def refuse_overrides(layer, name, methods=("call", "inner_loop")):
    """Refuses a layer with a method of its own that would not be run.

    Of a recurrent layer only the cell is run, of a model only its layers.
    """
    for method in ("__call__", *methods):
        owner = next(c for c in type(layer).__mro__ if method in vars(c))
        written = method == "__call__" or is_as_written(layer, owner, method)
        if origin.is_own(owner) or not written:
            raise ValueError(
                f"Layer {name!r} ({type(layer).__name__}) has a `{method}` of "
                "its own, which segments would not run: they run the cell of "
                "a recurrent layer, and the layers of a model. Write it as a "
                "cell inside keras.layers.RNN or as a layer beside it, or "
                "train the model with a plain keras.Model."
            )


def refuse_configuration(layer, name):
    """Refuses what a recurrent layer may say against being cut in time."""
    advice = {
        "stateful": (
            "keeps a state of its own; say SequenceModel.from_model(model, "
            "stateful=True) instead, which carries the state of all layers"
        ),
        "truncation": (
            "cuts gradients by itself; say which in compile(method=...)"
        ),
    }
    if not layer.return_sequences:
        advice["zero_output_for_mask"] = (
            "has return_sequences=False, so that it gives zeros for every row "
            "that ends in padding"
        )
    for option, reason in advice.items():
        value = getattr(layer, option, None)
        if value:
            raise ValueError(
                f"Layer {name!r} has {option}={value!r} and {reason}. "
                f"Leave {option} out."
            )
