"""Reading and attaching the time mask that Keras lets a tensor carry.

Keras hands a mask from layer to layer, and to the loss, as a property of the
tensor itself; the property is lost where a tensor is cut in time or joined.
These functions take it along.
"""

import keras
import tensorflow as tf


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

    def call(self, inputs):
        return tf.identity(inputs[0])

    def compute_mask(self, inputs, previous_mask):
        return inputs[1]


def read(tensor):
    """The mask (batch, time) `tensor` carries, or None."""
    layer = _ReadMask()
    layer(tensor)
    found, layer.found = layer.found, None
    return found


def attach(tensor, mask):
    """`tensor`, carrying `mask`; as it is where `mask` is None."""
    if mask is None:
        return tensor
    return _AttachMask()([tensor, mask])


def combine(first, second):
    """Steps valid in both masks; None stands for all steps valid."""
    if first is None or second is None:
        return second if first is None else first
    return tf.logical_and(tf.cast(first, "bool"), tf.cast(second, "bool"))


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
