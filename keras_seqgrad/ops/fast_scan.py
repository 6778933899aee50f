"""Runs a described cell over time, with a backward pass written by hand.

The inputs of many steps are multiplied in one product before their loop, and
gradients of the weights are single products over these steps after it. A step
saves what its derivative needs that costs more than a few multiplications.

A long sequence is gone through in pieces, forward and back. The products with
the kernels and their gradients, larger than anything that is saved, are then
never there for more than one piece.
"""

import dataclasses

import tensorflow as tf

from keras_seqgrad.ops import common, loops
from keras_seqgrad.ops.arguments import Links, prepare
from keras_seqgrad.ops.cut import Cut, split_steps
from keras_seqgrad.ops.recurrence import Recurrence
from keras_seqgrad.tensors.shape import shape_of


def fast_scan(cell, inputs, state, weights, links, twin=None):
    """What the public function of a fast cell does.

    Args:
        cell: `FastCell`.
        inputs: (batch, time, features).
        state: List of (batch, units).
        weights: kernel, recurrent_kernel, bias.
        links: mask, gates, reset, reset_state.
        twin: [inputs, *state] once more, or None.

    Returns:
        Outputs (batch, time, units) and the last state; followed by their
        twins if there are any.
    """
    given = prepare(cell, inputs, state, weights, links, twin)
    ahead, count, length = split_steps(given.inputs.shape[1])
    if not ahead:
        return _results(_run(cell, given, Cut(count, length)), given)
    first = _run(cell, _part(given, slice(ahead)), Cut(1, ahead))
    size = 1 + len(given.state)
    later = _part(given, slice(ahead, None))
    later = dataclasses.replace(
        later, state=first[1:size], twin=[*later.twin[:1], *first[size + 1 :]]
    )
    found = _run(cell, later, Cut(count, length))
    for place in range(0, len(found), size):
        parts = first[place], found[place]
        found[place] = tf.concat(parts, axis=1)
    return _results(found, given)


def _results(found, given):
    size, results = 1 + len(given.state), []
    for start in range(0, len(found), size):
        outputs, *last = found[start : start + size]
        results += [outputs, last]
    return tuple(results)


def _part(given, steps):
    """`given` for some of the steps."""
    links = [None if each is None else each[steps] for each in given.links]
    return dataclasses.replace(
        given,
        inputs=given.inputs[:, steps],
        twin=[tensor[:, steps] for tensor in given.twin[:1]] + given.twin[1:],
        links=Links(*links),
    )


def _run(cell, given, cut):
    """[outputs, *last state], twice with a twin."""

    @common.first_derivative
    def run(inputs, twin, state, weights, reset_state):
        recurrence = Recurrence(cell, weights, reset_state)
        results, back = _forward(recurrence, inputs, state, given.links, cut)

        def gradient(*cotangents):
            size = 1 + len(state)
            return back(list(cotangents[:size]), list(cotangents[size:]))

        return results * (2 if twin else 1), gradient

    return list(
        run(
            given.inputs,
            given.twin,
            given.state,
            given.weights,
            given.reset_state,
        )
    )


def _forward(recurrence, inputs, state, links, cut):
    """([outputs, *last state], the way back) of a sequence cut in pieces."""
    cell, count = recurrence.cell, cut.count
    steps = cut.length or shape_of(inputs)[1]
    turn = loops.steps_a_turn(cut.length)
    turns = steps // turn
    saved = [
        loops.empty_series(state[0], count * steps, turn, width)
        for width in recurrence.widths(cell.saved)
    ]
    rows = None

    def forward(index, carry):
        nonlocal rows
        state, starts, outputs, saved = carry
        here = cut.links(links, index)
        piece = recurrence.counted(cut.read(inputs, index), here)
        rows = common.project(piece, recurrence.to_rows)
        starts = starts.write(index, state[0])
        output, state, saved = recurrence.forward(
            rows, state, here, saved, index * turns
        )
        return state, starts, cut.write(outputs, index, output), saved

    starts = tf.TensorArray(inputs.dtype, count, element_shape=state[0].shape)
    carry = state, starts, cut.array(inputs, recurrence.units), saved
    last, starts, outputs, saved = cut.loop(forward, carry)
    outputs, starts = cut.joined(outputs), starts.stack()
    kept = cut.kept(outputs)
    saved = [loops.joined(array) for array in saved]

    def back(cotangents, twins):
        ways = [cotangents, twins] if twins else [cotangents]

        def reverse(index, carry):
            states, total, buffers, arrays = carry
            index = count - 1 - index
            here = cut.links(links, index)
            gradients = [cut.read(way[0], index) for way in ways]
            found = recurrence.back(
                recurrence.counted(cut.read(inputs, index), here),
                tf.gather(starts, index),
                cut.read(kept, index),
                here,
                (saved, index * turns),
                (gradients, states),
                buffers,
            )
            d_inputs, states, parts, buffers = found
            arrays = [
                cut.write(array, index, piece)
                for array, piece in zip(arrays, d_inputs, strict=True)
            ]
            return states, _added(total, parts), buffers, arrays

        carry = (
            [way[1:] for way in ways],
            recurrence.nothing() if count > 1 else None,
            _buffers(recurrence, inputs, rows, steps, count),
            [cut.array(inputs, inputs.shape[-1]) for _ in ways],
        )
        states, total, _, arrays = cut.loop(reverse, carry)
        d_inputs = [cut.joined(array) for array in arrays]
        d_weights, d_reset = recurrence.sums(total)
        twin = [*d_inputs[1:], *[t for each in states[1:] for t in each]]
        return [d_inputs[0], *twin, *states[0], *d_weights, *d_reset]

    return [outputs, *last], back


def _buffers(recurrence, inputs, rows, steps, count):
    """What gradients inside the steps of a piece are written over."""
    widths = recurrence.widths(recurrence.cell.inner)
    batch = shape_of(inputs)[0]
    made = [
        tf.ensure_shape(
            tf.zeros([steps, batch, width], inputs.dtype),
            [rows.shape[0], inputs.shape[0], width],
        )
        for width in widths
    ]
    if count == 1 and rows.shape[-1] == widths[0]:
        # The products with the kernel, not needed any more.
        made[0] = rows
    return made


def _added(total, parts):
    if total is None:
        return parts
    return tf.nest.map_structure(
        lambda one, part: one + tf.cast(part, one.dtype), total, parts
    )
