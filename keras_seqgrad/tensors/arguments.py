"""Checks of numbers that users give."""

import math
import numbers


def positive_integer(value, name):
    """Returns `value` as an int, or refuses it by `name`."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or value < 1:
        raise ValueError(
            f"`{name}` must be an integer of 1 or more. "
            f"Received: {name}={value!r}"
        )
    return int(value)


def above(value, name, least, limit=math.inf):
    """`value` as a float between two bounds, or refuses it by `name`."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    if least < found < limit:
        return found
    wanted = f"a number above {least:g}"
    wanted += "" if limit == math.inf else f" and below {limit:g}"
    raise ValueError(f"`{name}` must be {wanted}. Received: {name}={value!r}")
