"""Lambda-returns: what every boundary of a window should have guessed."""

import tensorflow as tf

from keras_seqgrad.methods.synthetic_gradients.guessed_segment import read, run
from keras_seqgrad.state.vector import differentiable
from keras_seqgrad.tensors import nested, pieces
from keras_seqgrad.window.loops import each_segment_back, each_segment_kept


def lambda_lessons(method, window):
    """What a synthesiser is to learn at the starts of a window's segments.

    With l_k the summed loss of a row in segment k, from h_k to h_{k+1}, and
    M_{k+1} the synthesiser's guess at its end,

        R_k = d/dh_k (l_k + bootstrap * h_{k+1} . B_{k+1})
        B_{k+1} = (1 - lambda) M_{k+1} + lambda R_{k+1}

    Where nothing crosses, B is 0; at the end of a window that another one
    continues, it is M. All of the window is run forward and back, no parameter
    moving; random numbers that layers drew meanwhile will be drawn again.

    Args:
        method: The `SyntheticGradients`.
        window: The window.

    Returns:
        (readings, states of a recurrent synthesiser before them, returns R_k),
        constants with a leading axis of segments.
    """
    synthesis, length = method.synthesis(window), method.length
    full, rest = pieces.divide(window.steps, length)
    restore_losses = window.learner.keep_output_losses()
    drawn = window.draws()
    start = window.state, synthesis.start(window.batch_size, window.fresh)

    def forward(segment, carry):
        _, _, after = read(method, window, segment, *carry)
        _, state = window.forward(segment, carry[0])
        return [], (state, after)

    def back(segment, before, carry):
        later, arrays = carry
        (state, memory), drawn = before
        window.draw_again(drawn)
        here, memory, after = read(method, window, segment, state, memory)
        later = one_return(method, window, segment, state, after, later)
        lesson = tf.nest.flatten((here.reading, memory, later))
        return later, [
            array.write(segment.start // length, tensor)
            for array, tensor in zip(arrays, lesson, strict=True)
        ]

    _, _, trail = each_segment_kept(
        window, length, forward, start, window.draws, keep_outputs=False
    )
    here, memory, _ = read(method, window, window.whole(), *start)
    later = tf.zeros([window.batch_size, synthesis.size])
    kinds = here.reading, memory, later
    arrays = [
        tf.TensorArray(
            t.dtype, full + int(pieces.is_left(rest)), element_shape=t.shape
        )
        for t in tf.nest.flatten(kinds)
    ]
    _, arrays = each_segment_back(window, length, back, (later, arrays), trail)
    window.draw_again(drawn)
    restore_losses()
    lessons = [tf.stop_gradient(array.stack()) for array in arrays]
    return tf.nest.pack_sequence_as(kinds, lessons)


def one_return(method, window, segment, state, memory, later):
    """The return at the start of a segment, given that at its end."""
    leaves = differentiable(state)
    with tf.GradientTape() as tape:
        tape.watch(leaves)
        guessed = run(method, window, segment, state, memory)
    # Only a guess is there at a window's end, or if the return overflowed.
    finite = tf.reduce_all(tf.math.is_finite(later), axis=1, keepdims=True)
    known = finite & tf.logical_not(segment.last)
    later = tf.where(known, later, guessed.guess)
    if method.lambda_ < 1:  # else not even a guess that overflowed counts
        later = method.lambda_ * later + (1 - method.lambda_) * guessed.guess
    # Losses that layers add may come from rows that are over.
    later = tf.where(guessed.rows[:, None], later, 0.0)
    pulled = tape.gradient(
        [guessed.total, *guessed.ends],
        leaves,
        output_gradients=[
            tf.ones_like(guessed.total),
            *guessed.handed(method.bootstrap * later),
        ],
    )
    return guessed.target(nested.fill(pulled, leaves))
