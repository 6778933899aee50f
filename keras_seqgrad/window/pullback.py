"""The pull-back of a loss through a window or one of its segments."""

import keras
import tensorflow as tf

from keras_seqgrad.state.vector import differentiable
from keras_seqgrad.tensors import logits, masks, nested


def pull_window(window, gates=None, scan=None):
    """Loss and gradient of the whole window, its backward links gated.

        gradient = sum over t of delta_t dF/dtheta
        delta_t = dl_t/ds_t + gate_{t+1} delta_{t+1} dF/ds_t

    Args:
        window: The window.
        gates: (time,) or (batch, time), or None for the exact gradient.
        scan: What runs the recurrent layers' cells, or None for the package's
            own scan.

    Returns:
        (loss, gradients, outputs, state after the window).
    """
    return pull(window, window.whole(), window.state, gates, scan=scan)


def pull(window, segment, state, gates=None, loss=None, scan=None):
    """`pull_window` for one segment and the state it starts from.

    Args:
        window: The window.
        segment: The segment.
        state: State before its first step.
        gates: (segment,) or (batch, segment), or None.
        loss: Function (segment, outputs) -> scalar; by default the model's.
        scan: What runs the recurrent layers' cells, or None.
    """
    loss = window.loss if loss is None else loss
    with tf.GradientTape() as tape:
        tape.watch(window.given)
        outputs, state = window.forward(segment, state, gates, scan)
        value = loss(segment, outputs)
        scaled = window.scale(value)
    gradients = tape.gradient(scaled, window.sources)
    state = keras.tree.map_structure(tf.stop_gradient, state)
    return value, nested.fill(gradients, window.sources), outputs, state


def pull_loss(window, outputs, loss=None):
    """Loss of the window, and its gradient by outputs and parameters.

    Args:
        window: The window.
        outputs: What the model made of it.
        loss: Function (segment, outputs) -> scalar; by default the model's.

    Returns:
        (loss, gradients by `logits.leaves` of the outputs, gradients by the
        sources: those of the regularisers).
    """
    carried = [masks.read(output) for output in keras.tree.flatten(outputs)]
    flat = [tf.identity(leaf) for leaf in logits.leaves(outputs)]
    loss = window.loss if loss is None else loss
    with tf.GradientTape() as tape:
        tape.watch([*differentiable(flat), *window.given])
        made = [
            masks.attach(logits.made(logits.read(given)[0], leaf), mask)
            for given, leaf, mask in zip(
                keras.tree.flatten(outputs), flat, carried, strict=True
            )
        ]
        outputs = keras.tree.pack_sequence_as(outputs, made)
        value = loss(window.whole(), outputs)
        scaled = window.scale(value)
    d_outputs, gradients = tape.gradient(scaled, (flat, window.sources))
    return (
        value,
        nested.fill(d_outputs, flat),
        nested.fill(gradients, window.sources),
    )
