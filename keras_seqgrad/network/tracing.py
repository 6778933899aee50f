"""Calls of layers while a graph is traced: their tensors, their kinds."""

import keras

from keras_seqgrad.layers.cells import parts
from keras_seqgrad.tensors import origin


def tensors(structure):
    """The Keras tensors of a nested structure, flattened."""
    return [
        leaf
        for leaf in keras.tree.flatten(structure)
        if isinstance(leaf, keras.KerasTensor)
    ]


def is_own(layer):
    """Whether what `layer` does is written by the user."""
    return origin.is_own(type(layer)) or isinstance(layer, keras.layers.Lambda)


def normalises(layer):
    """Whether statistics of a batch are taken anywhere inside `layer`."""
    return any(
        isinstance(part, keras.layers.BatchNormalization) and part.trainable
        for part in parts(layer)
    )


def start_of(args, kwargs):
    """The initial state among the arguments of a recurrent layer, or None."""
    return args[1] if len(args) > 1 else kwargs.get("initial_state")


def starts(args, kwargs):
    """The Keras tensors of `start_of`."""
    return tensors([start_of(args, kwargs)])


def encodes_steps(layer, args):
    """Whether `layer` encodes one class at each step of (batch, time)."""
    if getattr(layer, "output_mode", None) != "one_hot":
        return False
    shape = args[0].shape
    return len(shape) == 2 and shape[1] != 1


def is_graph(layer):
    """Whether `layer` is a Sequential or Functional model."""
    return (
        isinstance(layer, keras.Model)
        and bool(getattr(layer, "inputs", None))
        # A SequenceModel shows the inputs of its network.
        and not hasattr(layer, "call_segment")
    )


def as_functional(model):
    """`model` in functional form, on the same layers."""
    if isinstance(model, keras.Sequential):
        return keras.Model(model.inputs[0], model.outputs[0])
    return model


def retrace(functional, inputs, call, prefix):
    """Outputs of `functional` on `inputs`, every layer called by `call`."""
    clone = keras.models.clone_model(
        functional,
        input_tensors=inputs,
        clone_function=lambda layer: layer,
        call_function=lambda layer, *args, **kwargs: call(
            layer, prefix, args, kwargs
        ),
    )
    return clone.output


def show_again(model):
    """Makes layers show the shapes that they have in `model`.

    Keras shows those of the last call, and a `Graph` calls the layers, too.
    """
    functional = as_functional(model)
    for layer in functional.layers:
        if is_graph(layer):
            show_again(layer)
    retrace(
        functional,
        functional.input,
        lambda layer, prefix, args, kwargs: layer(*args, **kwargs),
        "",
    )
