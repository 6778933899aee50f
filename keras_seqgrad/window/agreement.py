"""Whether the shapes of a batch agree, asked before anything is traced.

Inputs, masks, resets, targets and weights share one time axis, axis 1. Sizes
that are not known before a step runs are compared when it runs.
"""

import warnings

import keras
import tensorflow as tf

from keras_seqgrad.tensors import arguments, masks
from keras_seqgrad.window import per_step, whole_lengths
from keras_seqgrad.window.shapes import inputs_of, targets_of, weights_of
from keras_seqgrad.window.timed import (
    bind,
    compare,
    named,
    rank,
    refuse_numbers,
    said,
    with_a_step,
)


def check_run(model, run, given):
    """Refuses data of a run whose shapes do not agree.

    Args:
        model: The `SequenceModel`.
        run: "training", "evaluation" or "prediction".
        given: The arguments of Keras' `fit`, `evaluate` or `predict` by name.
            Of data that comes batch by batch only a `tf.data.Dataset` says
            its shapes; of others `tie` sees them.

    Raises:
        ValueError: Shapes do not agree; the text names argument and lengths.
    """
    trains = run == "training"
    data = [given.get(name) for name in ("x", "y", "sample_weight")]
    steps = check(model, data, trains, judged=run != "prediction")
    if trains and model.method is not None and steps:
        carried = model.stateful and model.method.crosses_windows
        if not carried:
            note_length(model.method, steps)
    if given.get("validation_data") is not None:
        data = given["validation_data"]
        if isinstance(data, (tuple, list)):
            data = keras.utils.unpack_x_y_sample_weight(tuple(data))
        else:
            data = [data]
        check(model, data, False, where="validation_data: ")


def check(model, data, trains, judged=True, where=""):
    """Refuses a batch, or arrays, whose shapes do not agree.

    Args:
        model: The `SequenceModel`.
        data: (x, y, sample_weight), or (dataset,).
        trains: Whether the method sees the batch.
        judged: Whether there is a loss.
        where: What the text of an error begins with.

    Returns:
        Number of time steps, or None where it is not known.

    Raises:
        ValueError: Shapes do not agree; the text names argument and lengths.
    """
    if isinstance(data[0], tf.data.Dataset):
        data = keras.utils.unpack_x_y_sample_weight(data[0].element_spec)
    x, y, sample_weight = [*data, None, None][:3]
    refuse_lists(x, y, sample_weight, where)
    leaves = keras.tree.flatten(x)
    if not all(hasattr(leaf, "shape") for leaf in leaves):
        return None
    label, steps, timed = inputs_of(model, x, where)
    if judged:
        need_targets(model, y)
        # Which outputs of a subclass have time, only a step finds out.
        if y is not None and not model.is_opaque:
            timed += judged_of(
                model, (x, y, sample_weight), steps, trains, where
            )
    for each in compared(model, timed):
        compare(each, label, steps)
    check_rows({"x": x, "y": y, "sample_weight": sample_weight}, where)
    return steps


def check_rows(given, where):
    """Refuses arrays that have not one entry for each row of the first."""
    listed = [
        pair for name in given for pair in named(where + name, given[name])
    ]
    listed = [pair for pair in listed if rank(pair[1]) is not None]
    if not listed:
        raise ValueError(
            f"`{where}x` holds no inputs. Expected (batch, time, ...). "
            f"Received: {given['x']!r}"
        )
    first, leaf = listed[0]
    for label, other in listed:
        if not rank(other):
            raise ValueError(
                f"`{label}` has no rows. Expected (batch, ...), with an entry "
                f"for each row. Received: {arguments.told(other)}"
            )
        if None not in (leaf.shape[0], other.shape[0]) and (
            leaf.shape[0] != other.shape[0]
        ):
            raise ValueError(
                f"`{label}` must have the {leaf.shape[0]} rows of `{first}`. "
                f"Received: {other.shape[0]} rows, of shape {said(other)}"
            )


def class_table(table):
    """`class_weight` as a dict of numbers by class, or None."""
    if table is None:
        return None
    arguments.dictionary(
        table, "class_weight", "a dict of the weight of each class, or None"
    )
    return {
        arguments.integer(index, "class_weight", 0): arguments.number(
            weight, f"class_weight[{index}]", least=0
        )
        for index, weight in table.items()
    }


def tie(model, data, trains):
    """A batch whose lengths agree, or a step that fails where they do not.

    Inputs are looked at before anything runs on them, and then a subclass is
    asked which of its outputs have time.

    Args:
        model: The `SequenceModel`.
        data: Tensors (x, y, sample_weight).
        trains: Whether the method sees the batch.

    Returns:
        `data`; those of unknown length bound to a comparison at run time.

    Raises:
        ValueError: Known shapes do not agree.
    """
    x, y, sample_weight = data
    refuse_lists(x, y, sample_weight)
    label, steps, timed = inputs_of(model, x)
    timed = compared(model, timed)
    for each in timed:
        compare(each, label, steps)
    inputs, _, _ = masks.split(x)
    model.describe(inputs)
    if y is not None:
        judged = compared(model, judged_of(model, data, steps, trains))
        for each in judged:
            compare(each, label, steps)
        timed += judged
    tied = {
        id(each.leaf): bind(each, label, model.extent(inputs)[1])
        for each in timed
        if steps is None or each.leaf.shape[1] is None
    }
    if steps is None:
        place = (
            0 if model.is_opaque else model.graph.temporal_inputs.index(True)
        )
        first = keras.tree.flatten(inputs)[place]
        tied[id(first)] = with_a_step(first, label)
    return keras.tree.map_structure(lambda t: tied.get(id(t), t), data)


def judged_of(model, data, steps, trains, where=""):
    """What of targets and weights must have the steps of the window."""
    _, y, sample_weight = data
    timed = targets_of(model, y, steps, trains, where)
    timed += weights_of(model, sample_weight, steps, where)
    if model.judged_whole:
        whole_lengths.refuse_others(model, data, where)
    return timed


def compared(model, timed):
    """What must have the steps of the first input, of `timed`.

    Nothing of a model that runs whole, of several lengths perhaps.
    """
    return timed if model.network_uncut is None else []


def refuse_lists(x, y, sample_weight, where=""):
    """Refuses nested lists of numbers in place of arrays."""
    refuse_numbers(where + "x", x)
    refuse_numbers(where + "y", y)
    refuse_numbers(where + "sample_weight", sample_weight)


def need_targets(model, y):
    """Refuses a batch without targets where a loss needs them."""
    if y is not None or per_step.decides_itself(model):
        return
    if any(
        loss is not None
        for loss in keras.tree.flatten(getattr(model, "loss", None))
    ):
        raise ValueError(
            f"The loss {model.loss!r} needs targets. Expected `y`, or batches "
            "(x, y) or (x, y, sample_weight) of a dataset. Received: y=None"
        )


def note_length(method, steps):
    """Tells that no window is cut."""
    length = method.length
    if isinstance(length, int) and length > steps:
        warnings.warn(
            f"{method!r} cuts after every {length} steps, and the windows "
            f"have {steps}: none is cut, and the gradient is that of "
            "ksg.methods.BPTT(). Give it a shorter length, or the model longer "
            "windows.",
            stacklevel=5,
        )
