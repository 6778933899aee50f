"""Networks that guess the gradient of the loss still to come from a state.

Each is a plain Keras model from (batch, state size) to (batch, state size),
whose last layer starts at zero: an untrained synthesiser is truncation.
"""

from typing import Any

import keras

from keras_seqgrad.tensors import arguments


def linear(size: int) -> keras.Model:
    """A linear synthesiser.

        estimate = W state + b

    Enough where the loss is quadratic in a linear system's state; smaller and
    quicker than `dense`, and usually a little worse elsewhere.

    Args:
        size: Number of state units: all layers', and for an LSTM h and c.

    Returns:
        A Keras model (batch, size) -> (batch, size), in float32.

    Raises:
        ValueError: `size` is not a positive integer.

    Example:

    >>> ksg.synthesizers.linear(8).count_params()
    72
    """
    size = arguments.positive_integer(size, "size")
    return keras.Sequential([_input(size), _last(size)], name="linear")


def dense(size: int, hidden: int | None = None) -> keras.Model:
    """A synthesiser with one hidden layer of rectified units, the default.

        estimate = W_2 relu(W_1 state + b_1) + b_2

    Args:
        size: Number of state units: all layers', and for an LSTM h and c.
        hidden: Width of the hidden layer; None for `size`.

    Returns:
        A Keras model (batch, size) -> (batch, size), in float32.

    Raises:
        ValueError: A number is not a positive integer.

    Reference:
        Jaderberg et al., 2017. Decoupled neural interfaces using synthetic
        gradients. arXiv:1608.05343.

    Example:

    >>> ksg.synthesizers.dense(8, hidden=4).output_shape
    (None, 8)
    """
    size = arguments.positive_integer(size, "size")
    hidden = arguments.positive_integer(
        size if hidden is None else hidden, "hidden"
    )
    return keras.Sequential(
        [
            _input(size),
            keras.layers.Dense(hidden, "relu", dtype="float32"),
            _last(size),
        ],
        name="dense",
    )


def elementwise(size: int, hidden: int = 50, noise: float = 0.5) -> keras.Model:
    """The synthesiser of Shang and Zhang: one small network for every unit.

    Every unit's value is a row of its own through the same weights, so that
    the number of weights does not depend on the size of the state. For one
    unit of value v, with n ~ N(1, noise) while it learns and n = 1 else:

        u = W_1 n v + b_1
        g = sigmoid(W_o u + b_o) (1 - sigmoid(W_f u + b_f)) tanh(W_z u + b_z)
        estimate = W_2 g + b_2

    g is the first step of a quasi-recurrent layer that starts from zero. It
    cannot tell units apart: not for cells whose units play different parts.

    n is drawn by Keras, as dropout is, and so by another algorithm under XLA:
    the same seed trains differently with and without `jit_compile=True`, and
    alike to rounding with `noise=0.0`.

    Args:
        size: Number of state units: all layers', and for an LSTM h and c.
        hidden: Width of the hidden layers.
        noise: Standard deviation of the factor n.

    Returns:
        A Keras model (batch, size) -> (batch, size), in float32.

    Raises:
        ValueError: A number is out of its range.

    Reference:
        Shang and Zhang, 2019. Alternating synthetic and real gradients for
        neural language modeling. arXiv:1902.10630.

    Example:

    >>> small = ksg.synthesizers.elementwise(8).count_params()
    >>> ksg.synthesizers.elementwise(800).count_params() == small
    True
    """
    size = arguments.positive_integer(size, "size")
    hidden = arguments.positive_integer(hidden, "hidden")
    noise = arguments.number(noise, "noise", least=0, wanted="0 or above")

    def units(name, activation=None):
        return keras.layers.Dense(
            hidden, activation, dtype="float32", name=name
        )

    inputs = _input(size)
    rows = keras.layers.Reshape((size, 1), dtype="float32")(inputs)
    # Keras' multiplicative noise has the variance rate / (1 - rate).
    rate = noise**2 / (1 + noise**2)
    rows = keras.layers.GaussianDropout(rate, dtype="float32")(rows)
    rows = units("spread")(rows)
    forgotten = units("forget", "sigmoid")(rows)
    made = units("candidate", "tanh")(rows)
    shown = units("output", "sigmoid")(rows)
    gated = keras.layers.Multiply(dtype="float32")([shown, made])
    dropped = keras.layers.Multiply(dtype="float32")([gated, forgotten])
    gated = keras.layers.Subtract(dtype="float32")([gated, dropped])
    estimate = keras.layers.Reshape((size,), dtype="float32")(_last(1)(gated))
    return keras.Model(inputs, estimate, name="elementwise")


BY_NAME = {"dense": dense, "elementwise": elementwise, "linear": linear}
WANTED = (
    "a Keras model, a function from the state size to one, None, or one of "
    f"{sorted(BY_NAME)}"
)


def check(identifier):
    """Refuses what stands for no synthesiser, without making one."""
    named = isinstance(identifier, str) and identifier in BY_NAME
    if not (identifier is None or named or callable(identifier)):
        arguments.refuse(identifier, "synthesizer", WANTED)


def name_of(identifier):
    """The name of one of the functions here; anything else as it is.

    A saved model holds the name: what Keras finds for a function called
    "linear" is an activation.
    """
    for name, function in BY_NAME.items():
        if identifier is function:
            return name
    return identifier


def get(identifier: Any, size: int) -> keras.layers.Layer:
    """The synthesiser a name, a function or a Keras model stands for.

    Args:
        identifier: A Keras model or layer; "dense", "elementwise" or
            "linear"; a function from the state size to a model; None for
            "dense".
        size: Number of state units.

    Raises:
        ValueError: It is none of these.

    Example:

    >>> ksg.synthesizers.get("linear", 3).name
    'linear'
    """
    check(identifier)
    size = arguments.positive_integer(size, "size")
    if isinstance(identifier, keras.layers.Layer):
        return identifier
    if identifier is None or isinstance(identifier, str):
        return BY_NAME[identifier or "dense"](size)
    made = identifier(size)
    if not isinstance(made, keras.layers.Layer):
        raise ValueError(
            f"`synthesizer` must be {WANTED}. Received: "
            f"synthesizer={identifier!r}, which gave {made!r}"
        )
    return made


def _input(size):
    return keras.Input((size,), dtype="float32")


def _last(size):
    return keras.layers.Dense(size, kernel_initializer="zeros", dtype="float32")


__all__ = ["dense", "elementwise", "get", "linear"]
