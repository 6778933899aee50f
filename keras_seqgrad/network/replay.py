"""A graph run call by call, so that every tensor of it can be looked at."""

import contextlib
import re

import keras
import numpy as np
import tensorflow as tf

from keras_seqgrad.layers.cells import draws_masks, parts
from keras_seqgrad.network.nodes import RecurrentNode
from keras_seqgrad.network.statistics import norms
from keras_seqgrad.network.tracing import is_graph, is_own
from keras_seqgrad.tensors import masks

NOISES = (
    keras.layers.Dropout,
    keras.layers.AlphaDropout,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
)


# What an option is set to that is no rate.
OFF = {"use_cudnn": False, "trainable": False}


class LayerFailure(Exception):
    """The error of a layer in short.

    Attributes:
        name: The layer's name.
        values: Values of the tensors before it, by their ids.
    """

    def __init__(self, name, error, values):
        said = " ".join(re.sub(r"\x1b\[\d*m", "", str(error)).split())
        super().__init__(f"{type(error).__name__}: {said[:300]}")
        self.name, self.values = name, values


def replay(graph, inputs, training, stock=False):
    """Values of all tensors of `graph`, by their ids.

    Args:
        graph: The `Graph`.
        inputs: Nested tensors, as its model takes them.
        training: Whether layers run in training mode.
        stock: Whether recurrent layers run as Keras runs them, without a
            passage.

    Raises:
        LayerFailure: A layer does not run on its inputs.
    """
    given = keras.tree.flatten(graph.inputs)
    flat = keras.tree.flatten(inputs)
    values = {id(t): v for t, v in zip(given, flat, strict=True)}

    for layer, name, args, kwargs, result in graph.calls:
        args, kwargs = filled((args, kwargs), values)
        if is_graph(layer):
            # A cast leaves the mask behind; Keras hands it on.
            made = tf.cast(args[0], result.dtype)
            mask = kwargs.get("mask")
            mask = masks.read(args[0]) if mask is None else mask
            values[id(result)] = masks.attach(made, mask)
            continue
        if isinstance(layer, keras.layers.Layer):
            kwargs["training"] = training
        if stock and isinstance(layer, RecurrentNode):
            layer = layer.original
        try:
            made = layer(*args, **kwargs)
        except Exception as error:
            raise LayerFailure(name, error, values) from error
        enter(values, result, made)
    return values


def enter(values, result, made):
    """Enters in `values`, by tensor id, what a call has made.

    Args:
        values: Values by the ids of the Keras tensors that they belong to.
        result: Nested Keras tensors that the call gives.
        made: The same of values.
    """
    pairs = zip(
        keras.tree.flatten(result), keras.tree.flatten(made), strict=True
    )
    values.update((id(tensor), value) for tensor, value in pairs)


def filled(structure, values):
    """`structure` with values in place of the Keras tensors they belong to."""
    return keras.tree.map_structure(
        lambda leaf: values.get(id(leaf), leaf), structure
    )


def step_alone(cell, sequences, state, *, training=False, **_):
    """A stand-in for a scan: each step runs from `state`, all of them at once.

    What it gives acts on each step alone, in the range of the cell's own
    outputs, and takes one call of the cell.

    Args:
        cell: The cell.
        sequences: Nested tensors (batch, time, ...).
        state: The cell's state, (batch, ...).
        training: Whether the cell runs in training mode.

    Returns:
        (outputs, state after the last step), as a scan gives them.
    """
    rows, steps = keras.tree.flatten(sequences)[0].shape[:2]

    def joined(tensor):
        return tf.reshape(tensor, (rows * steps, *tensor.shape[2:]))

    def parted(tensor):
        return tf.reshape(tensor, (rows, steps, *tensor.shape[1:]))

    row_of = np.repeat(np.arange(rows), steps)
    ends = np.arange(steps - 1, rows * steps, steps)
    each = keras.tree.map_structure(
        lambda leaf: tf.gather(leaf, row_of), list(state)
    )
    sequences = keras.tree.map_structure(joined, sequences)
    outputs, new = cell(sequences, each, training=training)
    new = keras.tree.map_structure(lambda leaf: tf.gather(leaf, ends), new)
    outputs = keras.tree.map_structure(parted, outputs)
    return outputs, new if isinstance(new, (list, tuple)) else [new]


@contextlib.contextmanager
def without_dropout(layers):
    """Sets the rates of Keras' own noises to zero while it is open.

    Freezes what norms by the steps that it is given, and sets cuDNN aside,
    whose kernels take no masks but those at the end.
    """
    kept = []
    for part in {id(p): p for layer in layers for p in parts(layer)}.values():
        names = []
        if isinstance(part, NOISES) and not is_own(part):
            names = [n for n in ("rate", "stddev") if hasattr(part, n)]
        elif draws_masks(part):
            names = ["dropout", "recurrent_dropout"]
        elif hasattr(part, "use_cudnn"):
            names = ["use_cudnn"]
        elif norms(part):
            names = ["trainable"]
        kept += [(part, name, getattr(part, name)) for name in names]
        if norms(part):  # its variables are frozen with it
            kept += [(v, "trainable", v.trainable) for v in part.variables]
    try:
        for part, name, _ in kept:
            setattr(part, name, OFF.get(name, 0.0))
        yield
    finally:
        for part, name, rate in kept:
            setattr(part, name, rate)
