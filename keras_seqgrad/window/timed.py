"""What must have the steps of a window: comparing lengths, and naming them.

Only shapes are asked for: of arrays, of tensors or of their specifications.
"""

import dataclasses
import re
from typing import Any

import keras
import numpy as np
import tensorflow as tf

RAGGED = (tf.RaggedTensor, tf.RaggedTensorSpec)


@dataclasses.dataclass
class Timed:
    """Something that must have the steps of the window.

    Attributes:
        label: How the user wrote it.
        leaf: Array, tensor or specification.
        advice: What was expected of it.
        may_be_one: Whether a single step stands for all.
    """

    label: str
    leaf: Any
    advice: str
    may_be_one: bool = False


def compare(timed, label, steps):
    """Refuses another number of steps than that of the first input."""
    length = timed.leaf.shape[1] if rank(timed.leaf) > 1 else 0
    if None in (length, steps) or length == steps:
        return
    if not (timed.may_be_one and length == 1):
        raise ValueError(
            f"`{timed.label}` has {length} time steps, `{label}` has {steps}. "
            f"{timed.advice} Received: {said(timed.leaf)}"
        )


def bind(timed, label, steps):
    """A tensor that exists only if it has as many steps as the window."""
    length = tf.shape(timed.leaf)[1]
    if timed.may_be_one:
        steps = tf.where(length == 1, length, steps)
    text = (
        f"`{timed.label}` and `{label}` differ in time steps, x and y below. "
        f"{timed.advice}"
    )
    compared = [tf.debugging.assert_equal(length, steps, message=text)]
    # XLA leaves assertions out. It compiles for known lengths, and fails here
    # where they differ, by an error with both of them and this name.
    with tf.control_dependencies([c for c in compared if c is not None]):
        name = f"time_steps_of_{timed.label}_are_not_those_of_{label}"
        name = re.sub("[^A-Za-z0-9]+", "_", name)
        compared = tf.reshape(tf.range(length), [steps], name=name)
    with tf.control_dependencies([compared]):
        return tf.identity(timed.leaf)


def with_a_step(leaf, label):
    """A tensor that exists only if its window has a step.

    Of none the loss would be a sum of nothing, 0.
    """
    length = tf.shape(leaf)[1]
    text = (
        f"`{label}` has no time steps. Expected (batch, time, ...) with a time "
        "of 1 or more."
    )
    found = [tf.debugging.assert_positive(length, message=text)]
    # XLA leaves assertions out, see `bind`.
    with tf.control_dependencies([one for one in found if one is not None]):
        name = re.sub("[^A-Za-z0-9]+", "_", f"no_time_steps_in_{label}")
        found = tf.reshape(tf.range(1), [tf.minimum(length, 1)], name=name)
    with tf.control_dependencies([found]):
        return tf.identity(leaf)


def refuse_ragged(label, leaf):
    """Refuses sequences of different lengths in one batch."""
    ragged = isinstance(leaf, RAGGED)
    if isinstance(leaf, np.ndarray) and leaf.dtype == object and leaf.size:
        first = leaf.flat[0]
        ragged = hasattr(first, "__len__") and not isinstance(
            first, (str, bytes)
        )
    if ragged:
        raise ValueError(
            f"`{label}` is ragged: its rows have different lengths. Expected "
            "rows of one length in a batch. Pad and mask: give "
            '{"inputs": x.to_tensor(), "mask": tf.sequence_mask('
            "x.row_lengths())}, and targets padded alike. To pad little, put "
            "rows of similar length into one batch: "
            "tf.data.Dataset.bucket_by_sequence_length (see docs/data.md)."
        )


def refuse_numbers(name, structure):
    """Refuses nested lists of numbers, in which each number is an input."""
    kinds = (bool, int, float, complex, str, bytes)
    if any(isinstance(leaf, kinds) for leaf in keras.tree.flatten(structure)):
        raise ValueError(
            f"`{name}` is made of Python numbers or words. Expected arrays or "
            f"tensors, received {type(structure).__name__}. Write "
            f"np.asarray({name}), or that of each input or output."
        )


def named(name, structure):
    """(label, leaf) of each leaf, as the user would write it."""
    if structure is None:
        return []
    return [
        (name + "".join(f"[{part!r}]" for part in path), leaf)
        for path, leaf in keras.tree.flatten_with_path(structure)
    ]


def rank(leaf):
    """Number of axes; None where it is not known."""
    shape = getattr(leaf, "shape", None)
    known = getattr(shape, "rank", 0) is not None and shape is not None
    return len(shape) if known else None


def said(leaf):
    """The shape of a leaf."""
    return tuple(leaf.shape)


def wanted(steps, sizes):
    """The shape of something with a time axis, `sizes` those behind it."""
    return f"({', '.join(map(str, ['batch', steps or 'time', *sizes]))})"
