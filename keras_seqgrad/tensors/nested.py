"""Small functions on lists and nested structures of tensors."""

import re

import keras
import tensorflow as tf


def leaves(structure):
    """The leaves of a state, in the order of its layers' names.

    What is kept of a state by places must be in one order in every process.
    Keras sorts names as texts, and where it counts layers up, "gru_10" stands
    before "gru_9": the same two layers would change places when they are made
    once more. So numbers in names are sorted as numbers.
    """
    return list(_in_order(structure))


def packed(structure, values):
    """`leaves` undone: values in the place of the leaves of `structure`."""
    count = len(keras.tree.flatten(structure))
    places = leaves(keras.tree.pack_sequence_as(structure, range(count)))
    flat = dict(zip(places, values, strict=True))
    return keras.tree.pack_sequence_as(
        structure, [flat[place] for place in range(count)]
    )


def _in_order(structure):
    if isinstance(structure, dict):
        names = sorted(structure, key=_by_number)
        structure = [structure[name] for name in names]
    if isinstance(structure, (list, tuple)):
        for part in structure:
            yield from _in_order(part)
    else:
        yield structure


def _by_number(name):
    """What a name is sorted by: texts and numbers in turn."""
    texts = re.split(r"(\d+)", str(name))
    return [int(text) if text.isdecimal() else text for text in texts]


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
