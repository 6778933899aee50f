"""The table of public names, read from the `__all__` of public modules."""

import inspect

import keras_seqgrad as ksg


def public_names(module=ksg, prefix="ksg."):
    """Every public function and class by its dotted name."""
    if not hasattr(module, "__all__"):
        raise AssertionError(
            f"{module.__name__} is public and must list its public names in "
            "`__all__`."
        )
    table = {}
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.ismodule(value):
            table |= public_names(value, f"{prefix}{name}.")
        else:
            table[prefix + name] = value
    return table
