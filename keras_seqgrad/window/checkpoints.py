"""A window's gradient from stored states: each segment is run twice.

Only the states at the boundaries are stored; a segment is run again when the
gradient comes back through it.
"""

import keras
import tensorflow as tf

from keras_seqgrad.network import normed
from keras_seqgrad.state.vector import differentiable
from keras_seqgrad.tensors import arguments, logits, nested, pieces
from keras_seqgrad.window.loops import each_segment_back, each_segment_kept
from keras_seqgrad.window.pullback import pull_window
from keras_seqgrad.window.summed import Summed


def checked(every):
    """The argument `checkpoint_every`, or its refusal."""
    if every is None or (isinstance(every, str) and every == "auto"):
        return every
    if not arguments.is_integer(every) or every < 1:
        arguments.refuse(
            every,
            "checkpoint_every",
            "an integer of 1 or more, 'auto' or None",
        )
    return int(every)


def check(model, every):
    """Refuses a model of which segments are not what the window is."""
    if every is not None:
        normed.find(
            model,
            f"checkpoint_every={every!r} runs a window in segments, and would "
            "norm each by itself.",
            "Set checkpoint_every=None",
        )


def pull_checkpointed(window, every, gates=None, cuts=False):
    """`pull_window` that stores the states of every `every`-th step only.

    Args:
        window: The window.
        every: Steps between stored states, "auto" for about the square root
            of the number of steps, or None to store everything.
        gates: (time,) or (batch, time), or None for the exact gradient.
        cuts: Whether nothing goes back over a boundary.

    Returns:
        (loss, gradients, outputs, state after the window).
    """
    every = segment_length(window.steps, every)
    if every is None:
        return pull_window(window, gates)
    return _pull_segments(window, every, gates, cuts)


def segment_length(steps, every):
    """Steps of a segment, or None where a window is not worth cutting."""
    if every is None:
        return None
    if isinstance(steps, int):
        if every == "auto":
            every = pieces.dividing(steps, round(steps**0.5))
        return every if every < steps else None
    root = tf.sqrt(tf.cast(steps, "float32"))
    every = tf.cast(root, "int32") if every == "auto" else every
    # At least one stored segment, so that there is one to read.
    return tf.minimum(every, tf.maximum(steps // 2, 1))


def _pull_segments(window, every, gates, cuts):
    """`pull_checkpointed` in segments of `every` steps.

    Runs forward once without a tape, takes the gradient of the window's loss
    with respect to its outputs, and pulls it back segment by segment:

        d_s, g_s = vjp of segment s at its stored state, its links gated,
                   applied to (dL/d outputs of s, d_{s+1})
        gradient = dL/dtheta (regularisers) + sum over s of g_s

    What activity regularisers add is summed over the segments, and pulled back
    with each.
    """
    summed = Summed(window)
    carry, outputs, trail = each_segment_kept(
        window, every, summed.forward, summed.start(), window.draws
    )
    loss, d_outputs, gradients = summed.pull_loss(outputs, carry)
    after = window.draws()

    def pull_back(segment, before, carry):
        (start, _), drawn = before
        gradients, delta = carry
        window.draw_again(drawn)
        leaves = [] if cuts else differentiable(start)
        with tf.GradientTape() as tape:
            tape.watch([*leaves, *window.given])
            made, end = window.forward(
                segment, start, _of_segment(gates, segment)
            )
            more = summed.of_segment()
        ends = [] if cuts else differentiable(end)
        pulled, d_start = tape.gradient(
            [*logits.leaves(made), *ends, *more],
            (window.sources, leaves),
            output_gradients=[
                *window.cut_cotangents(d_outputs, segment),
                *delta,
                *map(tf.ones_like, more),
            ],
        )
        return (
            nested.add(gradients, nested.fill(pulled, window.sources)),
            nested.fill(d_start, leaves),
        )

    ends = [] if cuts else differentiable(window.state)
    start = (gradients, nested.zeros_like(ends))
    gradients, _ = each_segment_back(window, every, pull_back, start, trail)
    window.draw_again(after)
    state = keras.tree.map_structure(tf.stop_gradient, carry[0])
    return loss, gradients, outputs, state


def _of_segment(gates, segment):
    """The gates of a segment's steps; the first is that of its start."""
    if gates is None:
        return None
    if gates.shape.rank == 2:
        return pieces.steps(gates, segment.start, segment.length)
    return pieces.steps(gates[tf.newaxis], segment.start, segment.length)[0]
