"""The loops of the fast scans, forward and in reverse.

A scan is two functions. `step(row, state)` goes one step forward and returns
the new state and what its derivative needs; `pull(values, d_state)` goes the
same step back. `forward_scan` and `reverse_scan` drive them, and they alone
know masks, gates and resets. Everything in here is time-major.

Both loops count up from 0, from which XLA knows how often they turn: where it
does not, a GPU is asked after every turn whether there is another. One turn
takes several steps, see `steps_a_turn`. Padding behind the longest row is left
out where `stop` allows it: there the states only pass.
"""

import tensorflow as tf

from keras_seqgrad.ops.stop import steps_to_run
from keras_seqgrad.tensors import devices
from keras_seqgrad.tensors.shape import shape_of


def longest_turn():
    """The most steps that one turn of a loop takes.

    A turn by itself takes a GPU longer than a small step, and what several
    steps save is written at once. On a CPU four steps a turn are no faster
    than two, and take longer to compile.
    """
    return 2 if devices.only_cpus() else 4


def steps_a_turn(steps):
    """How many steps one turn of a loop takes, a divisor of `steps`.

    None, an unknown number, takes one.
    """
    if steps is None:
        return 1
    return next(n for n in range(longest_turn(), 0, -1) if steps % n == 0)


def empty_series(like, steps, turn, width):
    """What the loops write a series (steps, batch, width) into.

    Args:
        like: A tensor (..., batch, features) of the same batch and dtype.
        steps: Number of steps, or a tensor.
        turn: Steps of one turn of the loop, a divisor of it.
        width: The last axis.
    """
    return tf.TensorArray(
        like.dtype, steps // turn, element_shape=[turn, like.shape[-2], width]
    )


def joined(array):
    """The series (time, batch, width) that a loop wrote."""
    stacked = array.stack()
    turns, turn, batch, width = stacked.shape
    if turn == 1:
        return tf.squeeze(stacked, 1)
    shape = [turns * turn, -1 if batch is None else batch, width]
    return tf.reshape(stacked, shape)


def forward_scan(step, rows, state, links, reset_state, saved, first=0):
    """Runs `step` over time.

    Args:
        step: `step(row, state) -> state, values`, where `values` are the
            tensors (batch, width) that the reverse scan needs. The first
            tensor of the state is the output.
        rows: (time, batch, features).
        state: List of (batch, units).
        links: `Links` of these steps.
        reset_state: List like `state`, used where `links.reset` is True.
        saved: An `empty_series` for each of `values`.
        first: Turn of `saved` that is the first of these.

    Returns:
        Outputs (time, batch, units), the last state, and `saved`.
    """
    turn, turns, live = _turns(rows, links)
    series = [_by_turn(each, turn) for each in (rows, links.mask, links.reset)]
    outputs = empty_series(rows, turns * turn, turn, state[0].shape[-1])

    def body(index, state, outputs, saved):
        kept = []
        for row, taken, replaced in _steps_of(turn, index, series):
            if replaced is not None:
                state = choose(replaced, reset_state, state)
            new_state, values = step(row, state)
            if taken is not None:
                new_state = choose(taken, new_state, state)
            state = new_state
            kept.append([state[0], *values])
        output, *values = map(tf.stack, zip(*kept, strict=True))
        outputs = outputs.write(index, output)
        return index + 1, state, outputs, write(saved, first + index, values)

    _, state, outputs, saved = tf.while_loop(
        lambda index, *_: index < live,
        body,
        (0, state, outputs, saved),
    )
    if live is not turns:
        repeated = tf.stack([state[0]] * turn)
        nothing = [_zeros_for(array, repeated) for array in saved]

        def pass_on(index, outputs, saved):
            outputs = outputs.write(index, repeated)
            return index + 1, outputs, write(saved, first + index, nothing)

        _, outputs, saved = tf.while_loop(
            lambda index, *_: index < turns, pass_on, (live, outputs, saved)
        )
    return joined(outputs), state, saved


def reverse_scan(
    pull, given, d_outputs, d_state, buffers, links, d_twin=(), kept=(), first=0
):
    """Runs `pull` over time from the last step to the first.

    The gradient of the results' twins goes back beside that of the results,
    stacked with it: both share one product a step, which takes far less time
    than two.

    Args:
        pull: `pull(values, d_state) -> d_rows, d_previous_state`: from what
            is known of a step and the gradient of its new state, the
            gradients of its rows and of the state it started from. The
            gradients are (batch, units), or (2, batch, units) with a twin.
        given: Series (time, batch, width): the first of `values`.
        d_outputs: (time, batch, units).
        d_state: Gradient of the last state, a list of (batch, units).
        buffers: Series (time, batch, width) of the shapes of `d_rows`, not
            needed any more: XLA writes `d_rows` over them, which spares
            clearing as much fresh memory.
        links: `Links` of these steps.
        d_twin: [d_outputs, *d_state] of the twins; empty without.
        kept: Series like `given`, of more steps: the last of `values`.
        first: Turn of `kept` that is the first of these.

    Returns:
        List of series `d_rows`, the gradient of the first state, that of the
        reset state (empty without resets), and for the twins (series `d_rows`,
        gradient of the first state), both empty without.
    """
    turn, turns, live = _turns(d_outputs, links)
    rows = [_over(buffer, turns, turn) for buffer in buffers]
    d_reset = []
    if links.reset is not None:
        d_reset = [tf.zeros_like(tensor) for tensor in d_state]
    if d_twin:
        pairs = zip(d_state, d_twin[1:], strict=True)
        d_state = [tf.stack(pair) for pair in pairs]
        rows += [
            empty_series(buffer, turns * turn, turn, buffer.shape[-1])
            for buffer in buffers
        ]
    series = [d_outputs, d_twin[0] if d_twin else None, *links, *given]
    series = [_by_turn(each, turn) for each in series]
    kept = [_by_turn(each, turn) for each in kept]
    pull = _through_links(pull, bool(d_twin))
    if live is not turns:
        nothing = [_zeros_for(array, d_outputs) for array in rows]

        def pass_on(index, d_state, rows):
            at = turns - 1 - index
            for known in reversed(_steps_of(turn, at, series)):
                d_state = _gated(_with_output(d_state, known), known)
            return index + 1, d_state, write(rows, at, nothing)

        _, d_state, rows = tf.while_loop(
            lambda index, *_: index < turns - live,
            pass_on,
            (0, d_state, rows),
        )

    def body(index, d_state, d_reset, rows):
        at, found = turns - 1 - index, []
        steps = zip(
            _steps_of(turn, at, series),
            _steps_of(turn, first + at, kept),
            strict=True,
        )
        for known, values in reversed([*steps]):
            d_rows, d_state, d_reset = pull([*known, *values], d_state, d_reset)
            found.insert(0, d_rows)
        d_rows = map(tf.stack, zip(*found, strict=True))
        return index + 1, d_state, d_reset, write(rows, at, d_rows)

    _, d_state, d_reset, rows = tf.while_loop(
        lambda index, *_: index < turns,
        body,
        (0 if live is turns else turns - live, d_state, d_reset, rows),
    )
    rows = [joined(array) for array in rows]
    rows, twin_rows = rows[: len(buffers)], rows[len(buffers) :]
    twin_state = []
    if d_twin:
        pairs = [tf.unstack(tensor) for tensor in d_state]
        d_state, twin_state = map(list, zip(*pairs, strict=True))
    return rows, d_state, d_reset, (twin_rows, twin_state)


def _through_links(pull, twins):
    """`pull` with masks, resets and gates."""

    def linked(known, d_state, d_reset):
        _, _, valid, _, replaced, *values = known
        d_state = _with_output(d_state, known)
        zero = tf.constant(0, d_state[0].dtype)
        d_rows, d_previous = pull(values, d_state)
        if valid is not None:
            d_previous = choose(valid, d_previous, d_state)
            d_rows = choose(valid, d_rows, [zero] * len(d_rows))
        if replaced is not None:
            nothing = [zero] * len(d_state)
            caught = choose(replaced, d_previous, nothing)
            if twins:
                caught = [tensor[0] for tensor in caught]
            d_reset = [
                total + part
                for total, part in zip(d_reset, caught, strict=True)
            ]
            d_previous = choose(replaced, nothing, d_previous)
        if twins:
            d_rows = [row[which] for which in (0, 1) for row in d_rows]
        return d_rows, _gated(d_previous, known), d_reset

    return linked


def _with_output(d_state, known):
    """The gradient of a step's new state, that of its output with it."""
    d_output, d_twin, *_ = known
    if d_twin is not None:
        d_output = tf.stack([d_output, d_twin])
    return [d_state[0] + d_output, *d_state[1:]]


def _gated(d_previous, known):
    """What crosses the gate between a step and the state before it."""
    _, _, _, gate, *_ = known
    if gate is None:
        return d_previous
    # A cut link stays cut when the gradient behind it has exploded.
    return [tf.math.multiply_no_nan(tensor, gate) for tensor in d_previous]


def choose(condition, chosen, other):
    """Tensors of `chosen` where the condition holds, else of `other`."""
    return [
        tf.where(condition, tensor, alternative)
        for tensor, alternative in zip(chosen, other, strict=True)
    ]


def _turns(series, links):
    """Steps of a turn, turns over a series, and how many of them must run."""
    turn = steps_a_turn(series.shape[0])
    steps = shape_of(series)[0]
    turns = steps // turn
    live = steps_to_run(steps, links.mask, links.reset)
    return turn, turns, turns if live is steps else -(-live // turn)


def _zeros_for(array, like):
    """Zeros to be written in an array, of as many rows as `like`."""
    turn, _, width = array.element_shape
    shape = [turn, shape_of(like)[-2], width]
    return tf.ensure_shape(tf.zeros(shape, array.dtype), array.element_shape)


def _by_turn(series, turn):
    """(time, batch, width) to (turns, steps of a turn, batch, width)."""
    if series is None:
        return None
    if turn == 1:
        return tf.expand_dims(series, 1)
    steps, batch, width = series.shape
    batch = -1 if batch is None else batch
    return tf.reshape(series, [steps // turn, turn, batch, width])


def _steps_of(turn, index, series):
    """For each step of a turn what `series` hold of it; None stays None."""
    parts = [
        [None] * turn if each is None else tf.unstack(tf.gather(each, index))
        for each in series
    ]
    return [[part[step] for part in parts] for step in range(turn)]


def _over(buffer, turns, turn):
    """A series to be written over `buffer`."""
    grouped = _by_turn(buffer, turn)
    return tf.TensorArray(
        buffer.dtype, turns, element_shape=grouped.shape[1:]
    ).unstack(grouped)


def write(arrays, index, tensors):
    """`arrays` with what one turn of a loop made."""
    return [
        array.write(index, tensor)
        for array, tensor in zip(arrays, tensors, strict=True)
    ]
