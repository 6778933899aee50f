"""Truncated back-propagation through time: nothing crosses a boundary.

The state is carried forward over every boundary, the gradient handed back is
0. Cheap, many updates a window, and biased.
"""

import dataclasses

import keras
import tensorflow as tf

from keras_seqgrad.methods.base import Method, serializable
from keras_seqgrad.tensors import nested, pieces
from keras_seqgrad.tensors.arguments import positive_integer
from keras_seqgrad.truncation import Fixed
from keras_seqgrad.window.loops import each_segment_recorded
from keras_seqgrad.window.pullback import pull, pull_loss, pull_window
from keras_seqgrad.window.window import Segment


@dataclasses.dataclass
class Reach:
    """The steps one update runs, and those of them whose loss it counts.

    Attributes:
        run: Segment that is run forward and backward.
        counted: Segment whose loss counts, the last steps of the reach.
        counted_place: (start, length) of `counted` within `run`.
        gates: Backward gates of `run`, or None.
    """

    run: Segment
    counted: Segment
    counted_place: tuple
    gates: tf.Tensor | None


def each_reach(window, length, stride, move, carry):
    """Runs `move` for every update of a stride below the length.

    All updates run the same number of steps, so that one compiled loop serves
    them; the first ones, which could only reach back to the window's start,
    run a few steps ahead whose loss is not counted.

    Args:
        window: The window.
        length: Steps the gradient reaches back from the end of a stride.
        stride: Steps from one update to the next.
        move: Function (reach, state, carry) -> (state after the run, carry).
        carry: What is handed from one update to the next.

    Returns:
        (state after the window, carry).
    """
    strides = -(-length // stride)
    steps = window.steps
    known = isinstance(steps, int)
    run_length = strides * stride
    if known:
        run_length = min(run_length, steps)
    else:
        run_length = tf.minimum(run_length, steps)

    def update(start, begin, counted_length, run_length, state, carry):
        step = tf.range(run_length) + start
        cut = step == begin + counted_length - length
        reach = Reach(
            window.segment(start, run_length),
            window.segment(begin, counted_length),
            (begin - start, counted_length),
            tf.where(cut & (step > 0), 0.0, 1.0),
        )
        return move(reach, state, carry)

    def body(index, loop):
        state, _, _, carry = loop
        first = index - strides + 1
        start = tf.maximum(first, 0) * stride
        moved = window.advance(start, stride, state)
        after, carry = update(
            start, index * stride, stride, run_length, state, carry
        )
        next_state = keras.tree.map_structure(
            lambda new, old: tf.where(first >= 0, new, old), moved, state
        )
        return next_state, state, after, carry

    full, rest = pieces.divide(steps, stride)
    loop = (window.state, window.state, window.state, carry)
    _, state, after, carry = pieces.repeat(full, body, loop)
    if not known or rest:
        # Starts where the last full stride started, and is cut further on.
        start = tf.maximum(full - strides, 0) * stride
        after, carry = update(
            start, full * stride, rest, steps - start, state, carry
        )
    return after, carry


@serializable
class TruncatedBPTT(Method):
    """Truncated back-propagation through time: biased, an update a segment.

    The usual way to train on long sequences and streams: use it when the
    dependencies that matter are shorter than `length`. Not the choice when
    they are longer: what reaches further back is lost, and the gradient may
    even point the wrong way (see `ARTBP`).

    Rule, with k1 = `stride` and k2 = `length`: after every k1 steps, ending at
    step e, the parameters move along

        gradient of the mean loss of steps e - k1 … e - 1, the state before
        step e - k2 taken as a constant

    With a stride below the length the last k2 steps are run again with the
    current parameters before each update. No gradient reaches back before the
    start of the window. With one target per sequence there is one update, at
    the end of the window, whose gradient reaches back `length` steps.

    Gradient: biased; exact where `length` covers the window (as
    `estimate_gradients` gives it). Memory: O(length) activations. Time: that
    of BPTT for stride = length, up to length / stride times that otherwise.

    Args:
        length: Steps the gradient reaches back.
        stride: Steps from one update to the next, at most `length`; None for
            `length`. The last segment of a window may be shorter.

    Raises:
        ValueError: `length` or `stride` is not a positive integer, or the
            stride is above the length.

    Reference:
        Williams and Peng, 1990. An efficient gradient-based algorithm for
        on-line training of recurrent network trajectories.

    Example:

    >>> ksg.methods.TruncatedBPTT(length=50, stride=25)
    TruncatedBPTT(length=50, stride=25)
    """

    random = False

    def __init__(self, length, stride=None):
        self.length = positive_integer(length, "length")
        self.stride = stride
        if stride is not None:
            positive_integer(stride, "stride")
            if stride > length:
                raise ValueError(
                    "`stride` must not be above `length`: the loss of some "
                    "steps would reach no parameter. "
                    f"Received: length={length}, stride={stride}"
                )

    def train(self, window):
        if window.one_target:
            return self._train_at_end(window)
        if self.stride not in (None, self.length):
            return self._train_overlapping(window)

        def step(segment, state):
            loss, gradients, outputs, state = pull(window, segment, state)
            window.learner.apply(gradients)
            window.learner.record(segment, outputs, loss)
            return outputs, state

        return each_segment_recorded(window, self.length, step, window.state)

    def _train_at_end(self, window):
        """One update whose gradient reaches back from the last step."""
        segment, state = self._last(window)
        loss, gradients, outputs, state = pull(window, segment, state)
        window.learner.apply(gradients)
        window.learner.record_loss(loss)
        window.learner.record_metrics(segment, outputs)
        return state

    def _last(self, window):
        """The last `length` steps of a window, and the state before them."""
        steps, length = window.steps, self.length
        if isinstance(steps, int):
            length = min(steps, length)
            if length == steps:
                return window.whole(), window.state
        else:
            length = tf.minimum(steps, length)
        start = steps - length
        state = window.advance(0, start, window.state)
        return window.segment(start, length), state

    def _train_overlapping(self, window):
        if window.mixed_targets:
            raise ValueError(
                "TruncatedBPTT with a stride below its length needs targets "
                "at every step, or one per sequence, for all outputs alike. "
                "Set stride=None."
            )

        def move(reach, state, _):
            with tf.GradientTape() as tape:
                outputs, end = window.forward(reach.run, state, reach.gates)
                outputs = window.cut_outputs(outputs, *reach.counted_place)
                loss = window.loss(reach.counted, outputs)
                scaled = window.scale(loss)
            gradients = tape.gradient(scaled, window.variables)
            window.learner.apply(nested.fill(gradients, window.variables))
            window.learner.record(reach.counted, outputs, loss)
            return end, _

        return each_reach(window, self.length, self.stride, move, ())[0]

    def estimate(self, window, seed=None):
        steps = window.steps
        if window.one_target:
            to_end = steps - tf.range(steps)
            gates = tf.where(to_end == self.length, 0.0, 1.0)
            loss, gradients, _, _ = pull_window(window, gates)
            return loss, gradients
        if self.stride in (None, self.length):
            gates = Fixed(self.length).gates(steps)
            loss, gradients, _, _ = pull_window(window, gates)
            return loss, gradients
        return self._estimate_overlapping(window)

    def _estimate_overlapping(self, window):
        outputs, _ = window.forward(window.whole(), window.state)
        window.refuse_added_losses()
        loss, d_outputs, gradients = pull_loss(window, outputs)

        def add(reach, state, gradients):
            with tf.GradientTape() as tape:
                outputs, end = window.forward(reach.run, state, reach.gates)
                outputs = window.cut_outputs(outputs, *reach.counted_place)
            pulled = tape.gradient(
                keras.tree.flatten(outputs),
                window.variables,
                output_gradients=window.cut_cotangents(
                    d_outputs, reach.counted
                ),
            )
            pulled = nested.fill(pulled, window.variables)
            return end, nested.add(gradients, pulled)

        _, gradients = each_reach(
            window, self.length, self.stride, add, gradients
        )
        return loss, gradients

    def get_config(self):
        return {"length": self.length, "stride": self.stride}
