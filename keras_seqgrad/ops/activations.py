"""Activations whose slope is a function of their value.

With one of them a step need not save what its activation was given.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import keras
import tensorflow as tf

Name = Literal[
    "elu",
    "exponential",
    "hard_sigmoid",
    "leaky_relu",
    "linear",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "softplus",
    "softsign",
    "tanh",
]
# Of SELU: its scale, and the slope of its lower branch at 0.
SCALE, LOWER = 1.0507009873554805, 1.7580993408473766


class Activation(NamedTuple):
    """An elementwise function.

    Attributes:
        value: Function of what it is given.
        slope: Its derivative, as a function of its value.
    """

    value: Callable
    slope: Callable


def _sigmoid(tensor):
    """σ(z) = tanh(z / 2) / 2 + 1 / 2, which XLA computes faster than σ."""
    return 0.5 * tf.tanh(0.5 * tensor) + 0.5


def _between(value, low, high):
    return tf.cast((value > low) & (value < high), value.dtype)


ACTIVATIONS = {
    "elu": Activation(tf.nn.elu, lambda v: tf.minimum(v, 0.0) + 1.0),
    "exponential": Activation(tf.exp, tf.identity),
    "hard_sigmoid": Activation(
        lambda z: tf.nn.relu6(z + 3.0) / 6.0,
        lambda v: _between(v, 0.0, 1.0) / 6.0,
    ),
    "leaky_relu": Activation(
        lambda z: tf.nn.leaky_relu(z, 0.2),
        lambda v: tf.where(v > 0, tf.ones((), v.dtype), 0.2),
    ),
    "linear": Activation(tf.identity, tf.ones_like),
    "relu": Activation(tf.nn.relu, lambda v: tf.cast(v > 0, v.dtype)),
    "relu6": Activation(tf.nn.relu6, lambda v: _between(v, 0.0, 6.0)),
    "selu": Activation(
        tf.nn.selu,
        lambda v: tf.where(v > 0, tf.constant(SCALE, v.dtype), v + LOWER),
    ),
    "sigmoid": Activation(_sigmoid, lambda v: v * (1.0 - v)),
    "softplus": Activation(tf.nn.softplus, lambda v: -tf.math.expm1(-v)),
    "softsign": Activation(
        tf.nn.softsign, lambda v: tf.square(1.0 - tf.abs(v))
    ),
    "tanh": Activation(tf.tanh, lambda v: 1.0 - v * v),
}
# Their names, by the function that a Keras cell holds.
NAMES = {keras.activations.get(name): name for name in ACTIVATIONS}


def name_of(function):
    """The name of a cell's activation; None for one that is not here."""
    # Not all that is callable can be looked up.
    return next((n for known, n in NAMES.items() if known is function), None)
