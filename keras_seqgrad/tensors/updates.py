"""Moving variables by gradients."""

import tensorflow as tf


def apply(optimizer, gradients, variables):
    """Moves variables by gradients, after all that these were computed from.

    Args:
        optimizer: Keras optimizer.
        gradients: A gradient, or None, for each variable.
        variables: The variables.
    """
    optimizer.apply(together(gradients), variables)


def together(gradients):
    """The same gradients, none of which is there before all of them are.

    Without XLA a variable might otherwise move before it is read. TensorFlow
    does make its update wait for every earlier read; but Keras' optimizers hand
    all gradients through one IdentityN, behind which every update seems to wait
    for every gradient anyway. So grappler's dependency optimizer drops the edge
    from a read that any gradient was computed from, and then the IdentityN as
    well: a read that a variable's own gradient does not need is left in no
    order with its update.

    Here the gradients wait for each other before that IdentityN. Not by
    `tf.identity`: the same optimizer would drop that, too.
    """
    if tf.executing_eagerly():
        return gradients
    known = [each for each in gradients if each is not None]
    leaves = tf.nest.flatten(known, expand_composites=True)
    with tf.control_dependencies([tf.group(*leaves)]):
        return tf.nest.map_structure(
            lambda leaf: leaf if leaf is None else kept(leaf),
            list(gradients),
            expand_composites=True,
        )


def kept(tensor):
    """The tensor, by an operation that stays in the graph."""
    return tf.ensure_shape(tensor, tensor.shape)
