"""What methods share that carry the influence of the weights forward.

Inside a segment the gradient is that of back-propagation. What reaches back
over its start is the gradient of its loss by the state there, d, times J, the
derivative of that state by the parameters, row by row:

    gradient = dl/dtheta + sum over rows of d . J

J goes forward with the state, from segment to segment. What stands for it
here, exact or not, is called the influence.
"""

import abc
import dataclasses
from typing import Any

import keras
import tensorflow as tf

from keras_seqgrad.methods.base import Method
from keras_seqgrad.state.carried import CarriedState
from keras_seqgrad.state.vector import differentiable
from keras_seqgrad.tensors import logits, nested
from keras_seqgrad.window import added
from keras_seqgrad.window.ends import run_before, split_at_end
from keras_seqgrad.window.loops import (
    each_segment,
    each_segment_kept,
    each_segment_recorded,
)
from keras_seqgrad.window.summed import Summed


@dataclasses.dataclass
class Run:
    """One segment run forward under a tape.

    Attributes:
        window: The window.
        segment: The segment.
        state: State before it.
        end: State after it.
        scan: What ran the recurrent layers, as `OnlineMethod.scan` gave it.
        drawn: From what layers drew (see `Window.draws`).
        taped: What `pull` has recorded, where it may be pulled back again.
    """

    window: Any
    segment: Any
    state: Any
    end: Any
    scan: Any
    drawn: list
    taped: Any = None

    @property
    def leaves(self):
        """The leaves of the state before that a gradient can reach."""
        return differentiable(self.state)

    @property
    def ends(self):
        """The same of the state after."""
        return differentiable(self.end)

    def again(self, scan=None):
        """State after the segment, run once more on the same draws."""
        window = self.window
        with window.draws_put_back():
            window.draw_again(self.drawn)
            _, end = window.forward(self.segment, self.state, scan=scan)
        return end

    def pull(self, d_ends):
        """Gradients of the state after by that before and by the variables.

        The segment is run once more, and in a graph each time: XLA cannot
        pull one run back twice.

        Args:
            d_ends: What they are multiplied by, like `ends`.

        Returns:
            (gradients by `leaves`, gradients by the window's variables).
        """
        leaves, variables = self.leaves, self.window.variables
        tape, ends = self.taped or self._recorded(leaves)
        found = tape.gradient(
            ends, (leaves, variables), output_gradients=d_ends
        )
        return nested.fill(found[0], leaves), nested.fill(found[1], variables)

    def _recorded(self, leaves):
        eagerly = tf.executing_eagerly()
        with tf.GradientTape(persistent=eagerly) as tape:
            tape.watch(leaves)
            ends = differentiable(self.again())
        self.taped = (tape, ends) if eagerly else None
        return tape, ends


class Kept(keras.layers.Layer):
    """Influence of which every row has its own, from window to window.

    Args:
        specs: Nested `tf.TensorSpec` without the batch.
        stateful: Whether it is carried; else every window starts from 0.
    """

    def __init__(self, specs, stateful):
        super().__init__(name="influence", trainable=False, autocast=False)
        self.specs = lambda: specs
        self.memory = CarriedState("influence", stateful, self._flat)
        self.built = True

    def _flat(self):
        return [
            (tuple(spec.shape), spec.dtype.name)
            for spec in keras.tree.flatten(self.specs())
        ]

    def admit(self, batch_size):
        """Makes room for the rows of the next batch."""
        self.memory.admit(batch_size)
        # Its rows are those of the training, which says when they may go.
        self.memory.release()

    def start(self, window):
        """What a window starts from: 0 for the rows that begin with it."""
        zero = keras.tree.map_structure(
            lambda spec: tf.zeros([window.batch_size, *spec.shape], spec.dtype),
            self.specs(),
        )
        if window.fresh is True:
            return zero
        kept, _ = self.memory.read(zero, window.batch_size)
        return nested.select(window.fresh, zero, kept)

    def keep(self, influence):
        """Keeps what a window has left."""
        self.memory.write(influence)


class OnlineMethod(Method):
    """A method that carries the influence of the weights from step to step.

    A subclass says where influence starts, what it brings back, and how it
    goes on. What it carries it has in a `Kept`, the part "influence".
    """

    crosses_windows = True
    gates_inside = True
    takes_head = True

    def start(self, window, seed=None):
        """The influence before a window: none in rows that begin with it."""
        return window.method_state.parts["influence"].start(window)

    def keep(self, window, influence):
        """Keeps the influence after a window, for the next one."""
        window.method_state.parts["influence"].keep(influence)

    @abc.abstractmethod
    def bring(self, window, influence, d_state):
        """Gradient of the variables that influence brings back.

        Args:
            window: The window.
            influence: That before a segment.
            d_state: Gradient of the segment's loss by the state before it.
        """

    @abc.abstractmethod
    def advance(self, run, influence):
        """The influence after a segment.

        The variables are still those that the segment ran with.

        Args:
            run: The segment's `Run`.
            influence: That before it.
        """

    def scan(self):
        """What runs the recurrent layers over a segment; None as ever."""

    # --- the steps --------------------------------------------------------

    def train(self, window):
        carry = window.state, self.start(window)
        if window.one_target or window.model.network_head is not None:
            loss, gradients, outputs, carry = self._pull_once(window, carry)
            window.learner.apply(gradients)
            window.learner.record_window(outputs, loss)
        else:

            def step(segment, carry):
                pulled = self._pull_loss(window, segment, carry)
                loss, gradients, outputs, carry = pulled
                window.learner.apply(gradients)
                return outputs, carry, loss

            carry = each_segment_recorded(window, self.length, step, carry)
        state, influence = carry
        self.keep(window, influence)
        return state

    def estimate(self, window, seed=None):
        carry = window.state, self.start(window, seed)
        loss, gradients, _, _ = self._pull_once(window, carry)
        return loss, gradients

    # --- a window ---------------------------------------------------------

    def _pull_once(self, window, carry):
        """(loss, gradients, outputs, state and influence after the window).

        The weights are the same in all of it.
        """
        if window.one_target:
            return self._pull_at_end(window, carry)
        summed = Summed(window)
        with window.draws_put_back():
            ended, outputs, _ = each_segment_kept(
                window, self.length, summed.forward, summed.start()
            )
        loss, d_outputs, gradients = summed.pull_loss(outputs, ended)
        ones = [tf.ones_like(each) for each in ended[1]]

        def step(segment, carry):
            carry, gradients = carry
            rows = window.ends_in(segment)
            pulled, outputs, carry = self._pull(
                window,
                segment,
                carry,
                lambda made: [*logits.leaves(made), *summed.of_segment()],
                [*window.cut_cotangents(d_outputs, segment, rows), *ones],
            )
            return outputs, (carry, nested.add(gradients, pulled))

        carry, gradients = each_segment(
            window, self.length, step, (carry, gradients)
        )
        return loss, gradients, outputs, carry

    # --- a segment --------------------------------------------------------

    def _pull_loss(self, window, segment, carry, of_window=None):
        """(loss, gradients, outputs, state and influence after).

        The loss has what the window adds to it, if that is given.
        """
        kept = []

        def scaled(outputs):
            loss = window.loss(segment, outputs)
            kept.append(added.exchanged(window, loss, of_window))
            return window.scale(loss)

        pulled = self._pull(window, segment, carry, scaled)
        return kept[0], *pulled

    def _pull_at_end(self, window, carry):
        """`_pull_loss` of each row's last steps, after all that is before."""
        before, last = split_at_end(window, self.length)
        of_window = earlier = None

        def advance(segment, carry):
            return self._pull(window, segment, carry)[2]

        def by_layers(outputs):
            return window.scale(added.by_layers(window))

        if before is not None:
            of_window = added.to_window(window)
            if of_window is None:
                carry = run_before(window, before, self.length, advance, carry)
            else:
                pulled = self._pull(window, before, carry, by_layers)
                earlier, _, carry = pulled
        pulled = self._pull_loss(window, last, carry, of_window)
        loss, gradients, outputs, carry = pulled
        if earlier is not None:
            gradients = nested.add(gradients, earlier)
        return loss, gradients, outputs, carry

    def _pull(self, window, segment, carry, targets=None, d_targets=None):
        """Pulls a segment back, and moves the influence over it.

        Args:
            window: The window.
            segment: The segment.
            carry: State and influence before it.
            targets: Function (outputs) -> what to differentiate, or None for
                nothing.
            d_targets: What is multiplied with its derivative, or None.

        Returns:
            (gradients or None, outputs, state and influence after it).
        """
        state, influence = carry
        scan, drawn = self.scan(), window.draws()
        with tf.GradientTape() as tape:
            tape.watch(differentiable(state))
            outputs, end = window.forward(segment, state, scan=scan)
            found = None if targets is None else targets(outputs)
        run = Run(window, segment, state, end, scan, drawn)
        gradients = None
        if targets is not None:
            gradients, d_leaves = tape.gradient(
                found,
                (window.variables, run.leaves),
                output_gradients=d_targets,
            )
            d_leaves = iter(nested.fill(d_leaves, run.leaves))
            d_state = nested.packed(
                state,
                [
                    next(d_leaves) if t.dtype.is_floating else t
                    for t in nested.leaves(state)
                ],
            )
            gradients = nested.add(
                nested.fill(gradients, window.variables),
                self.bring(window, influence, d_state),
            )
        carry = end, self.advance(run, influence)
        carry = keras.tree.map_structure(tf.stop_gradient, carry)
        return gradients, outputs, carry
