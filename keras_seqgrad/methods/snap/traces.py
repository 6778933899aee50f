"""Traces: how each weight has moved its unit's state, row by row.

With s_i the states of unit i, S of them, D_t[i] (S, S) their derivative by the
states before, and I_t[w] (S,) that by weight w of this unit,

    J_t[w] = D_t[i] J_{t-1}[w] + I_t[w]

Since I_t[w] of the weight (j, i) is source_t[j] times a number of row i, a
segment of T steps needs one product for each weight:

    P_t = D_T ... D_{t+1}
    J_T = P_0 J_0 + sum over t of source_t^T (P_t I_t)

All else is element-wise. A masked step has D = 1 and I = 0; at a reset D = 0.
"""

import tensorflow as tf

from keras_seqgrad.methods.snap.cells import in_blocks, row_value, rule_of
from keras_seqgrad.methods.snap.visits import states_before
from keras_seqgrad.tensors import pieces
from keras_seqgrad.tensors.shape import shape_of


def derivatives(rule, visit, self_recurrence, traced):
    """What a step does to a unit's states.

    Args:
        rule: The rule of the cell.
        visit: The `Visit`.
        self_recurrence: Whether a unit's state counts in the rows that it is
            multiplied into.
        traced: Places of the states that have traces.

    Returns:
        (sources, by_state, by_row): for each row the list of its summands'
        (time, batch, ...) or None; the derivative of new state r by state s,
        of those traced, `by_state[r][s]` (time, batch, units), and by row k,
        `by_row[r][k]` (time, batch, width).
    """
    rows, step = rule
    states = states_before(rule, visit)
    values = [row_value(row, visit.inputs, states) for row in rows]
    with tf.GradientTape(
        persistent=True, watch_accessed_variables=False
    ) as tape:
        tape.watch([values, states])
        made = step(visit.inputs, values, states)
    zero = tf.zeros((), visit.inputs.dtype)
    by_state, by_row = [], []
    for r, place in enumerate(traced):
        found, d_values = tape.gradient(
            made[place],
            ([states[other] for other in traced], values),
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        if self_recurrence:
            for row, d_value in zip(rows, d_values, strict=True):
                for source, weight in row:
                    if source in traced:
                        s = traced.index(source)
                        found[s] += through_itself(d_value, weight)
        for s, tensor in enumerate(found):
            if visit.links.mask is not None:
                same = tf.ones_like(zero) if r == s else zero
                tensor = tf.where(visit.links.mask, tensor, same)
            if visit.links.reset is not None:
                tensor = tf.where(visit.links.reset, zero, tensor)
            found[s] = tensor
        if visit.links.mask is not None:
            d_values = [tf.where(visit.links.mask, d, zero) for d in d_values]
        by_state.append(found)
        by_row.append(d_values)
    sources = [
        [source_of(source, visit, states) for source, _ in row] for row in rows
    ]
    return sources, by_state, by_row


def source_of(source, visit, states):
    """What a weight is multiplied by, (time, batch, ...), or None."""
    if source is None:
        return None
    return visit.inputs if source == "inputs" else states[source]


def through_itself(d_value, weight):
    """A row's derivative by the state of its own unit."""
    weight = tf.cast(weight, d_value.dtype)
    if weight.shape.rank == 3:
        return d_value * tf.reshape(tf.linalg.diag_part(weight), [-1])
    units = weight.shape[0]
    blocks = weight.shape[1] // units
    square = tf.transpose(tf.reshape(weight, [units, blocks, units]), [1, 0, 2])
    diagonal = tf.reshape(tf.linalg.diag_part(square), [-1])
    shape = [*shape_of(d_value)[:2], blocks, units]
    product = tf.reshape(d_value * diagonal, shape)
    return tf.reduce_sum(product, axis=2)


def products_behind(by_state):
    """P_t, the product of all derivatives after step t, and that of all.

    Args:
        by_state: As of `derivatives`.

    Returns:
        (series, whole): by the state at the end, and that after step t, each
        (time, batch, units); the same without time for all steps.
    """
    size = range(len(by_state))
    first = by_state[0][0]
    steps = shape_of(first)[0]
    one = tf.ones_like(first[0])
    start = [
        [one if e == s else tf.zeros_like(one) for s in size] for e in size
    ]
    arrays = [[tf.TensorArray(one.dtype, steps) for _ in size] for _ in size]

    def body(time, carry):
        product, arrays = carry
        arrays = [
            [arrays[e][s].write(time, product[e][s]) for s in size]
            for e in size
        ]
        here = [[by_state[r][s][time] for s in size] for r in size]
        product = [
            [tf.add_n([product[e][r] * here[r][s] for r in size]) for s in size]
            for e in size
        ]
        return product, arrays

    whole, arrays = pieces.repeat(steps, body, (start, arrays), backwards=True)
    return [[array.stack() for array in row] for row in arrays], whole


def spread(tensor, width):
    """(..., units) once for each block of a row of `width`."""
    blocks = width // tensor.shape[-1]
    # Tiled within a product, XLA on a CPU finds each place by a division.
    return tf.concat([tensor] * blocks, axis=-1)


def advance(visit, traces, self_recurrence):
    """The traces of a layer after a segment.

    Args:
        visit: The layer's `Visit`, with the weights that it has run with.
        traces: For each summand of each row a dict with a trace (batch,
            *shape of the weight) by the place of each state that weights
            move; {} where it has none.
        self_recurrence: See `derivatives`.
    """
    traced = sorted({s for row in traces for trace in row for s in trace})
    if not traced:
        return traces
    rule = rule_of(visit.cell)
    sources, by_state, by_row = derivatives(
        rule, visit, self_recurrence, traced
    )
    series, whole = products_behind(by_state)
    size = range(len(by_state))
    new = []
    for k, (row, old) in enumerate(zip(sources, traces, strict=True)):
        width = by_row[0][k].shape[-1]
        # What row k at step t has moved in the state at the end.
        moved = [
            tf.add_n([spread(series[e][s], width) * by_row[s][k] for s in size])
            for e in size
        ]
        new.append(
            [
                {
                    traced[e]: tf.add_n(
                        [kept(trace[traced[s]], whole[e][s]) for s in size]
                    )
                    + brought(source, moved[e], trace[traced[e]])
                    for e in size
                    if trace
                }
                for source, trace in zip(row, old, strict=True)
            ]
        )
    return new


def kept(trace, product):
    """What is left of a trace; nothing of an infinite one behind a reset."""
    return tf.math.multiply_no_nan(trace, over(product, trace))


def over(tensor, trace):
    """(batch, units) laid over a trace of these units."""
    if trace.shape.rank == 4:
        return tf.reshape(tensor, [-1, trace.shape[1], 1, trace.shape[3]])
    tensor = spread(tensor, trace.shape[-1])
    return tensor if trace.shape.rank == 2 else tensor[:, tf.newaxis]


def brought(source, moved, trace):
    """What a segment adds to a trace: one product for all steps."""
    if source is None:
        return tf.reduce_sum(moved, axis=0)
    if trace.shape.rank == 4:
        parts = in_blocks(source, trace), in_blocks(moved, trace)
        return tf.einsum("tbhi,tbho->bhio", *parts)
    return tf.einsum("tbi,tbo->bio", source, moved)


def pulled(traces, d_state):
    """Gradient that traces bring back from the state before a segment.

    Args:
        traces: As of `advance`.
        d_state: Gradient of the loss by the layer's state, a list of (batch,
            units).

    Returns:
        By row and summand a tensor like the weight, 0.0 where it has no trace.
    """

    def pull(trace):
        total = 0.0
        for place, each in trace.items():
            d = over(tf.cast(d_state[place], each.dtype), each)
            # Faster than as a product: it reads each number once.
            total += tf.reduce_sum(d * each, axis=0)
        return total

    return [[pull(trace) for trace in row] for row in traces]
