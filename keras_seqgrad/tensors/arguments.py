"""Checks of what users give, the same for every public name.

Each function takes a value and the name of its argument, and returns the value
as the package keeps it, or raises a ValueError that says what was expected,
what was received, and for which argument. NumPy's numbers and booleans are
numbers and booleans; True is no number and 1 is no boolean.
"""

import math
import numbers
import os

import keras
import numpy as np
import tensorflow as tf

# Of an int32, which a method keeps its seed in.
LARGEST_SEED = 2**31 - 1
# Characters of a value that an error shows.
LONGEST = 160


def told(value):
    """`value` as an error tells it: of arrays shape and dtype, else short."""
    if isinstance(value, np.ndarray) and value.ndim:
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    shown = repr(value)
    return shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}…"


def refuse(value, name, wanted):
    """Raises the error of an argument that must be what is `wanted`."""
    raise ValueError(
        f"`{name}` must be {wanted}. Received: {name}={told(value)}"
    )


# --- numbers ---------------------------------------------------------------


def is_integer(value):
    """Whether a value is a whole number, and no boolean."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_real(value):
    """Whether a value is a number, NaN and infinity included; no boolean."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def integer(value, name, least=None, most=None):
    """`value` as an int between two bounds."""
    if (
        not is_integer(value)
        or (least is not None and value < least)
        or (most is not None and value > most)
    ):
        wanted = "an integer"
        if least is not None and most is not None:
            wanted += f" from {least} to {most}"
        elif least is not None:
            wanted += f" of {least} or more"
        refuse(value, name, wanted)
    return int(value)


def positive_integer(value, name):
    """`value` as an int of 1 or more."""
    return integer(value, name, 1)


def seed(value, name="seed", most=None):
    """`value` as an int of 0 or more, or None for a random one."""
    if value is None:
        return None
    if not is_integer(value) or value < 0 or (most and value > most):
        limit = f" and at most {most}" if most else ""
        refuse(value, name, f"an integer of 0 or more{limit}, or None")
    return int(value)


def number(
    value, name, *, least=None, above=None, most=None, below=None, wanted=None
):
    """`value` as a finite float between bounds that belong to it or do not.

    Args:
        value: What was given.
        name: Name of the argument.
        least: The least value, or
        above: what it must be above.
        most: The largest value, or
        below: what it must be below.
        wanted: How an error says it; None for by the bounds.
    """
    if not (
        is_real(value)
        and math.isfinite(value)
        and (least is None or value >= least)
        and (above is None or value > above)
        and (most is None or value <= most)
        and (below is None or value < below)
    ):
        refuse(value, name, wanted or _range(least, above, most, below))
    return float(value)


def _range(least, above, most, below):
    first = least if above is None else above
    if most is not None and first is not None:
        opening = "[" if above is None else "("
        return f"a number in {opening}{first:g}, {most:g}]"
    if first is None:
        return "a finite number"
    found = "a number " + (
        f"of {first:g} or more" if above is None else f"above {first:g}"
    )
    if below is not None:
        return f"{found} and below {below:g}"
    return found


# --- choices ---------------------------------------------------------------


def flag(value, name):
    """`value` as a bool."""
    if not isinstance(value, (bool, np.bool_)):
        refuse(value, name, "True or False")
    return bool(value)


def choice(value, name, known, more=""):
    """`value`, which must be one of some names (or None, or False).

    Args:
        value: What was given.
        name: Name of the argument.
        known: List or tuple of what it may be.
        more: What an error says behind them.
    """
    if not any(type(value) is type(one) and value == one for one in known):
        refuse(value, name, f"one of {known}{more}")
    return value


def text(value, name, wanted="a string"):
    """`value`, which must be a string."""
    if not isinstance(value, str):
        refuse(value, name, wanted)
    return value


def path(value, name, wanted="the path of a file or folder"):
    """`value`, which must be a path: text or `os.PathLike`, and not empty."""
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        refuse(value, name, wanted)
    return value


# --- functions and objects -------------------------------------------------


def function(value, name, what="a function"):
    """`value`, which must be callable."""
    if not callable(value):
        refuse(value, name, what)
    return value


def optimizer(value, name):
    """The Keras optimizer that `value` is, names or describes.

    Args:
        value: An optimizer, its name, or its configuration as Keras saves it.
        name: Name of the argument.
    """
    wanted = "a keras.optimizers object, or the name of one, as 'adam'"
    if not isinstance(value, (str, dict, keras.optimizers.Optimizer)):
        refuse(value, name, wanted)
    try:
        return keras.optimizers.get(value)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"`{name}` must be {wanted}. Received: {name}={told(value)}"
        ) from error


def dictionary(value, name, wanted="a dict"):
    """`value`, which must be a dict."""
    if not isinstance(value, dict):
        refuse(value, name, wanted)
    return value


# --- several at once -------------------------------------------------------


def increasing(values, name):
    """`values` as a list of ints of 1 or more that increase."""
    listed = isinstance(values, (list, tuple, range, np.ndarray))
    found = list(values) if listed and np.ndim(values) == 1 else []
    if (
        not found
        or not all(is_integer(value) and value > 0 for value in found)
        or any(a >= b for a, b in zip(found, found[1:], strict=False))
    ):
        refuse(values, name, "integers of 1 or more that increase")
    return [int(value) for value in found]


def array(value, name, wanted="an array, or a list of numbers"):
    """`value` as a NumPy array of numbers or booleans."""
    if value is not None and not isinstance(value, (str, dict)):
        try:
            found = np.asarray(value)
        except (TypeError, ValueError):
            found = np.asarray(None)
        if found.dtype.kind != "O":
            return found
    return refuse(value, name, wanted)


def tensor(value, name, wanted="a tensor, or an array of numbers"):
    """`value` as a tensor."""
    if value is not None and not callable(value):
        try:
            return tf.convert_to_tensor(value)
        except (TypeError, ValueError):
            pass
    return refuse(value, name, wanted)
