"""Small functions on lists of tensors (batch, ...), used by the scan."""

import keras
import tensorflow as tf

from keras_seqgrad.tensors import nested


def align(rows, tensor):
    """`rows` (batch,) in a shape that broadcasts against `tensor`."""
    return tf.reshape(rows, [-1] + [1] * (tensor.shape.rank - 1))


def choose(flags, chosen, others):
    """Rows of `chosen` where `flags` (batch,) is set, else of `others`."""
    return [
        tf.where(align(flags, a), a, b)
        for a, b in zip(chosen, others, strict=True)
    ]


def split(flags, tensors):
    """Rows where `flags` is set and rows where it is not, zeros elsewhere."""
    nothing = nested.zeros_like(tensors)
    return choose(flags, tensors, nothing), choose(flags, nothing, tensors)


def scale(gate, tensors):
    """`tensors` times a gate, a scalar or (batch,).

    A gate of 0 cuts even what has grown to infinity.
    """
    scaled = []
    for tensor in tensors:
        factor = tf.cast(gate, tensor.dtype)
        if factor.shape.rank == 1:
            factor = align(factor, tensor)
        scaled.append(tf.math.multiply_no_nan(tensor, factor))
    return scaled


def shaped_as(tensors, others):
    """`tensors` with the static shapes of `others`, as a loop needs them."""
    return [
        tf.ensure_shape(a, b.shape)
        for a, b in zip(tensors, others, strict=True)
    ]


def floating(tensors):
    """Those of `tensors` that can have a gradient."""
    return [t for t in tensors if t.dtype.is_floating or t.dtype.is_complex]


def spread(gradients, structure):
    """One gradient for each leaf of `structure`, None for the integer ones."""
    gradients = iter(gradients)
    return [
        next(gradients) if floating([leaf]) else None
        for leaf in keras.tree.flatten(structure)
    ]
