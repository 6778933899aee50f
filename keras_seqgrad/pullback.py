"""The pull-back of a loss through a window or one of its segments."""

import keras
import tensorflow as tf

from keras_seqgrad import loops


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
        outputs, state = window.forward(segment, state, gates, scan)
        value = loss(segment, outputs)
        scaled = window.scale(value)
    gradients = tape.gradient(scaled, window.variables)
    state = keras.tree.map_structure(tf.stop_gradient, state)
    return value, loops.fill(gradients, window.variables), outputs, state


def pull_loss(window, outputs):
    """Loss of the window, and its gradient by outputs and parameters.

    Returns:
        (loss, flat gradients by the outputs, gradients by the variables: those
        of the regularisers).
    """
    flat = keras.tree.flatten(outputs)
    with tf.GradientTape() as tape:
        tape.watch(flat)
        loss = window.loss(window.whole(), outputs)
        scaled = window.scale(loss)
    d_outputs, gradients = tape.gradient(scaled, (flat, window.variables))
    return (
        loss,
        loops.fill(d_outputs, flat),
        loops.fill(gradients, window.variables),
    )


class Pullbacks:
    """Records a computation of which two pull-backs are wanted.

    A persistent tape, but for compiled functions: there a second tape, or a
    persistent one, makes TensorFlow prepare every loop for being
    differentiated, which no loop here needs, and which XLA refuses.

        with Pullbacks(leaves) as pullbacks:
            outputs, end = window.forward(segment, state, scan=pullbacks.scan)
        pullbacks.pull(first, second, variables)

    Args:
        leaves: Tensors that are sources beside the variables.
        twins: `Twins` of the leaves, by which both go back at once, or None.
    """

    def __init__(self, leaves, twins=None):
        self.tape = None
        if tf.executing_eagerly():
            self.tape = tf.GradientTape(persistent=True)
        self.leaves = leaves
        self.twins = twins
        self.scan = twins.scan if twins else None

    def __enter__(self):
        if self.tape is not None:
            self.tape.__enter__()
            self.tape.watch(self.leaves)
        return self

    def __exit__(self, *error):
        if self.tape is not None:
            self.tape.__exit__(*error)

    def pull(self, first, second, variables):
        """Pulls one sum of target . cotangent back to all, one to the leaves.

        Args:
            first: (targets, cotangents).
            second: The same for the leaves alone, ([], []) for none.
            variables: The variables, which only `first` reaches.

        Returns:
            (gradients of `first` by the variables, those of both together by
            the leaves).
        """
        targets, cotangents = first
        ends, more = second
        if self.twins:
            targets = [*targets, *map(self.twins.of, ends)]
            cotangents = [*cotangents, *more]
        sources = [*variables, *self.leaves]
        pulled = self._gradient(targets, cotangents, sources)
        gradients = pulled[: len(variables)]
        d_leaves = pulled[len(variables) :]
        if ends and not self.twins:
            again = self._gradient(ends, more, self.leaves)
            d_leaves = loops.add(d_leaves, again)
        return gradients, d_leaves

    def _gradient(self, targets, cotangents, sources):
        if self.tape is not None:
            found = self.tape.gradient(
                targets, sources, output_gradients=cotangents
            )
        else:
            given = [getattr(source, "value", source) for source in sources]
            found = tf.gradients(targets, given, grad_ys=cotangents)
        return loops.fill(found, sources)
