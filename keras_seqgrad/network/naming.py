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
    if isinstance(x.get("inputs"), (dict, list, tuple)):
        return x
    names = {tensor.name for tensor in keras.tree.flatten(taken)}
    if set(x) != (set(taken) if isinstance(taken, dict) else names):
        return x
    if not isinstance(taken, dict):
        x = keras.tree.map_structure(lambda tensor: x[tensor.name], taken)
    return {"inputs": x}
