"""Synthetic gradients: a learned guess crosses the boundary."""

import keras
import tensorflow as tf

from keras_seqgrad import loops, synthesizers
from keras_seqgrad.boundaries import look, needs_next
from keras_seqgrad.methods.base import Method, serializable
from keras_seqgrad.pullback import Pullbacks, pull_loss
from keras_seqgrad.synthesis import (
    Synthesis,
    differentiable,
    join,
    mean_square,
    own_optimizer,
    size_of,
    split,
)
from keras_seqgrad.truncation import positive_integer
from keras_seqgrad.twins import Twins

CONDITIONS = ("state", "next_input")


@serializable
class SyntheticGradients(Method):
    """Synthetic gradients (decoupled neural interfaces): biased, learned.

    A second network, the synthesiser M, learns to guess from the state what
    gradient the loss still to come would send back. Use it where dependencies
    are longer than any segment you can afford, on data that is regular enough
    for M to learn. Not the choice where truncation already sees far enough, or
    where exact gradients fit into memory: M costs time, must itself be learnt,
    and a smaller loss of M does not by itself mean a better gradient; measure
    that by `ksg.diagnostics.boundary_gradients`.

    Rule for a segment from state h_k to h_{k+1}, with the loss l_t of a row at
    step t, and M_k the synthesiser's guess at h_k:

        gradient = d/dtheta (sum of l_t + scale * h_{k+1} . M_{k+1}) / terms
        target of M_k = d/dh_k (sum of l_t + bootstrap * h_{k+1} . M_{k+1})
        loss of M = mean over rows and units of (M_k - target)^2

    `terms` is the number of rows and steps the segment's loss is the mean of:
    guesses are in units of a single row's loss summed over steps, whatever
    the batch size and the length of a segment. The state is that of all
    layers, an LSTM's h and c, side by side. The target is formed once, and is
    a constant to M. Nothing crosses the end of a sequence or a reset. With
    stateful=True the guess crosses windows; its target is formed when the
    next window has been seen. Masked steps pass the gradient on unchanged;
    rows that an explicit mask ends are over. The parameters move after every
    segment, M after them.

    With one target per sequence all segments but the last learn from guesses
    alone.

    Gradient: biased; that of `TruncatedBPTT` for M = 0, that of `BPTT` for
    scale = 1 and a perfect M. Memory: O(length). Time: that of `TruncatedBPTT`,
    a second gradient back through the states, beside the first one where all
    cells have a scan of their own, and M.

    Args:
        length: Steps of a segment; the last one of a window may be shorter.
        synthesizer: "dense" (also None), "linear", "elementwise" (see
            `ksg.synthesizers`), a Keras model, or a function from the number
            of state units to one. A model with a dict of inputs reads what
            they name of "state", "input" and "target": the next step's. A
            model with inputs (batch, time, units) is recurrent: its time axis
            are the boundaries, its gradient stays within one of them.
        scale: What the recurrent layers receive of the guess.
        bootstrap: What the target receives of the guess.
        auxiliary: Weight of a second task: from the state after a segment's
            first step a linear head predicts the guess at the segment's end,
            and its squared error is added to the loss per term. Its gradient
            enters that step and, through the target, the segments before.
        condition: "state" to guess from the state at the boundary, or
            "next_input" for the state one step later, which has seen the next
            input. On a stream the next input is unknown at a window's end, so
            nothing crosses there, and no target receives a guess from there.
        inject: False to train M and follow truncation all the same.
        synthesizer_optimizer: A Keras optimizer or its name; None for a copy
            of the model's with its own clipping and slots.
        synthesizer_rate: Learning rate of that copy over the model's, which
            is read at the start of every window. A synthesiser that learns as
            fast as the model follows its own noise, and may take the model
            with it.

    Metrics: `synthesizer_loss`, and `synthesizer_norm_ratio`, the norm of the
    guesses over that of their targets.

    Raises:
        ValueError: An argument is out of its range; the synthesiser does not
            fit the state; targets are of both kinds; or a window of a stream
            is one segment, and its guesses need the next input.

    Reference:
        Jaderberg et al., 2017. Decoupled neural interfaces using synthetic
        gradients. arXiv:1608.05343. The auxiliary task's form is ours.

    Example:

    >>> ksg.methods.SyntheticGradients(20, "linear", scale=1.0).scale
    1.0
    """

    random = False

    def __init__(
        self,
        length,
        synthesizer=None,
        scale=0.1,
        bootstrap=1.0,
        auxiliary=0.0,
        condition="state",
        inject=True,
        synthesizer_optimizer=None,
        synthesizer_rate=0.1,
    ):
        if condition not in CONDITIONS:
            raise ValueError(
                f"`condition` must be one of {CONDITIONS}. Received: "
                f"condition={condition!r}"
            )
        for name, value in (
            ("scale", scale),
            ("bootstrap", bootstrap),
            ("auxiliary", auxiliary),
            ("synthesizer_rate", synthesizer_rate),
        ):
            if isinstance(value, bool) or not value >= 0:
                raise ValueError(
                    f"`{name}` must be a number of 0 or above. Received: "
                    f"{name}={value!r}"
                )
        self.length = positive_integer(length, "length")
        self.synthesizer = synthesizer
        self.scale = float(scale)
        self.bootstrap = float(bootstrap)
        self.auxiliary = float(auxiliary)
        self.condition = condition
        self.inject = bool(inject)
        self.synthesizer_optimizer = synthesizer_optimizer
        self.synthesizer_rate = float(synthesizer_rate)

    # --- the synthesiser --------------------------------------------------

    def build(self, model):
        size = size_of(model.state_spec())
        model.method_state.parts["synthesis"] = Synthesis(
            synthesizers.get(self.synthesizer, size),
            size,
            own_optimizer(self.synthesizer_optimizer, model.optimizer),
            model.stateful,
            self.auxiliary > 0,
        )

    def injecting(self, window):
        """Whether guesses are used: True, False or a scalar tensor."""
        return self.inject

    def boundary(self, window, start, state):
        """The boundary before step `start`, the state there being `state`."""
        names = self._synthesis(window).readings
        return look(window, start, state, names, self.condition == "next_input")

    def _synthesis(self, window):
        return window.method_state.parts["synthesis"]

    # --- training ---------------------------------------------------------

    def train(self, window):
        self._refuse(window)
        synthesis = self._synthesis(window)
        if self.synthesizer_optimizer is None:
            rate = self.synthesizer_rate * window.learning_rate
            synthesis.optimizer.learning_rate = rate

        def step(segment, carry):
            state, memory = carry
            here = self.boundary(window, segment.start, state)
            memory = synthesis.restart(memory, here.rows)
            after = synthesis.advance(here.reading, memory)
            made, gradients, target, ahead = self._pull(
                window, segment, state, after
            )
            outputs, state, loss = made
            window.apply(gradients)
            window.record(segment, outputs, loss)
            # Where a sequence begins there is nothing to learn.
            begins = window.fresh is True and segment.first is True
            if ahead is not None or not begins:
                synthesis.learn(here.reading, memory, target, here.rows, ahead)
            return outputs, (state, after)

        memory = synthesis.start(window.batch_size, window.fresh)
        state, memory = window.each_segment_recorded(
            self.length, step, (window.state, memory)
        )
        synthesis.keep(memory)
        return state

    def _pull(self, window, segment, state, memory):
        """A segment's gradients, and what its start should have guessed.

        Returns:
            ((outputs, state, loss), gradients, target, what the second head
            learns from or None).
        """
        leaves, ahead = differentiable(state), None
        # Whether the target receives what the layers do not.
        apart = self.injecting(window) is not True
        apart |= self.scale != self.bootstrap
        # Twins share products, whose last bits may then be others than those
        # of truncation; inject=False is truncation bit for bit.
        shared = apart and self.inject and Twins.serve(window)
        with Pullbacks(leaves, Twins(leaves) if shared else None) as pullbacks:
            outputs, end = window.forward(segment, state, scan=pullbacks.scan)
            loss = window.loss(segment, outputs, at_end=True)
            total = window.scale(loss)
            there, guess = self._guess(window, segment, end, memory)
            if self.auxiliary:
                first = differentiable(window.peek(segment.start, state))
                first = join(first)
                guess = tf.stop_gradient(guess)
                error = self._synthesis(window).head(first) - guess
                total += window.scale(
                    self.auxiliary * mean_square(error, there.rows)
                )
                ahead = tf.stop_gradient(first), guess, there.rows
        terms = window.count(segment, outputs)
        ends = differentiable(end)

        def handed(vector):
            return split(window.scale(vector / terms), ends)

        received = self._received(window, guess)
        more = handed(self.bootstrap * guess - received) if apart else []
        gradients, d_state = pullbacks.pull(
            ([total, *ends], [tf.ones_like(total), *handed(received)]),
            (ends if apart else [], more),
            window.variables,
        )
        target = join(d_state) * (terms / window.scale(tf.ones(())))
        end = keras.tree.map_structure(tf.stop_gradient, end)
        return (outputs, end, loss), gradients, target, ahead

    def _guess(self, window, segment, state, memory):
        """The boundary at the end of a segment, and the guess there."""
        there = self.boundary(window, segment.start + segment.length, state)
        memory = self._synthesis(window).restart(memory, there.rows)
        guess, _ = self._synthesis(window).guess(there.reading, memory)
        return there, tf.where(there.rows[:, None], guess, 0.0)

    def _received(self, window, guess):
        """What the recurrent layers receive of a guess."""
        injecting = self.injecting(window)
        if injecting is True:
            return self.scale * guess
        # Not a product: a guess that overflows must not come through.
        return tf.where(injecting, self.scale * guess, 0.0)

    def _refuse(self, window):
        """Refuses targets and windows for which the rule is not defined."""
        if window.mixed_targets:
            raise ValueError(
                f"{type(self).__name__} needs targets at every step, or one "
                "per sequence, for all outputs alike: losses of both kinds "
                "have no common unit. Received both."
            )
        steps = window.steps
        short = isinstance(steps, int) and steps <= self.length
        asks = needs_next(
            self._synthesis(window).readings, self.condition == "next_input"
        )
        if window.fresh is not True and short and asks:
            raise ValueError(
                "Guesses that need the next input cannot cross the end of a "
                f"window. Expected windows above length={self.length} steps, "
                f"received {steps}. Make the windows longer, or let the "
                'synthesizer read the state alone (condition="state").'
            )

    # --- the gradient of a window -----------------------------------------

    def estimate(self, window, seed=None):
        self._refuse(window)
        synthesis = self._synthesis(window)
        drawn = [tf.identity(v) for v in window.random_state]
        _, outputs, _ = window.each_segment_kept(
            self.length, window.forward, window.state
        )
        window.refuse_added_losses()
        loss, d_outputs, gradients = pull_loss(window, outputs)
        for variable, value in zip(window.random_state, drawn, strict=True):
            variable.assign(value)
        terms = window.count(window.whole(), outputs)

        def step(segment, carry):
            state, memory, gradients = carry
            here = self.boundary(window, segment.start, state)
            memory = synthesis.restart(memory, here.rows)
            memory = synthesis.advance(here.reading, memory)
            with tf.GradientTape() as tape:
                outputs, end = window.forward(segment, state)
            _, guess = self._guess(window, segment, end, memory)
            received = self._received(window, guess) / terms
            ends = differentiable(end)
            pulled = tape.gradient(
                [*keras.tree.flatten(outputs), *ends],
                window.variables,
                output_gradients=[
                    *window.cut_cotangents(d_outputs, segment),
                    *split(received, ends),
                ],
            )
            pulled = loops.fill(pulled, window.variables)
            return outputs, (end, memory, loops.add(gradients, pulled))

        memory = synthesis.start(window.batch_size, window.fresh)
        _, _, gradients = window.each_segment(
            self.length, step, (window.state, memory, gradients)
        )
        return loss, gradients

    def get_config(self):
        return {
            "length": self.length,
            "synthesizer": self.synthesizer,
            "scale": self.scale,
            "bootstrap": self.bootstrap,
            "auxiliary": self.auxiliary,
            "condition": self.condition,
            "inject": self.inject,
            "synthesizer_optimizer": self.synthesizer_optimizer,
            "synthesizer_rate": self.synthesizer_rate,
        }

    @classmethod
    def from_config(cls, config):
        for name in ("synthesizer", "synthesizer_optimizer"):
            if isinstance(config.get(name), dict):
                config = config | {
                    name: keras.saving.deserialize_keras_object(config[name])
                }
        return cls(**config)
