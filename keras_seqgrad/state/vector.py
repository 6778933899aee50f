"""The state of a model as one vector for each row."""

import math

import tensorflow as tf

from keras_seqgrad.tensors import nested
from keras_seqgrad.tensors.shape import shape_of


def differentiable(state):
    """The leaves of a state that a gradient can reach."""
    return [t for t in nested.leaves(state) if t.dtype.is_floating]


def size_of(spec):
    """Units of a state of which `SegmentedModel.state_spec` tells."""
    return sum(
        math.prod(shape)
        for shape, dtype in spec
        if tf.as_dtype(dtype).is_floating
    )


def join(leaves, dtype="float32"):
    """Tensors (batch, ...) as one (batch, size)."""
    flat = [
        tf.reshape(tf.cast(t, dtype), [-1, math.prod(t.shape[1:])])
        for t in leaves
    ]
    return tf.concat(flat, axis=1)


def split(vector, leaves):
    """(batch, size) as tensors like `leaves`; the inverse of `join`."""
    sizes = [math.prod(t.shape[1:]) for t in leaves]
    pieces = tf.split(vector, sizes, axis=1)
    return [
        tf.cast(tf.reshape(piece, shape_of(leaf)), leaf.dtype)
        for piece, leaf in zip(pieces, leaves, strict=True)
    ]
