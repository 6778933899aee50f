"""Small functions on lists and nested structures of tensors."""

import keras
import tensorflow as tf


def zeros_like(structure):
    """Zero tensors shaped as the leaves of `structure`."""
    return keras.tree.map_structure(tf.zeros_like, structure)


def fill(gradients, sources):
    """`gradients` with zeros where a source was not reached."""
    return [
        tf.zeros_like(tf.convert_to_tensor(source))
        if gradient is None
        else tf.convert_to_tensor(gradient)
        for gradient, source in zip(gradients, sources, strict=True)
    ]


def add(first, second):
    """Sums of the paired tensors of two lists."""
    return [a + b for a, b in zip(first, second, strict=True)]


def select(rows, chosen, other):
    """Leaves of `chosen` where `rows` says so, else those of `other`.

    Args:
        rows: Boolean (batch,), or a scalar for all rows.
        chosen: Nested tensors (batch, ...).
        other: The same.
    """
    return keras.tree.map_structure(
        lambda a, b: tf.where(
            tf.reshape(rows, [-1] + [1] * (len(a.shape) - 1)), a, b
        ),
        chosen,
        other,
    )
