"""The two forms in which a linear recurrence runs, both ways in time.

A form takes `links(pick) -> link, added` and gives, with s the state,

    forward:  s = link_t · s + added_t, row_t = s       for t = 0, 1, …
    reverse:  row_t = s + added_t, s = link_t · row_t   from the last t on

`pick` takes from a series what a form wants: one step of it, or all. Where
`cuts`, a link of 0 stops whatever comes, infinity as well.
"""

from typing import NamedTuple

import tensorflow as tf

from keras_seqgrad.tensors.shape import shape_of

CHUNK = 16


class Rows(NamedTuple):
    """(time, batch, units), and the state after the last one."""

    series: tf.Tensor
    last: tf.Tensor


def is_constant(coefficients):
    """Whether coefficients are the same at all steps."""
    return coefficients.shape.rank == 1


def by_steps(links, start, extent, cuts, reverse=False, dtype=None):
    """One step after the other.

    Args:
        links: See above.
        start: (batch, units).
        extent: (steps, rows, units).
        cuts: See above.
        reverse: Whether to run from the last step to the first.
        dtype: In what the rows are kept, None for that of the state.
    """
    steps = extent[0]
    dtype = dtype or start.dtype
    rows = tf.TensorArray(dtype, size=steps, element_shape=start.shape)

    # XLA finds the number of turns of a loop that counts up, at any length.
    def body(turn, state, rows):
        time = steps - 1 - turn if reverse else turn

        def pick(series):
            return series if is_constant(series) else tf.gather(series, time)

        link, added = links(pick)
        if reverse:
            row = state + added
            state = times(row, link, cuts)
        else:
            row = state = times(state, link, cuts) + added
        rows = rows.write(time, tf.cast(row, dtype))
        return turn + 1, tf.ensure_shape(state, start.shape), rows

    _, last, rows = tf.while_loop(
        lambda turn, *_: turn < steps, body, (0, start, rows)
    )
    return Rows(rows.stack(), last)


def by_chunks(links, start, extent, cuts, reverse=False, dtype=None):
    """All steps at once, in a few passes; see `by_steps`."""
    link, added = links(lambda series: series)
    if not reverse:
        series = joined(link, added, start, extent, cuts)
        return Rows(tf.cast(series, dtype or start.dtype), series[-1])
    first = link if is_constant(link) else link[0]
    # From the end it is the same recurrence, on the link one step later.
    added = tf.concat([added[:-1], added[-1:] + start], axis=0)
    if not is_constant(link):
        link = tf.reverse(tf.concat([link[1:], link[:1]], 0), [0])
    added = tf.reverse(added, [0])
    series = joined(link, added, tf.zeros_like(start), extent, cuts)
    series = tf.reverse(series, [0])
    last = times(series[0], first, cuts)
    return Rows(tf.cast(series, dtype or start.dtype), last)


def joined(link, added, start, extent, cuts):
    """The series of states, from links and added of all steps.

    Within a chunk each step is joined with what lies 1, 2, 4, … before it:
    (l, a) after (l', a') is (l·l', l·a' + a). Then chunks are steps.
    """
    steps, rows, units = extent
    known = isinstance(steps, int)
    if known and steps <= CHUNK:
        chunks, size = 1, steps
    else:
        chunks, size = (steps + CHUNK - 1) // CHUNK, CHUNK

    def split(series):
        series = tf.pad(series, [[0, chunks * size - steps], [0, 0], [0, 0]])
        shape = [chunks, size, shape_of(series)[1], units]
        return tf.reshape(series, shape)

    added = split(added)
    constant = is_constant(link)
    if constant:
        link = tf.broadcast_to(link, [1, size, 1, units])
    else:
        link = split(tf.broadcast_to(link, [steps, rows, units]))
    reach = 1
    while reach < size:
        later = link[:, reach:]
        sums = added[:, reach:] + times(added[:, :-reach], later, cuts)
        products = later * link[:, :-reach]
        added = tf.concat([added[:, :reach], sums], axis=1)
        link = tf.concat([link[:, :reach], products], axis=1)
        reach *= 2
    before = start[tf.newaxis]
    if not (known and chunks == 1):
        whole = link[0, -1, 0] if constant else link[:, -1]
        ends = added[:, -1]
        if known:
            ends = joined(whole, ends, start, [chunks, rows, units], cuts)
        else:
            ends = _loop(whole, ends, start, [chunks, rows, units], cuts)
        before = tf.concat([before, ends[:-1]], axis=0)
    states = added + times(before[:, tf.newaxis], link, cuts)
    return tf.reshape(states, [chunks * size, rows, units])[:steps]


def _loop(link, added, start, extent, cuts):
    def links(pick):
        return pick(link), pick(added)

    return by_steps(links, start, extent, cuts).series


def times(tensor, link, cuts):
    """Their product."""
    if cuts:
        return tf.math.multiply_no_nan(tensor, link)
    return tensor * link
