"""What a softmax or a sigmoid is made of, kept with what it gives.

Where one of them ends a model Keras' crossentropies go back through its
logits, so that a probability that is 0 or 1 to the last digit still has a loss
and a gradient. Keras leaves the logits with the tensor itself, and they are
lost where it is cut in time, joined or stored. These functions take them along.
"""

import contextlib

import keras

ACTIVATIONS = (keras.activations.softmax, keras.activations.sigmoid)
# The attribute of a tensor in which they are.
NAME = "keras_seqgrad_logits"


def ends_by(layer):
    """Whether a layer, not recurrent, applies one of `ACTIVATIONS`."""
    recurrent = hasattr(layer, "state_size")
    return not recurrent and getattr(layer, "activation", None) in ACTIVATIONS


@contextlib.contextmanager
def recorded(layers):
    """Has what layers give by one of `ACTIVATIONS` keep its logits."""
    kept = [(layer, layer.activation) for layer in layers if ends_by(layer)]
    for layer, activation in kept:
        layer.activation = lambda z, made_by=activation: made(made_by, z)
    try:
        yield
    finally:
        for layer, activation in kept:
            layer.activation = activation


def made(activation, leaf):
    """What an activation makes of logits, which it keeps; for None the leaf."""
    if activation is None:
        return leaf
    tensor = activation(leaf)
    setattr(tensor, NAME, (activation, leaf))
    return tensor


def read(tensor):
    """(activation, logits) of a tensor, (None, the tensor) where none are."""
    return getattr(tensor, NAME, (None, tensor))


def leaves(structure):
    """Of every tensor of a structure its logits, or itself; flat."""
    return [read(tensor)[1] for tensor in keras.tree.flatten(structure)]


def mapped(function, *tensors):
    """`function` of tensors, of their logits where they keep them.

    Args:
        function: What only moves, chooses, cuts or joins rows and steps.
        *tensors: The tensors; all keep logits, or none.
    """
    activation, _ = read(tensors[0])
    return made(activation, function(*(read(each)[1] for each in tensors)))
