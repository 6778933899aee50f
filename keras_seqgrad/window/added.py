"""What layers add to the loss while they run, beside the loss of the targets.

An activity regulariser of Keras is a sum over steps, `add_loss` takes any
number. What a window adds is not known from what its segments add; so where
layers add something, the window is run once more for the logs, forward alone.
"""

import contextlib
import weakref

import keras
import tensorflow as tf

from keras_seqgrad.network.tracing import tensors
from keras_seqgrad.tensors import pieces, replicas

# What of a sequence is the sum of what it is of its segments.
SUMS = (keras.regularizers.L1, keras.regularizers.L2, keras.regularizers.L1L2)

# Whether layers add losses, by the tracker of the loss: one for each `compile`.
_known = weakref.WeakKeyDictionary()


def to_window(window):
    """What is added to the loss of the whole window by the present weights.

    None where layers add nothing while they run: what regularisers of weights
    add is that of any segment.
    """
    if not is_added(window):
        return None
    with window.draws_put_back():
        window.forward(window.whole(), window.state)
    return to_loss(window)


def to_loss(window):
    """What regularisers and layers add to the loss of the last forward pass.

    Of several replicas each has its part of it, as of the whole loss.
    """
    loss = tf.zeros((), keras.config.floatx())
    for each in window.model.losses:
        loss += tf.reduce_sum(tf.cast(each, loss.dtype))
    return loss / replicas.count()


def exchanged(window, loss, of_window):
    """A loss of the last forward pass, with what the window adds to it.

    Args:
        window: The window.
        loss: The loss.
        of_window: What `to_window` gave.
    """
    if of_window is None:
        return loss
    return loss + (of_window - to_loss(window))


def by_layers(window):
    """What layers added to the loss in the last forward pass."""
    return to_loss(window) - by_weights(window)


def by_weights(window):
    """What regularisers of weights add to the loss."""
    loss = tf.zeros((), keras.config.floatx())
    for variable in _regularised(window):
        loss += tf.cast(variable.regularizer(variable), loss.dtype)
    return loss / replicas.count()


def by_head(window):
    """What the layers of a head added when it last ran, if there is one."""
    head, loss = window.model.network_head, tf.zeros((), keras.config.floatx())
    for layer in [] if head is None else head.layers:
        for each in layer.losses:
            loss += tf.cast(tf.reduce_sum(each), loss.dtype)
        for variable in layer.trainable_variables:
            if variable.regularizer is not None:
                loss -= tf.cast(variable.regularizer(variable), loss.dtype)
    return loss / replicas.count()


def is_sum_over_steps(window):
    """Whether that is all of regularisers of what layers give at every step."""
    model = window.model
    sums = [
        layer
        for layer in _regularised_steps(model)
        if type(layer.activity_regularizer) in SUMS
    ]
    return len(model.losses) == len(_regularised(window)) + len(sums)


@contextlib.contextmanager
def of_steps(window, start, length):
    """Has regularisers of what layers give at every step take some steps alone.

    For a run that goes over steps which another run has counted.

    Args:
        window: The window.
        start: The first of these steps, from where the run starts.
        length: How many.
    """

    def of_these(regularizer):
        return lambda tensor: regularizer(pieces.steps(tensor, start, length))

    layers = {id(layer): layer for layer in _regularised_steps(window.model)}
    kept = [(each, each.activity_regularizer) for each in layers.values()]
    for layer, regularizer in kept:
        layer.activity_regularizer = of_these(regularizer)
    try:
        yield
    finally:
        for layer, regularizer in kept:
            layer.activity_regularizer = regularizer


def _regularised_steps(model):
    """Of each call the layer, if it regularises what it gives at every step."""
    if model.is_opaque:
        return []
    return [
        layer
        for layer, made in model.graph.called
        if layer.activity_regularizer is not None
        and all(id(tensor) in model.graph.temporal for tensor in tensors(made))
    ]


def is_more_than_regularisers(window):
    """Whether layers added losses in the last forward pass."""
    return len(window.model.losses) > len(_regularised(window))


def refuse_more(window):
    """Refuses losses that layers added while running in segments."""
    if is_more_than_regularisers(window):
        raise ValueError(
            "This method sums the window's loss over segments, which is "
            "not defined for losses that layers add themselves (add_loss, "
            "activity_regularizer; checkpoints and estimates take an L1 "
            "or L2 of outputs at every step). Train with BPTT(), or take "
            "these losses out."
        )


def _regularised(window):
    return [v for v in window.variables if v.regularizer is not None]


def is_added(window):
    """Whether layers add to the loss while they run."""
    model = window.model
    if not (model.is_opaque or model.graph.may_add_losses):
        return False
    tracker = window.learner.loss_tracker
    if tracker not in _known:
        window.peek(0, window.state)
        _known[tracker] = is_more_than_regularisers(window)
    return _known[tracker]
