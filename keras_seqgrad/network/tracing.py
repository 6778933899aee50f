"""Calls of layers while a graph is traced: their tensors, their kinds."""

import keras

from keras_seqgrad.layers.cells import parts
from keras_seqgrad.layers.pooling import LAST, MAXIMUM, MEAN, SUM, OverTime
from keras_seqgrad.tensors import origin

# Layers known to mix time steps, and what to say about them. What is not
# listed here is judged by `cuttable.check`, which compares numbers.
MIXES_TIME = {
    "Bidirectional": "its backward half reads the sequence from the end",
    "MultiHeadAttention": "every step attends to other steps",
    "GroupedQueryAttention": "every step attends to other steps",
    "Attention": "every step attends to other steps",
    "AdditiveAttention": "every step attends to other steps",
    "Flatten": "it joins the steps to one vector",
    "Permute": "it moves the time axis",
    "RepeatVector": "it makes a time axis of a fixed length",
}
# Functions over the steps that are kinds of `OverTime`.
POOLINGS = {"Mean": MEAN, "Sum": SUM, "Max": MAXIMUM, "Amax": MAXIMUM}
# Layers that look at the neighbours along the axes behind the rows. They are
# known before they run: some end Python where there are too few steps.
LOOKS_AROUND = tuple(
    getattr(keras.layers, f"{kind}{axes}D")
    for kind, most in {
        "Conv": 3,
        "DepthwiseConv": 2,
        "SeparableConv": 2,
        "AveragePooling": 3,
        "MaxPooling": 3,
    }.items()
    for axes in range(1, most + 1)
)


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


def mixes_time(layer):
    """Why `layer` cannot be cut in time, if it is known to mix steps."""
    if any(
        isinstance(part, keras.layers.BatchNormalization) and part.trainable
        for part in parts(layer)
    ):
        return (
            "in training its statistics are taken over all steps of the "
            "window; use LayerNormalization, or freeze it"
        )
    # With its channels first it looks along other axes than that of time.
    if type(layer) in LOOKS_AROUND and layer.data_format == "channels_last":
        size = getattr(layer, "kernel_size", None) or layer.pool_size
        if size[0] > 1 and layer.padding == "causal":
            return (
                "it looks back at steps before; ksg.layers.CausalConv1D, which "
                "has the weights of Conv1D, carries these to the next segment"
            )
        if size[0] > 1:
            return "it looks at the steps around a step"
    return MIXES_TIME.get(type(layer).__name__)


def as_layer(layer, args, kwargs):
    """A call of Keras that is the same as that of a layer which we know.

    A softmax or sigmoid becomes a layer with that `activation`, so that its
    logits are kept (see `keras_seqgrad.tensors.logits`); a mean, a sum, a
    maximum or the last of all steps an `OverTime`. Other calls stay as they are.

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
