"""The loops over the segments of a window."""

from keras_seqgrad.tensors import pieces
from keras_seqgrad.tensors.shape import shape_of
from keras_seqgrad.window.books import Books
from keras_seqgrad.window.trail import PiecesTrail, Trail


def each_segment(window, length, step, state):
    """Runs `step` on one segment after another.

    Args:
        window: The `Window`.
        length: Steps per segment; the last one may be shorter.
        step: Function (segment, state) -> (outputs, state).
        state: State before the first segment.

    Returns:
        State after the last segment.
    """
    window.look_for_ends()
    full, rest = pieces.divide(window.steps, length)

    def body(index, state):
        return step(window.segment(index * length, length), state)[1]

    state = pieces.repeat(full, body, state)
    if pieces.is_left(rest):
        state = step(window.segment(full * length, rest), state)[1]
    return state


def each_segment_recorded(window, length, step, state, at_end=False):
    """`each_segment` that enters loss and outputs in the logs.

    With parameters that stay where they are the logs are those of `evaluate`.

    Args:
        window: As for `each_segment`.
        length: See there.
        step: Function (segment, state) -> (outputs, state, loss), the model's
            loss of the segment.
        state: State before the first segment.
        at_end: What `Window.loss` was given for that loss.

    Returns:
        State after the last segment.
    """
    learner = window.learner
    if isinstance(window.steps, int) and window.steps <= length:
        outputs, state, loss = step(window.whole(), state)
        learner.record_window(outputs, loss)
        return state
    books = Books(window, at_end)

    def booked(segment, carry):
        state, entries = carry
        outputs, state, loss = step(segment, state)
        return outputs, (state, books.enter(entries, segment, outputs, loss))

    carry = state, books.start()
    if not books.together:
        state, entries = each_segment(window, length, booked, carry)
        books.close(entries)
        return state
    (state, entries), outputs, _ = each_segment_kept(
        window, length, booked, carry
    )
    books.close(entries, outputs)
    return state


def each_piece_recorded(window, bounds, step, state):
    """`each_segment_recorded` for pieces of any length; no XLA program.

    Args:
        window: The `Window`; all outputs have a target at every step.
        bounds: Where the pieces start, and the end of the last, (pieces + 1,).
        step: As for `each_segment_recorded`.
        state: State before the first piece.

    Returns:
        State after the last piece.
    """
    count = shape_of(bounds)[0] - 1
    books = Books(window)
    specs = window.model.output_specs if books.together else []
    trail = PiecesTrail(specs, count)

    def body(index, carry):
        state, entries, arrays = carry
        start, end = bounds[index], bounds[index + 1]
        segment = window.segment(start, end - start)
        outputs, state, loss = step(segment, state)
        entries = books.enter(entries, segment, outputs, loss)
        if books.together:
            arrays = trail.write(arrays, index, outputs)
        return state, entries, arrays

    carry = state, books.start(), trail.arrays
    state, entries, arrays = pieces.repeat(count, body, carry)
    books.close(entries, trail.outputs(arrays) if books.together else None)
    return state


def each_segment_kept(
    window, length, step, state, beside=list, keep_outputs=True
):
    """`each_segment` that leaves a trail.

    Args:
        window: As for `each_segment`; so are `length`, `step` and `state`.
        length: See there.
        step: See there.
        state: See there.
        beside: Function () -> list of tensors to keep from before each
            segment beside the state.
        keep_outputs: False for a `step` without outputs, [].

    Returns:
        (state after the last segment, outputs of the window, `Trail`).
    """
    window.look_for_ends()
    full, rest = pieces.divide(window.steps, length)
    specs = window.model.made_specs if keep_outputs else []
    temporal = window.model.temporal_made if keep_outputs else []
    rows = window.batch_size
    trail = Trail(
        temporal,
        [
            ([rows, length, *spec.shape[2:]], spec.dtype)
            if has_time
            else ([rows, *spec.shape[1:]], spec.dtype)
            for spec, has_time in zip(specs, temporal, strict=True)
        ],
        (state, beside()),
        full,
    )
    structure = None

    def body(index, carry):
        nonlocal structure
        state, arrays = carry
        before = (state, beside())
        segment = window.segment(index * length, length)
        structure, state = step(segment, state)
        return state, trail.write(arrays, index, before, structure)

    state, arrays = pieces.repeat(full, body, (state, trail.arrays))
    trail.keep(arrays)
    trail.before_rest = (state, beside())
    if pieces.is_left(rest):
        segment = window.segment(full * length, rest)
        structure, state = step(segment, state)
        trail.rest = structure
    return state, trail.outputs(structure), trail


def each_segment_back(window, length, step, carry, trail):
    """Goes back over the segments of `each_segment_kept`, last one first.

    Args:
        window: The `Window`.
        length: Steps per segment, as there.
        step: Function (segment, what the trail kept from before it, carry) ->
            carry.
        carry: Nested tensors.
        trail: The `Trail`.

    Returns:
        `carry` after the first segment.
    """
    full, rest = pieces.divide(window.steps, length)
    if pieces.is_left(rest):
        last = window.segment(full * length, rest)
        carry = step(last, trail.before_rest, carry)

    def body(index, carry):
        segment = window.segment(index * length, length)
        return step(segment, trail.before(index), carry)

    return pieces.repeat(full, body, carry, backwards=True)
