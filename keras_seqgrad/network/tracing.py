"""Calls of layers while a graph is traced: their tensors, their kinds."""

import keras

from keras_seqgrad.layers.cells import parts
from keras_seqgrad.layers.pooling import LAST, MAXIMUM, MEAN, SUM, OverTime
from keras_seqgrad.tensors import origin

# Functions over the steps that are kinds of `OverTime`.
POOLINGS = {"Mean": MEAN, "Sum": SUM, "Max": MAXIMUM, "Amax": MAXIMUM}


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


def looked_into(layers):
    """Layers, and all that are inside of those of the user's own."""
    each = [parts(layer) if is_own(layer) else [layer] for layer in layers]
    return [part for inside in each for part in inside]


def as_layer(layer, args, kwargs):
    """A call of Keras that is the same as that of a layer which we know.

    A softmax or sigmoid becomes a layer with that `activation`, so that its
    logits are kept (see `keras_seqgrad.tensors.logits`); what is taken over all
    steps, or the last of them, an `OverTime`. Other calls stay as they are.

    Returns:
        (layer, its arguments, its keyword arguments).
    """
    kind = type(layer).__name__
    given = args[0] if args else None
    plain = all(value is None for value in kwargs.values())
    if not (plain and isinstance(given, keras.KerasTensor)):
        return layer, args, kwargs
    options = {"name": layer.name, "dtype": given.dtype}
    made = None
    if isinstance(layer, keras.layers.Layer):
        if type(layer) is keras.layers.Softmax and layer.axis == -1:
            options["dtype"] = layer.dtype_policy
            made = keras.layers.Activation("softmax", **options)
    elif kind == "Sigmoid" or (kind == "Softmax" and layer.axis == -1):
        made = keras.layers.Activation(kind.lower(), **options)
    elif len(given.shape) == 3 and given.shape[-1] and "float" in given.dtype:
        pooling, keepdims = over_time(kind, layer, args)
        if pooling:
            made = OverTime(pooling, keepdims, **options)
    return (layer, args, kwargs) if made is None else (made, (given,), {})


def over_time(kind, function, args):
    """What a function of Keras does over the second of three axes, or None.

    Args:
        kind: Its name.
        function: The function, as a graph has it.
        args: What it is called with.

    Returns:
        (a kind of `OverTime` or None, whether the axis stays).
    """
    if kind == "GetItem":
        return (LAST if is_last_step(args[1]) else None), False
    pooling = POOLINGS.get(kind)
    if pooling is None or getattr(function, "initial", None) is not None:
        return None, False
    over = keras.tree.flatten(function.axis)
    return (pooling if over in ([1], [-2]) else None), function.keepdims


def is_last_step(key):
    """Whether `x[key]` is the last step of an x of three axes."""
    if not (isinstance(key, tuple) and len(key) in (2, 3)):
        return False
    rows, step, *features = key
    whole = [each for each in (rows, *features) if isinstance(each, slice)]
    return (
        type(step) is int
        and step == -1
        and whole == [slice(None)] * (len(key) - 1)
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


def goes_forward(layer):
    """Whether a layer is recurrent, and reads a sequence from its start."""
    return isinstance(layer, keras.layers.RNN) and not layer.go_backwards


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
