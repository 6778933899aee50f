"""Truncated back-propagation through time: nothing crosses a boundary.

The state is carried forward over every boundary, the gradient handed back is
0. Cheap, many updates a window, and biased.
"""

import dataclasses

import keras
import tensorflow as tf

from keras_seqgrad.methods.base import Method, serializable
from keras_seqgrad.tensors import arguments, logits, nested
from keras_seqgrad.truncation import Fixed
from keras_seqgrad.window import added, checkpoints
from keras_seqgrad.window.behind import pull_behind
from keras_seqgrad.window.ends import before_ends, run_before, split_at_end
from keras_seqgrad.window.loops import each_segment, each_segment_recorded
from keras_seqgrad.window.pullback import pull, pull_window
from keras_seqgrad.window.summed import Summed
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

    def forward(self, window, state):
        """(outputs of the counted steps, state after the run).

        What layers regularise at every step is that of these steps.
        """
        with added.of_steps(window, *self.counted_place):
            outputs, end = window.forward(self.run, state, self.gates)
        return window.cut_outputs(outputs, *self.counted_place), end


def reaching(window, length, stride, move):
    """A step for the loops over strides, which are below the length.

    All updates run the same number of steps, so that one compiled loop serves
    them; the first ones, which could only reach back to the window's start,
    run a few steps ahead whose loss is not counted.

    Args:
        window: The window.
        length: Steps the gradient reaches back from the end of a stride.
        stride: Steps from one update to the next.
        move: Function (reach, state, carry) -> (made, state after the run,
            carry).

    Returns:
        (step, start): the step (segment, loop) -> (made, loop), and a function
        from `carry` to the loop's first value. A loop is (state the next run
        starts from, state this one started from, state after it, carry).
    """
    strides = -(-length // stride)
    steps = window.steps
    known = isinstance(steps, int)
    run_length = strides * stride
    if known:
        run_length = min(run_length, steps)
    else:
        run_length = tf.minimum(run_length, steps)

    def update(counted, start, run_length, state, carry):
        step = tf.range(run_length) + start
        cut = step == counted.start + counted.length - length
        reach = Reach(
            window.segment(start, run_length),
            counted,
            (counted.start - start, counted.length),
            tf.where(cut & (step > 0), 0.0, 1.0),
        )
        return move(reach, state, carry)

    def step(segment, loop):
        state, before, _, carry = loop
        first = segment.start // stride - strides + 1
        if not (isinstance(segment.length, int) and segment.length == stride):
            # A shorter one starts where the last full one did, and is cut
            # further on. Of a length that is not known it may be a full one.
            full = tf.equal(segment.length, stride)
            first = tf.where(full, first, first - 1)
            start = tf.maximum(first, 0) * stride
            before = keras.tree.map_structure(
                lambda new, old: tf.where(full, new, old), state, before
            )
            made, after, carry = update(
                segment, start, steps - start, before, carry
            )
            return made, (state, before, after, carry)
        start = tf.maximum(first, 0) * stride
        moved = window.advance(start, stride, state)
        made, after, carry = update(segment, start, run_length, state, carry)
        next_state = keras.tree.map_structure(
            lambda new, old: tf.where(first >= 0, new, old), moved, state
        )
        return made, (next_state, state, after, carry)

    return step, lambda carry: (*[window.state] * 3, carry)


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
    the end of the window, whose gradient reaches back `length` steps from
    each row's last one that is not masked. So there is where a head reads all
    steps (`model.network_head`): its gradient comes to every step, and goes
    back to the start of a segment; and where a part needs all steps before
    anything can be cut (`model.network_uncut`), which is never cut itself.
    Then no stride may be given.

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

    def __init__(self, length: int, stride: int | None = None) -> None:
        self.length = arguments.positive_integer(length, "length")
        self.stride = None
        if stride is not None:
            self.stride = arguments.positive_integer(stride, "stride")
            if stride > length:
                raise ValueError(
                    "`stride` must not be above `length`: the loss of some "
                    "steps would reach no parameter. "
                    f"Received: length={length}, stride={stride}"
                )

    @property
    def gates_inside(self):
        """Whether runs overlap, each cut `length` steps before its end."""
        return self.stride not in (None, self.length)

    @property
    def takes_head(self):
        return not self.gates_inside

    takes_front = takes_head

    def train(self, window):
        model = window.model
        if model.network_head is not None or model.network_uncut is not None:
            return self._train_whole(window)
        if window.one_target:
            return self._train_at_end(window)
        if self.gates_inside:
            return self._train_overlapping(window)

        def step(segment, state):
            loss, gradients, outputs, state = pull(window, segment, state)
            window.learner.apply(gradients)
            return outputs, state, loss

        return each_segment_recorded(window, self.length, step, window.state)

    def _train_whole(self, window):
        """One update, by what a head or a front makes of the whole window."""
        loss, gradients, outputs, state = pull_behind(window, self._pull_whole)
        window.learner.apply(gradients)
        window.learner.record_window(outputs, loss)
        return state

    def _pull_whole(self, window):
        # Where all is cut at the borders of segments, no gates are needed.
        plain = not window.one_target and window.lengths is None
        gates = None if plain else self._gates(window)
        return checkpoints.pull_checkpointed(
            window, self.length, gates, cuts=plain
        )

    def _train_at_end(self, window):
        """One update whose gradient reaches back from each row's last step."""

        def advance(segment, state):
            _, state = window.forward(segment, state)
            return keras.tree.map_structure(tf.stop_gradient, state)

        before, segment = split_at_end(window, self.length)
        state, of_window, earlier = window.state, None, None
        if before is not None:
            of_window = added.to_window(window)
            if of_window is None:
                state = run_before(window, before, self.length, advance, state)
            else:
                _, earlier, _, state = pull(
                    window,
                    before,
                    state,
                    self._gates_at_end(window)[..., : before.length],
                    lambda segment, outputs: added.by_layers(window),
                )
        loss, gradients, outputs, state = pull(window, segment, state)
        loss = added.exchanged(window, loss, of_window)
        if earlier is not None:
            gradients = nested.add(gradients, earlier)
        window.learner.apply(gradients)
        window.learner.record_window(outputs, loss)
        return state

    def _train_overlapping(self, window):
        if window.mixed_targets:
            raise ValueError(
                "TruncatedBPTT with a stride below its length needs targets "
                "at every step, or one per sequence, for all outputs alike. "
                "Set stride=None."
            )

        def move(reach, state, carry):
            with tf.GradientTape() as tape:
                outputs, end = reach.forward(window, state)
                loss = window.loss(reach.counted, outputs)
                scaled = window.scale(loss)
            gradients = tape.gradient(scaled, window.variables)
            window.learner.apply(nested.fill(gradients, window.variables))
            return (outputs, loss), end, carry

        reach, start = reaching(window, self.length, self.stride, move)

        def step(segment, loop):
            (outputs, loss), loop = reach(segment, loop)
            return outputs, loop, loss

        loop = each_segment_recorded(window, self.stride, step, start(()))
        return loop[2]

    def estimate(self, window, seed=None):
        if self.gates_inside and not window.one_target:
            return self._estimate_overlapping(window)

        loss, gradients, _, _ = pull_behind(
            window, lambda part: pull_window(part, self._gates(part))
        )
        return loss, gradients

    def _gates(self, window):
        """Gates that cut at the borders of segments, before each row's end."""
        if window.one_target:
            return self._gates_at_end(window)
        return before_ends(window, Fixed(self.length).gates(window.steps))

    def _gates_at_end(self, window):
        """Gates that cut every `length` steps before the last one of each row.

        What is before the last cut has no target, but layers may add to it.
        """
        step, ends = tf.range(window.steps), window.steps
        if window.lengths is not None:
            ends = window.lengths[:, tf.newaxis]
        cut = (ends - step) % self.length == 0
        return tf.where(cut & (step > 0) & (step < ends), 0.0, 1.0)

    def _estimate_overlapping(self, window):
        summed = Summed(window)
        outputs, ended = summed.forward(window.whole(), summed.start())
        loss, d_outputs, gradients = summed.pull_loss(outputs, ended)

        def add(reach, state, gradients):
            with tf.GradientTape() as tape:
                outputs, end = reach.forward(window, state)
                more = summed.of_segment()
            pulled = tape.gradient(
                [*logits.leaves(outputs), *more],
                window.variables,
                output_gradients=[
                    *window.cut_cotangents(d_outputs, reach.counted),
                    *map(tf.ones_like, more),
                ],
            )
            pulled = nested.fill(pulled, window.variables)
            return [], end, nested.add(gradients, pulled)

        step, start = reaching(window, self.length, self.stride, add)
        loop = each_segment(window, self.stride, step, start(gradients))
        return loss, loop[3]

    def get_config(self):
        return {"length": self.length, "stride": self.stride}
