"""How large the axes of a tensor are, known or not."""

import tensorflow as tf


def shape_of(tensor):
    """The size of each axis: an integer where it is known, else a scalar.

    A number that is known needs no operation, and what is reshaped by it has
    a known shape again.
    """
    known = list(tensor.shape)
    if None not in known:
        return known
    found = tf.unstack(tf.shape(tensor))
    return [
        size if size is not None else there
        for size, there in zip(known, found, strict=True)
    ]
