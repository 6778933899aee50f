"""The Keras model that a segmented model is made of, as a user gives it."""

import keras

from keras_seqgrad.tensors import arguments


def of(inputs, outputs, network):
    """The network between inputs and outputs, or the one that is given."""
    if network is not None:
        if inputs is not None or outputs is not None:
            raise ValueError(
                "Give either `network`, or `inputs` and `outputs`. Received: "
                f"network={arguments.told(network)} and beside it "
                f"inputs={arguments.told(inputs)}, "
                f"outputs={arguments.told(outputs)}"
            )
        return check(network, "network")
    if inputs is None and outputs is None:
        return None
    for name, given in (("inputs", inputs), ("outputs", outputs)):
        leaves = keras.tree.flatten(given)
        if not leaves or not all(map(keras.utils.is_keras_tensor, leaves)):
            arguments.refuse(given, name, "Keras tensors, as keras.Input(...)")
    return keras.Model(inputs, outputs)


def config(network):
    """What a file has of the network.

    Raises:
        ValueError: It is an old file of HDF5, which knows neither the class of
            the model nor its method.
    """
    found = keras.saving.serialize_keras_object(network)
    # Only in those do layers not say where they are from.
    layers = found["config"].get("layers", [])
    if not all("module" in layer for layer in layers):
        raise ValueError(
            "A file of the old format HDF5 has no place for a SequenceModel's "
            "method and carried state. Expected a name that ends in .keras, "
            'received one that does not. Use model.save("model.keras"), or '
            'model.save_weights("model.weights.h5") for weights alone.'
        )
    return found


def check(network, name):
    """`network`, which must be a Keras model."""
    if not isinstance(network, keras.Model):
        wanted = "a built Sequential or Functional Keras model"
        arguments.refuse(network, name, wanted)
    if hasattr(network, "call_segment"):
        raise ValueError(
            f"`{name}` must be a Keras model that is no SequenceModel yet. For "
            "a second one on the same layers and weights write "
            "ksg.SequenceModel(model.input, model.output, ...). "
            f"Received: {network.__class__.__name__} {network.name!r}"
        )
    return network
