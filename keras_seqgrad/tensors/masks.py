"""Reading and attaching the time mask that Keras lets a tensor carry.

Keras hands a mask from layer to layer, and to the loss, as a property of the
tensor itself; the property is lost where a tensor is cut in time or joined.
These functions take it along.
"""

import functools

import keras
import tensorflow as tf

from keras_seqgrad.tensors import logits

# The square of a number up to here is one in float32.
LARGEST = 1e18


class _ReadMask(keras.layers.Layer):
    """Returns the mask its input carries."""

    def __init__(self):
        super().__init__(name="read_mask", autocast=False)
        self.supports_masking = True
        self.found = None

    def call(self, inputs, mask=None):
        self.found = mask
        return inputs


class _AttachMask(keras.layers.Layer):
    """Returns its first input, carrying its second as mask."""

    def __init__(self):
        super().__init__(name="attach_mask", autocast=False)

    def call(self, inputs, activation=None):
        return logits.made(activation, tf.identity(inputs[0]))

    def compute_mask(self, inputs, previous_mask):
        return inputs[1]


@functools.cache
def _reader():
    # One for all: to make a layer takes several times as long as to call it.
    return _ReadMask()


def read(tensor):
    """The mask (batch, time) `tensor` carries, or None."""
    layer = _reader()
    layer(tensor)
    found, layer.found = layer.found, None
    return found


def attach(tensor, mask):
    """`tensor`, carrying `mask`; as it is where `mask` is None."""
    if mask is None:
        return tensor
    activation, leaf = logits.read(tensor)
    return _AttachMask()([leaf, mask], activation=activation)


def mark(outputs, mask, temporal):
    """Nested outputs, of which those with a time axis carry `mask` as well.

    Args:
        outputs: Nested tensors.
        mask: Boolean (batch, time).
        temporal: For each of them, flattened, whether it has a time axis.
    """
    flat = [
        attach(output, combine(read(output), mask)) if has_time else output
        for output, has_time in zip(
            keras.tree.flatten(outputs), temporal, strict=True
        )
    ]
    return keras.tree.pack_sequence_as(outputs, flat)


def combine(first, second):
    """Steps valid in both masks; None stands for all steps valid."""
    if first is None or second is None:
        return second if first is None else first
    return tf.logical_and(tf.cast(first, "bool"), tf.cast(second, "bool"))


def clear(tensor, valid):
    """`tensor` with zeros for what must not meet a product where not `valid`.

    What does not count is multiplied by 0 somewhere, in a loss or the gradient
    of a kernel, and 0 · NaN is NaN. So NaN, infinity and what has no square
    become 0, and integers, which may stand for a class or a row of a table
    that does not exist. Other numbers stay: a layer or loss of the user's own
    may know padding by them.

    Args:
        tensor: (batch, ...), of any dtype.
        valid: Boolean, of the first axes of `tensor` or broadcast to them.
    """
    if not (tensor.dtype.is_floating or tensor.dtype.is_integer):
        return tensor
    if tensor.dtype.is_floating:
        valid = align(valid, tensor) | computable(tensor)
    return tf.where(align(valid, tensor), tensor, tf.zeros((), tensor.dtype))


def zeroed(tensor, valid):
    """`tensor` with zeros where its first axes are not `valid`."""
    kept = align(tf.cast(valid, "bool"), tensor)
    return tf.where(kept, tensor, tf.zeros_like(tensor))


def computable(tensor):
    """Where a floating tensor has numbers whose squares are numbers."""
    limit = min(LARGEST, float(tensor.dtype.max))
    return tf.abs(tensor) <= tf.constant(limit, tensor.dtype)


def align(flags, tensor):
    """`flags` with axes of one behind, as many as `tensor` has more."""
    for _ in range(tensor.shape.rank - flags.shape.rank):
        flags = tf.expand_dims(flags, -1)
    return flags


def split(x):
    """(inputs, reset, mask) of inputs that may have companions in a dict."""
    companions = {"inputs", "reset", "mask"}
    if not (isinstance(x, dict) and "inputs" in x and set(x) <= companions):
        return x, None, None
    return x["inputs"], x.get("reset"), x.get("mask")


def unpack(x):
    """`split`, the companions as booleans."""
    inputs, reset, mask = split(x)
    return (
        inputs,
        None if reset is None else tf.cast(reset, "bool"),
        None if mask is None else tf.cast(mask, "bool"),
    )
