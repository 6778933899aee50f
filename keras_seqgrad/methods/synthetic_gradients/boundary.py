"""What is known at a boundary: which rows cross it, and what comes next."""

import dataclasses

import keras
import tensorflow as tf

from keras_seqgrad.state.vector import differentiable, join
from keras_seqgrad.tensors import masks, pieces


@dataclasses.dataclass
class Boundary:
    """Where one segment ends and another begins.

    Attributes:
        reading: What a synthesiser reads there, by name.
        rows: Boolean (batch,): rows whose sequence goes on over it.
    """

    reading: dict
    rows: tf.Tensor


def needs_next(names, next_state):
    """Whether a reading contains what the step after the boundary brings."""
    return next_state or len(names) > 1


def look(window, start, state, names=(), next_state=False):
    """The boundary before a step of a window, or at the window's end.

    Args:
        window: The window.
        start: The step; the number of steps for the end.
        state: State at the boundary.
        names: What to read beside "state": "input", "target" of step `start`.
        next_state: Whether to read the state after step `start` instead.

    Returns:
        The `Boundary`. At the end of a window that another one continues rows
        cross only if nothing of that other window is to be read.
    """
    end = window.steps
    inside = start < end
    at = tf.minimum(start, end - 1)
    rows = tf.fill([window.batch_size], True)
    if window.reset is not None:
        rows &= ~pieces.steps(window.reset, at, 1)[:, 0]
    if window.fresh is True:  # every window is a whole sequence
        rows &= tf.logical_and(start > 0, inside)
        if window.lengths is not None:
            rows &= window.lengths > at
    else:
        rows &= ~tf.logical_and(window.fresh, start == 0)
        # What the next window begins with is not known yet.
        rows |= tf.logical_not(inside)
        if needs_next(names, next_state):
            rows &= inside
    if next_state:
        state = window.peek(at, state)
    reading = {"state": tf.stop_gradient(join(differentiable(state)))}
    for name in set(names) - {"state"}:
        step = window.segment(at, 1)
        read = step.inputs if name == "input" else step.y
        reading[name] = keras.tree.map_structure(_of_step, read)
    return Boundary(reading, rows)


def _of_step(tensor):
    """What a synthesiser reads of a step; a missing target is 0 to it."""
    found = tensor[:, 0]
    if not found.dtype.is_floating:
        return found
    return tf.where(masks.computable(found), found, tf.zeros_like(found))
