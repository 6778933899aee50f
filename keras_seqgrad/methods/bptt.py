"""Back-propagation through time: the exact gradient of a window.

The true boundary gradient crosses every boundary. With checkpoints only the
states at the boundaries are stored; each segment is run again when the
gradient comes back through it.
"""

import keras
import tensorflow as tf

from keras_seqgrad.methods.base import WindowMethod, serializable
from keras_seqgrad.tensors import nested
from keras_seqgrad.tensors.arguments import positive_integer
from keras_seqgrad.window.loops import each_segment_back, each_segment_kept
from keras_seqgrad.window.pullback import pull_loss, pull_window


def pull_checkpointed(window, every):
    """`pull_window` that stores the states of every `every`-th step only.

    Runs forward once without a tape, takes the gradient of the window's loss
    with respect to its outputs, and pulls it back segment by segment:

        d_s, g_s = vjp of segment s at its stored state,
                   applied to (dL/d outputs of s, d_{s+1})
        gradient = dL/dtheta (regularisers) + sum over s of g_s
    """
    state, outputs, trail = each_segment_kept(
        window, every, window.forward, window.state, window.draws
    )
    window.refuse_added_losses()
    after = window.draws()
    loss, d_outputs, gradients = pull_loss(window, outputs)

    def pull_back(segment, before, carry):
        start, drawn = before
        gradients, delta = carry
        window.draw_again(drawn)
        leaves = keras.tree.flatten(start)
        with tf.GradientTape() as tape:
            tape.watch(leaves)
            made = window.forward(segment, start)
        pulled, d_start = tape.gradient(
            keras.tree.flatten(made),
            (window.variables, leaves),
            output_gradients=[
                *window.cut_cotangents(d_outputs, segment),
                *keras.tree.flatten(delta),
            ],
        )
        d_start = nested.fill(d_start, leaves)
        return (
            nested.add(gradients, nested.fill(pulled, window.variables)),
            keras.tree.pack_sequence_as(start, d_start),
        )

    carry = (gradients, nested.zeros_like(window.state))
    gradients, _ = each_segment_back(window, every, pull_back, carry, trail)
    window.draw_again(after)
    state = keras.tree.map_structure(tf.stop_gradient, state)
    return loss, gradients, outputs, state


@serializable
class BPTT(WindowMethod):
    """Back-propagation through time over the whole window: exact.

    The reference every other method is measured against, and the right choice
    whenever the window fits into memory and one update a window is enough.
    Not the choice for streams whose dependencies are longer than a window (the
    gradient stops at the window's start; see `ARTBP`), nor when many updates a
    window matter more than exact gradients (see `TruncatedBPTT`).

    Rule:

        delta_t = dl_t/ds_t + delta_{t+1} ds_{t+1}/ds_t
        gradient = sum over t of delta_t ds_t/dtheta

    Gradient: exact. Memory: O(time) activations, or with `checkpoint_every=k`
    the states of time / k steps and the activations of k, for about one more
    forward pass. Dropout masks that layers draw once a call are drawn once
    every k steps then. Losses that layers add themselves (`add_loss`,
    activity regularisers) are refused with checkpoints, because how a sum over
    segments relates to that over the window is the layer's own affair.

    Args:
        checkpoint_every: Steps between stored states; "auto" for about the
            square root of the number of steps; None to store everything.

    Raises:
        ValueError: `checkpoint_every` is neither a positive integer, "auto"
            nor None.

    Reference:
        Gruslys et al., 2016. Memory-efficient backpropagation through time.
        arXiv:1606.03401.

    Example:

    >>> ksg.methods.BPTT(checkpoint_every="auto")
    BPTT(checkpoint_every='auto')
    """

    random = False

    def __init__(self, checkpoint_every=None):
        if checkpoint_every not in (None, "auto"):
            checkpoint_every = positive_integer(
                checkpoint_every, "checkpoint_every"
            )
        self.checkpoint_every = checkpoint_every

    def pull(self, window, seed=None):
        every = self.checkpoint_every
        if every is None:
            return pull_window(window)
        steps = window.steps
        if isinstance(steps, int):
            every = round(steps**0.5) if every == "auto" else every
            if every >= steps:
                return pull_window(window)
        else:
            root = tf.sqrt(tf.cast(steps, "float32"))
            every = tf.cast(root, "int32") if every == "auto" else every
            # At least one stored segment, so that there is one to read.
            every = tf.minimum(every, tf.maximum(steps // 2, 1))
        return pull_checkpointed(window, every)

    def get_config(self):
        return {"checkpoint_every": self.checkpoint_every}
