"""The state of a model, and its parameters, as vectors."""

import math

import tensorflow as tf

from keras_seqgrad.network import norming
from keras_seqgrad.state.vector import differentiable, join, size_of


def refuse_unbuilt(model, method):
    """Refuses a model of which the number of parameters is not known."""
    layers = [layer for layer in model.layers if not layer.built]
    if layers:
        raise ValueError(
            f"{method} must know all weights when the model is compiled. "
            f"Expected layers that are built, received {layers[0].name!r}, "
            "which is not. Call the model on one batch before `compile`."
        )


def refuse_joined_rows(model, method):
    """Refuses a model in which the state of a row depends on other rows."""
    norming.refuse(
        norming.below_states(model),
        f"{method} carries the influence of the weights on each row's state by "
        "itself, which there depends on other rows.",
        "Train by TruncatedBPTT or SnAp",
    )


def sizes_of(model):
    """(units of the state, trainable parameters) of a model."""
    variables = model.trainable_variables
    return size_of(model.state_spec()), sum(
        math.prod(variable.shape) for variable in variables
    )


def dtype_of(model):
    """float32 for influence, or float64 where the state is."""
    names = [dtype for _, dtype in model.state_spec()]
    return "float64" if "float64" in names else "float32"


def as_vectors(state, dtype):
    """A nested state, or a gradient by it, as (batch, units)."""
    return join(differentiable(state), dtype)


def flat(tensors, dtype):
    """All numbers of a list of tensors, (size,); of a frozen model none."""
    parts = [tf.reshape(tf.cast(tensor, dtype), [-1]) for tensor in tensors]
    return tf.concat([tf.zeros([0], dtype), *parts], axis=0)


def as_variables(vector, variables):
    """A vector (size,) as tensors like the variables; undoes `flat`."""
    sizes = [math.prod(variable.shape) for variable in variables]
    parts = tf.split(vector, [*sizes, 0])[:-1]
    return [
        tf.cast(tf.reshape(part, variable.shape), variable.dtype)
        for part, variable in zip(parts, variables, strict=True)
    ]
