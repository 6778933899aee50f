"""Inputs on which a graph can be tried: drawn to fit it, or the user's own."""

import math

import keras
import numpy as np
import tensorflow as tf

from keras_seqgrad.layers.cells import parts
from keras_seqgrad.network import compared
from keras_seqgrad.network.nodes import RecurrentNode
from keras_seqgrad.network.tracing import goes_forward, is_graph, tensors
from keras_seqgrad.tensors import arguments

# Long enough that a delay of a year of days shows; of a month where a model is
# large or goes step by step.
# The last step is cut off: 37 and 397 steps divide into no blocks, and a
# segment of one step is met as well.
STEPS, FEWER_STEPS, FEWEST_STEPS = 398, 38, 12
LARGEST = 2**20
LONGEST_GIVEN = 400
ROWS = 2
# What lookups take is among the first few of their values.
FEW = 4

# Operations that hand on the values they are given.
KEEP_VALUES = {"Cast", "ExpandDims", "GetItem", "Identity", "Reshape"}
KEEP_VALUES |= {"Squeeze", "Transpose"}


def normal(draw, shape):
    return draw.normal(size=shape)


def wide(draw, shape):
    """From 1 to 10,000, so that some numbers pass a threshold."""
    return 10.0 ** draw.uniform(0.0, 4.0, shape)


def between(low, high):
    return lambda draw, shape: draw.uniform(low, high, shape)


def whole(low, high):
    return lambda draw, shape: draw.integers(low, high, shape)


# (whether lookups are given what they take, how to draw floats, range of
# integers), one after the other until the model runs on what comes.
KINDS = [
    (True, normal, (0, 3)),
    (True, between(0.1, 0.9), (1, 3)),
    (True, between(1.1, 3.0), (2, 9)),
    (False, whole(0, 2), (0, 2)),
    (False, whole(1, 3), (1, 3)),
    (False, between(0.1, 0.9), (-1, 2)),
    (False, between(-0.9, -0.1), (-9, -1)),
    (False, wide, (0, 100)),
]
# The same, for tensors that have been the same at all steps. Most are masks,
# for which a step must be zeros.
REVEALING = [
    (True, whole(0, 2), (0, 2)),
    (True, lambda *given: normal(*given) * wide(*given), (0, 100)),
    (True, wide, (-100, 100)),
]


def drawn(graph, kinds=KINDS):
    """Draws for the inputs of `graph`, of one kind after the other."""
    known = lookups(graph)
    rows = fixed_rows(graph) or ROWS
    for steps in tried_lengths(graph):
        shapes = [
            [rows, *(size or (3 if axis else steps) for axis, size in shape)]
            for shape in map(enumerate, input_shapes(graph))
        ]
        for kind in kinds:
            draw = np.random.default_rng(0)
            flat = [
                values(draw, kind, shape, tensor.dtype, known.get(id(tensor)))
                for shape, tensor in zip(
                    shapes, keras.tree.flatten(graph.inputs), strict=True
                )
            ]
            yield keras.tree.pack_sequence_as(graph.inputs, flat)


def values(draw, kind, shape, dtype, known):
    """Numbers or words of one input.

    Args:
        draw: NumPy's generator.
        kind: One of `KINDS` or `REVEALING`.
        shape: The shape.
        dtype: The dtype.
        known: Values that the input may have, or None.
    """
    fits, floats, (low, high) = kind
    counts = dtype in ("bool", "string") or "int" in dtype
    if fits and known is not None:
        few = known[:FEW]
    elif counts:
        few = np.arange(low, high)
    else:
        return tf.cast(floats(draw, shape), dtype)
    if "uint" in dtype:
        few = np.abs(few)
    places = draw.integers(0, len(few), shape)
    # A sequence that begins masked begins otherwise than in Keras.
    if len(shape) > 1:
        places[:, 0] = np.maximum(places[:, 0], min(1, len(few) - 1))
    if dtype == "string":
        return tf.constant(few.astype(str)[places])
    return tf.cast(few[places], dtype)


def input_shapes(graph):
    """Shapes of the inputs of the original model, without the batch."""
    originals = keras.tree.flatten(graph.original.input)
    return [tuple(tensor.shape[1:]) for tensor in originals]


def length(graph):
    """The length of the sequences that the original model takes, or None."""
    return next(
        (
            shape[0]
            for shape, has_time in zip(
                input_shapes(graph), graph.temporal_inputs, strict=True
            )
            if has_time and shape[0] is not None
        ),
        None,
    )


def tried_lengths(graph):
    """Numbers of steps to try."""
    fixed = length(graph)
    if fixed is not None:
        return [fixed]
    if graph.uncut is not None:
        # Run whole, and in Keras step by step.
        return [FEWER_STEPS, STEPS, FEWEST_STEPS]
    inputs = keras.tree.flatten(graph.inputs)
    size = sum(
        math.prod(n or 3 for n in tensor.shape[2:])
        for tensor in [*inputs, *(tensor for _, tensor in graph.results)]
        if id(tensor) in graph.temporal
    )
    for steps in STEPS, FEWER_STEPS:
        slow = steps == STEPS and goes_step_by_step(graph)
        if ROWS * steps * size <= LARGEST and not slow:
            return [steps, FEWEST_STEPS]
    return [FEWEST_STEPS]


def goes_step_by_step(graph):
    """Whether layers other than those with a stand-in loop over the steps."""
    loops = (keras.layers.TimeDistributed, keras.layers.RNN)
    return any(
        isinstance(part, loops)
        for layer in graph.layers
        if not goes_forward(layer)
        for part in parts(layer)
    )


def fixed_rows(graph):
    """The batch size that the model is made for, or None."""
    originals = keras.tree.flatten(graph.original.input)
    sizes = [tensor.shape[0] for tensor in originals]
    starts = [node.constant_start for node in graph.nodes.values()]
    sizes += [
        np.shape(leaf)[0]
        for leaf in keras.tree.flatten(starts)
        if leaf is not None and np.shape(leaf)[0] > 1
    ]
    return next((size for size in sizes if size is not None), None)


def lookups(graph):
    """Values that inputs may have because a table is read by them, by id."""
    found = {}
    for layer, _, args, kwargs, result in reversed(graph.calls):
        wanted = keys(layer)
        if wanted is None and not (
            isinstance(layer, RecurrentNode) or getattr(layer, "weights", ())
        ):
            below = [found[id(t)] for t in tensors(result) if id(t) in found]
            wanted = min(below, key=len, default=None)
            # Of what a calculation makes of them, least is known of 0 and 1.
            if wanted is not None and type(layer).__name__ not in KEEP_VALUES:
                wanted = np.arange(min(2, len(wanted)))
        given = args if is_graph(layer) else [args, kwargs]
        for tensor in tensors(given) if wanted is not None else ():
            before = found.get(id(tensor), wanted)
            found[id(tensor)] = min(before, wanted, key=len)
    return found


def keys(layer):
    """What the tables in `layer` are read by, or None."""
    tables = (keras.layers.StringLookup, keras.layers.IntegerLookup)
    if isinstance(layer, tables):
        return np.array(layer.get_vocabulary(include_special_tokens=False))
    if isinstance(layer, keras.layers.CategoryEncoding):
        return np.arange(layer.num_tokens)
    if not isinstance(layer, keras.layers.Layer):
        classes = getattr(layer, "num_classes", None)
        return None if classes is None else np.arange(classes)
    if isinstance(layer, RecurrentNode):
        return None
    sizes = [
        part.input_dim
        for part in parts(layer)
        if isinstance(part, keras.layers.Embedding)
    ]
    return np.arange(min(sizes)) if sizes else None


def given(graph, example):
    """The user's example as the graph takes it, cut to a few rows.

    Raises:
        ValueError: It has not the form of the model's inputs.
    """
    wanted = keras.tree.flatten(graph.inputs)
    shapes = [(None, *shape) for shape in input_shapes(graph)]
    found = [
        arguments.tensor(leaf, "example")
        for leaf in keras.tree.flatten(example)
    ]
    fits = len(found) == len(wanted) and all(
        len(leaf.shape) == len(shape)
        and all(n in (None, m) for n, m in zip(shape, leaf.shape, strict=True))
        for leaf, shape in zip(found, shapes, strict=True)
    )
    if not fits:
        raise ValueError(
            "`example` must be one batch of inputs as `fit` takes them, of "
            f"shapes {shapes}. "
            f"Received shapes: {[tuple(leaf.shape) for leaf in found]}"
        )
    rows = fixed_rows(graph) or ROWS
    flat = [
        tf.cast(leaf[:rows], tensor.dtype)
        for leaf, tensor in zip(found, wanted, strict=True)
    ]
    varies = [
        compared.varies(compared.array(leaf))
        for leaf, has_time in zip(flat, graph.temporal_inputs, strict=True)
        if has_time
    ]
    if length(graph) != 1 and not any(varies):
        raise ValueError(
            "`example` must have two or more steps that differ: others cannot "
            "show whether a layer mixes them. "
            f"Received shapes: {[tuple(leaf.shape) for leaf in found]}"
        )
    inputs = keras.tree.pack_sequence_as(graph.inputs, flat)
    if length(graph) is None:
        inputs = graph.cut(inputs, 0, LONGEST_GIVEN)
    return inputs
