"""Where the sequence of each row ends: what lies behind is padding.

A masked step passes the state on and repeats the output before it. So what a
row has to say at the end of a padded window it has said after its last valid
step, and from there a method counts back.
"""

import dataclasses

import tensorflow as tf

from keras_seqgrad.layers.scan import scan
from keras_seqgrad.tensors import masks, pieces
from keras_seqgrad.tensors.shape import shape_of

# Steps that are run at once where nothing is learned from them: so many that a
# loop over them costs nothing beside them.
PIECE = 256


def valid_steps(window):
    """Steps that some recurrent layer takes, (batch, time), or None for all.

    The layers are asked on the window itself, their scans left out.
    """
    model = window.model
    if model.is_opaque or not model.graph.masks_steps:
        return window.mask
    found = []

    def listen(cell, sequences, state, *, mask, training, previous_output, **_):
        found.append(mask)
        first, last = scan(
            cell,
            tf.nest.map_structure(lambda t: t[:, :1], sequences),
            state,
            training=training,
            previous_output=previous_output,
        )
        steps = tf.nest.flatten(sequences)[0].shape[1]
        if steps is None:
            steps = window.steps
        return tf.repeat(first, steps, axis=1), last

    with window.draws_put_back():
        window.forward(window.whole(), window.state, scan=listen)
    if any(mask is None for mask in found):
        return None
    taken = tf.cast(found[0], "bool")
    for mask in found[1:]:
        taken |= tf.cast(mask, "bool")
    return taken


def lengths(valid):
    """Steps up to the last valid one, (batch,), at least 1; None for None."""
    if valid is None:
        return None
    steps = tf.range(1, shape_of(valid)[1] + 1)
    return tf.reduce_max(tf.where(valid, steps, 1), axis=1)


def before_ends(window, gates):
    """Gates that are 1 behind the last valid step of each row.

    Args:
        window: The window.
        gates: (time,) or (batch, time).

    Returns:
        The same, (batch, time) where rows end at different steps.
    """
    if window.lengths is None:
        return gates
    step = tf.range(window.steps)
    return tf.where(step < window.lengths[:, tf.newaxis], gates, 1.0)


def segment_of_rows(window, starts, length):
    """`length` steps of each row from a start of its own.

    Args:
        window: A window with one target per sequence.
        starts: Integers (batch,).
        length: Number of steps.
    """
    places = starts[:, tf.newaxis] + tf.range(length)

    def take(tensor):
        if tensor is None:
            return None
        taken = tf.gather(tensor, places, axis=1, batch_dims=1)
        mask = masks.read(tensor)
        return taken if mask is None else masks.attach(taken, take(mask))

    return dataclasses.replace(
        window.whole(),
        start=starts,
        length=length,
        inputs=window.model.map_temporal_inputs(take, window.inputs),
        mask=take(window.mask),
        reset=take(window.reset),
        first=starts == 0,
    )


def segment_before_rows(window, starts, steps):
    """The steps of each row before one of its own: a segment, masked.

    Args:
        window: The window.
        starts: Integers (batch,).
        steps: What none of them is above.
    """
    segment = window.segment(0, steps)
    before = tf.range(steps) < starts[:, tf.newaxis]
    segment.mask = masks.combine(segment.mask, before)
    if segment.reset is not None:
        segment.reset &= before
    return segment


def split_at_end(window, length):
    """The last `length` steps of all rows, and what is before them.

    Args:
        window: A window with one target per sequence.
        length: Number of steps, counted back from the last valid one.

    Returns:
        (segment before, or None where there is nothing, last segment).
    """
    steps = window.steps
    if isinstance(steps, int):
        if length >= steps:
            return None, window.whole()
    else:
        length = tf.minimum(steps, length)
    start = steps - length
    if window.lengths is None:
        return window.segment(0, start), window.segment(start, length)
    starts = tf.clip_by_value(window.lengths - length, 0, start)
    return (
        segment_before_rows(window, starts, start),
        segment_of_rows(window, starts, length),
    )


def run_before(window, before, length, step, carry):
    """Runs over the steps before those that are learned from.

    Piece by piece, so that memory does not grow with the window.

    Args:
        window: The window.
        before: The first segment of `split_at_end`.
        length: Steps that are learned from: a piece has as many at least.
        step: Function (segment, carry) -> carry.
        carry: Nested tensors.

    Returns:
        `carry` after the last piece.
    """
    size = pieces.dividing(before.length, max(length, PIECE), length)
    full, rest = pieces.divide(before.length, size)

    def body(index, carry):
        return step(_piece(window, before, index * size, size), carry)

    carry = pieces.repeat(full, body, carry, alone=True)
    if pieces.is_left(rest):
        carry = step(_piece(window, before, full * size, rest), carry)
    return carry


def _piece(window, segment, start, length):
    """Some steps of a segment that starts with the window."""
    mask, reset = (
        None if flags is None else pieces.steps(flags, start, length)
        for flags in (segment.mask, segment.reset)
    )
    return dataclasses.replace(
        segment,
        start=start,
        length=length,
        inputs=window.model.cut_inputs(segment.inputs, start, length),
        mask=mask,
        reset=reset,
        first=start == 0,
        last=False,
    )
