"""What a scan must know of a Keras RNN cell before it runs it in a loop."""

import contextlib
import inspect
from collections.abc import Mapping

import keras
import tensorflow as tf

MASK_METHODS = (
    "get_dropout_mask",
    "get_recurrent_dropout_mask",
    "reset_dropout_mask",
    "reset_recurrent_dropout_mask",
)

# The base of Keras' cells that keeps their dropout masks. Keras shows it by no
# name, and makes the masks before its loop for cells that have it alone.
WithMasks = next(
    base
    for base in keras.layers.GRUCell.__mro__
    if "get_dropout_mask" in vars(base)
)


def parts(cell, into=lambda layer: True):
    """`cell` and all layers inside it, each once.

    Args:
        cell: A layer.
        into: Function (layer) -> whether to look for others inside of it.
    """
    found, waiting = [], [cell]
    while waiting:
        layer = waiting.pop(0)
        if any(layer is other for other in found):
            continue
        found.append(layer)
        for value in vars(layer).values() if into(layer) else ():
            # A dictionary or list of layers is as good as an attribute.
            waiting += _layers_in(value)
    return found


def _layers_in(value):
    """Layers in nested containers, whatever the keys of dictionaries are."""
    if isinstance(value, keras.layers.Layer):
        return [value]
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return []
    return [layer for each in value for layer in _layers_in(each)]


def is_as_written(layer, cls, name):
    """Whether method `name` of `layer` is the one in the source of `cls`.

    Not so after `cls.name = ...` or `layer.name = ...`. The code itself is
    asked, which no `functools.wraps` renames.
    """
    method = vars(cls).get(name)
    return (
        name not in vars(layer)
        and inspect.isfunction(method)
        and method.__code__.co_qualname == f"{cls.__qualname__}.{name}"
        and method.__globals__["__name__"] == cls.__module__
    )


def changing_variables(cell):
    """Variables that running `cell` may change: seeds, moving statistics.

    Weights of frozen layers are left out, since nothing changes them.
    """
    frozen = {
        id(variable)
        for part in parts(cell)
        if not part.trainable
        for variable in part.variables
        if "int" not in keras.backend.standardize_dtype(variable.dtype)
    }
    return [v for v in cell.non_trainable_variables if id(v) not in frozen]


def draws_masks(cell):
    """Whether `cell` may have Keras' dropout masks."""
    return all(hasattr(cell, method) for method in MASK_METHODS)


def drops_inputs_alone(cell):
    """Whether all dropout in `cell` is one mask of its inputs, or none."""
    if not draws_masks(cell):
        return True
    # Keras' first implementation of a gated cell has a mask for each gate.
    for_gates = cell.dropout and getattr(cell, "implementation", 2) == 1
    return not (for_gates or cell.recurrent_dropout)


def input_mask(cell, sequences):
    """What inputs (batch, time, features) are multiplied by in training.

    For a cell of which `drops_inputs_alone` holds; None where it drops none.
    """
    if not (draws_masks(cell) and cell.dropout):
        return None
    cell.reset_dropout_mask()
    mask = cell.get_dropout_mask(sequences[:, 0])[:, tf.newaxis]
    cell.reset_dropout_mask()
    return mask


@contextlib.contextmanager
def prepared_masks(cell, inputs, state, training):
    """Dropout masks of `cell` made here, for all steps run inside.

    Keras' cells make their masks at their first step and keep them for the
    others. Made inside a loop they could not leave it; so one step is run
    here, outside, and its result dropped.
    """
    caching = [
        part
        for part in parts(cell)
        if draws_masks(part)
        and (part.dropout > 0 or part.recurrent_dropout > 0)
    ]
    if not caching:
        yield
        return
    _forget_masks(caching)
    cell(inputs, state, training=training)
    try:
        yield
    finally:
        _forget_masks(caching)


def _forget_masks(caching):
    for part in caching:
        part.reset_dropout_mask()
        part.reset_recurrent_dropout_mask()
