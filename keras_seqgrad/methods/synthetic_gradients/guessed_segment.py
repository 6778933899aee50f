"""A segment run forward, with the guess of the gradient at its end."""

import dataclasses
from typing import Any

import tensorflow as tf

from keras_seqgrad.methods.synthetic_gradients.synthesis import mean_square
from keras_seqgrad.state.vector import differentiable, join, split


@dataclasses.dataclass
class GuessedSegment:
    """One segment run forward by a method that guesses boundary gradients.

    Attributes:
        window: The window.
        outputs: What the model made of it.
        end: State after it.
        loss: The model's loss of it.
        total: What is differentiated: the loss, scaled, with auxiliary ones.
        rows: Boolean (batch,): rows that go on over the segment's end.
        guess: What the synthesiser guesses there, (batch, size).
        ahead: What a second head learns from, or None.
        terms: Number of terms that the loss is the mean of.
    """

    window: Any
    outputs: Any
    end: Any
    loss: tf.Tensor
    total: tf.Tensor
    rows: tf.Tensor
    guess: tf.Tensor
    ahead: Any
    terms: tf.Tensor

    @property
    def ends(self):
        """The leaves of `end` that a gradient can reach."""
        return differentiable(self.end)

    def handed(self, vector):
        """A gradient (batch, size) of rows' summed loss by the ends.

        As leaves, in the units of `total`.
        """
        return split(self.window.scale(vector / self.terms), self.ends)

    def target(self, d_state):
        """Gradient of `total` by the state before, back in a guess's units."""
        return join(d_state) * (self.terms / self.window.scale(tf.ones(())))


def read(method, window, segment, state, memory):
    """Reads the boundary before a segment.

    Returns:
        (the `Boundary`, state of a recurrent synthesiser before it has read
        that, and after).
    """
    synthesis = method.synthesis(window)
    here = method.boundary(window, segment.start, state)
    memory = synthesis.restart(memory, here.rows)
    return here, memory, synthesis.advance(here.reading, memory)


def run(method, window, segment, state, memory, scan=None):
    """Runs a segment forward.

    Args:
        method: The `SyntheticGradients`.
        window: The window.
        segment: The segment.
        state: State before it.
        memory: State of a recurrent synthesiser after it has read that.
        scan: What runs the recurrent layers' cells, or None.

    Returns:
        The `GuessedSegment`.
    """
    outputs, end = window.forward(segment, state, scan=scan)
    loss = window.loss(segment, outputs, at_end=True)
    total = window.scale(loss)
    there, guess = guess_at_end(method, window, segment, end, memory)
    ahead = None
    if method.auxiliary:
        first = join(differentiable(window.peek(segment.start, state)))
        guess = tf.stop_gradient(guess)
        error = method.synthesis(window).head(first) - guess
        error = mean_square(error, there.rows)
        # The synthesiser is of float32, also where the model is of float64.
        total += tf.cast(window.scale(method.auxiliary * error), total.dtype)
        ahead = tf.stop_gradient(first), guess, there.rows
    terms = window.count(segment, outputs)
    return GuessedSegment(
        window, outputs, end, loss, total, there.rows, guess, ahead, terms
    )


def guess_at_end(method, window, segment, state, memory):
    """The boundary at the end of a segment, and the guess there."""
    synthesis = method.synthesis(window)
    there = method.boundary(window, segment.start + segment.length, state)
    memory = synthesis.restart(memory, there.rows)
    guess, _ = synthesis.guess(there.reading, memory)
    return there, tf.where(there.rows[:, None], guess, 0.0)
