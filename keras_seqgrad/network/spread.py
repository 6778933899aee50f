"""What a model has at every step alike, as a feature of the sequence.

Keras repeats it a number of times that is written down. A segment has another
number of steps, which it takes from a sequence.
"""

import keras
import tensorflow as tf

from keras_seqgrad.network import uncuttable
from keras_seqgrad.network.nodes import RecurrentNode
from keras_seqgrad.network.tracing import tensors
from keras_seqgrad.tensors.shape import shape_of


class Spread(keras.layers.Layer):
    """A step (batch, 1, ...) at every step of a sequence (batch, time, ...).

    Args:
        stands: Whether the step comes without its axis, (batch, ...).
        **kwargs: As for every layer.
    """

    def __init__(self, stands, **kwargs):
        super().__init__(**kwargs)
        self.stands = stands
        # The sequence's mask is not that of the features.
        self.supports_masking = True

    def call(self, inputs):
        step, sequence = inputs
        step = tf.expand_dims(step, 1) if self.stands else step
        rows, _, *features = shape_of(step)
        shape = [rows, shape_of(sequence)[1], *features]
        return tf.broadcast_to(step, shape)

    def compute_output_shape(self, input_shape):
        (rows, *features), (_, steps, *_) = input_shape
        return (rows, steps, *(features if self.stands else features[1:]))

    def compute_mask(self, inputs, previous_mask):
        return None


def is_repeated(layer, args):
    """Whether a call repeats its first argument along the second axis."""
    if type(layer) is keras.layers.RepeatVector:
        return True
    # A function of Keras, as a graph has it.
    if (
        isinstance(layer, keras.layers.Layer)
        or type(layer).__name__ != "Repeat"
    ):
        return False
    axis, shape = layer.axis, args[0].shape
    return axis in (1, 1 - len(shape)) and shape[1:2] == (1,)


def found(graph):
    """Numbers of the calls of a graph that repeat features for all steps.

    Those of a nested model are left out: it knows of no sequence but its own.
    """
    known = uncuttable.late_tensors(graph) | graph.temporal
    return {
        number
        for number, (layer, name, args, kwargs, made) in enumerate(graph.calls)
        if is_repeated(layer, args)
        and "/" not in name
        and not uncuttable.depends_on(args, kwargs, known)
        and _meets_a_sequence(graph, made)
    }


def _meets_a_sequence(graph, repeated):
    """Whether what is repeated goes into something with time, step by step."""
    alike = {id(repeated)}
    for layer, _, args, _, result in graph.calls:
        given = args[:1] if isinstance(layer, RecurrentNode) else args
        if not uncuttable.depends_on(given, {}, alike):
            continue
        for made in tensors(result)[:1]:
            if id(made) in graph.temporal:
                return True
            # Flattened, say, it is no longer one for each step.
            if len(made.shape) > 2 and made.shape[1] == repeated.shape[1]:
                alike.add(id(made))
    return False


def of_steps(layer, features):
    """What spreads the features in place of a layer that repeats them."""
    dtype = getattr(layer, "dtype_policy", features.dtype)
    stands = isinstance(layer, keras.layers.RepeatVector)
    return Spread(stands, name=layer.name, dtype=dtype)
