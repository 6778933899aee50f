"""Inputs that come by name, or are named as their companions are."""

import keras


def arranged(x, taken):
    """`x` as a network takes its inputs, beside their companions.

    A dict whose keys are the names of the network's own inputs is no dict of
    companions, be the inputs named "inputs", "mask" or "reset". A network of a
    list may be given such a dict, as in Keras.

    Args:
        x: A dict of inputs, or of inputs and their companions.
        taken: The inputs of the network, nested Keras tensors.
    """
    names = {tensor.name for tensor in keras.tree.flatten(taken)}
    listed = not isinstance(taken, dict)

    def in_order(given):
        return keras.tree.map_structure(lambda t: given[t.name], taken)

    inside = x.get("inputs")
    if isinstance(inside, (dict, list, tuple)):
        by_name = listed and isinstance(inside, dict) and set(inside) == names
        return {**x, "inputs": in_order(inside)} if by_name else x
    if set(x) != (names if listed else set(taken)):
        return x
    return {"inputs": in_order(x) if listed else x}
