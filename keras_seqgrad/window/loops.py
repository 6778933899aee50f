"""The loops over the segments of a window."""

from keras_seqgrad.tensors import pieces
from keras_seqgrad.window.trail import Trail


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
    full, rest = pieces.divide(window.steps, length)

    def body(index, state):
        return step(window.segment(index * length, length), state)[1]

    state = pieces.repeat(full, body, state)
    if not isinstance(rest, int) or rest:
        state = step(window.segment(full * length, rest), state)[1]
    return state


def each_segment_recorded(window, length, step, state):
    """`each_segment` that also enters targets of the sequence in metrics.

    Their metrics need the outputs of all segments together.
    """
    if window.all_steps:
        return each_segment(window, length, step, state)
    learner = window.learner
    restore = learner.keep_output_losses()
    state, outputs, _ = each_segment_kept(window, length, step, state)
    window.refuse_added_losses()
    # Keras entered the loss of each output once a segment, the last one's
    # among zeros; once for the window is right.
    restore()
    window.loss(window.whole(), outputs)
    learner.record_metrics(window.whole(), outputs)
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
    full, rest = pieces.divide(window.steps, length)
    specs = window.model.output_specs if keep_outputs else []
    temporal = window.model.temporal_outputs if keep_outputs else []
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

    state, trail.arrays = pieces.repeat(full, body, (state, trail.arrays))
    trail.before_rest = (state, beside())
    if not isinstance(rest, int) or rest:
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
    if not isinstance(rest, int) or rest:
        last = window.segment(full * length, rest)
        carry = step(last, trail.before_rest, carry)

    def body(index, carry):
        segment = window.segment(index * length, length)
        return step(segment, trail.before(index), carry)

    return pieces.repeat(full, body, carry, backwards=True)
