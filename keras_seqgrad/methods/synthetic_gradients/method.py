"""Synthetic gradients: a learned guess crosses the boundary."""

from typing import Any, Literal

import keras
import tensorflow as tf

from keras_seqgrad import synthesizers
from keras_seqgrad.methods.base import Method, serializable
from keras_seqgrad.methods.synthetic_gradients.boundary import look, needs_next
from keras_seqgrad.methods.synthetic_gradients.guessed_segment import (
    guess_at_end,
    read,
    run,
)
from keras_seqgrad.methods.synthetic_gradients.pullbacks import Pullbacks
from keras_seqgrad.methods.synthetic_gradients.returns import lambda_lessons
from keras_seqgrad.methods.synthetic_gradients.synthesis import (
    Synthesis,
    own_optimizer,
)
from keras_seqgrad.methods.synthetic_gradients.twins import Twins
from keras_seqgrad.state.vector import differentiable, size_of, split
from keras_seqgrad.tensors import arguments, logits, nested
from keras_seqgrad.window.loops import (
    each_segment,
    each_segment_kept,
    each_segment_recorded,
)
from keras_seqgrad.window.summed import Summed
from keras_seqgrad.window.window import Window

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
    rows that masks end are over. The parameters move after every
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
        lambda_: 0 for the target above, of one segment. Above it M_{k+1}
            in the target becomes (1 - lambda_) M_{k+1} + lambda_ R_{k+1},
            where R_{k+1} is the target at the next boundary, and M_{k+1} at
            the window's end: the lambda-return. It costs running the window
            forward twice and back once more before the parameters move, and
            the states at all its boundaries.

    Metrics: `synthesizer_loss`, and `synthesizer_norm_ratio`, the norm of the
    guesses over that of their targets.

    Raises:
        ValueError: An argument is out of its range; the synthesiser does not
            fit the state; targets are of both kinds; or a window of a stream
            is one segment, and its guesses need the next input.

    Reference:
        Jaderberg et al., 2017. Decoupled neural interfaces using synthetic
        gradients. arXiv:1608.05343. The auxiliary task's form is ours.
        Pemberton and Costa, 2024. BP(lambda): online learning via synthetic
        gradients. arXiv:2401.07044; `lambda_` is its lambda-weighted target.

    Example:

    >>> ksg.methods.SyntheticGradients(20, "linear", scale=1.0).scale
    1.0
    """

    random = False
    crosses_windows = True

    def __init__(
        self,
        length: int,
        synthesizer: Any = None,
        scale: float = 0.1,
        bootstrap: float = 1.0,
        auxiliary: float = 0.0,
        condition: Literal["state", "next_input"] = "state",
        inject: bool = True,
        synthesizer_optimizer: Any = None,
        synthesizer_rate: float = 0.1,
        lambda_: float = 0.0,
    ) -> None:
        arguments.choice(condition, "condition", CONDITIONS)
        synthesizers.check(synthesizer)
        if synthesizer_optimizer is not None:
            arguments.optimizer(synthesizer_optimizer, "synthesizer_optimizer")
        for name, value in (
            ("scale", scale),
            ("bootstrap", bootstrap),
            ("auxiliary", auxiliary),
            ("synthesizer_rate", synthesizer_rate),
            ("lambda_", lambda_),
        ):
            arguments.number(value, name, least=0)
        if lambda_ > 1:
            raise ValueError(
                "`lambda_` must be from 0, one segment's target, to 1, all of "
                f"the window's. Received: lambda_={lambda_!r}"
            )
        self.length = arguments.positive_integer(length, "length")
        self.synthesizer = synthesizer
        self.scale = float(scale)
        self.bootstrap = float(bootstrap)
        self.auxiliary = float(auxiliary)
        self.condition = condition
        self.inject = arguments.flag(inject, "inject")
        self.synthesizer_optimizer = synthesizer_optimizer
        self.synthesizer_rate = float(synthesizer_rate)
        self.lambda_ = float(lambda_)

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

    def injecting(self, window: Window) -> Any:
        """Whether guesses are used: True, False or a scalar tensor."""
        return self.inject

    def boundary(self, window: Window, start: Any, state: Any) -> Any:
        """The boundary before step `start`, the state there being `state`."""
        names = self.synthesis(window).readings
        return look(window, start, state, names, self.condition == "next_input")

    def synthesis(self, window: Window) -> Any:
        """The synthesiser while it learns."""
        return window.method_state.parts["synthesis"]

    # --- training ---------------------------------------------------------

    def train(self, window):
        self._refuse(window)
        synthesis = self.synthesis(window)
        if self.synthesizer_optimizer is None:
            rate = self.synthesizer_rate * window.learner.learning_rate
            synthesis.optimizer.learning_rate = rate
        lessons = lambda_lessons(self, window) if self.lambda_ else None

        def step(segment, carry):
            here, memory, after = read(self, window, segment, *carry)
            guessed, gradients, target = self._pull(
                window, segment, carry[0], after
            )
            window.learner.apply(gradients)
            reading = here.reading
            if lessons is not None:
                reading, memory, target = tf.nest.map_structure(
                    lambda each: each[segment.start // self.length], lessons
                )
            # Where a sequence begins there is nothing to learn.
            begins = window.fresh is True and segment.first is True
            if guessed.ahead is not None or not begins:
                synthesis.learn(
                    reading, memory, target, here.rows, guessed.ahead
                )
            state = keras.tree.map_structure(tf.stop_gradient, guessed.end)
            return guessed.outputs, (state, after), guessed.loss

        memory = synthesis.start(window.batch_size, window.fresh)
        state, memory = each_segment_recorded(
            window, self.length, step, (window.state, memory), at_end=True
        )
        synthesis.keep(memory)
        return state

    def _pull(self, window, segment, state, memory):
        """(guessed segment, gradients, target of the guess at its start).

        With lambda-returns that target is of no use.
        """
        leaves = differentiable(state)
        # Whether the target receives what the layers do not.
        apart = self.injecting(window) is not True
        apart |= self.scale != self.bootstrap
        apart &= not self.lambda_
        # Twins share products, whose last bits may then be others than those
        # of truncation; inject=False is truncation bit for bit.
        shared = apart and self.inject and Twins.serve(window)
        with Pullbacks(leaves, Twins(leaves) if shared else None) as pullbacks:
            guessed = run(self, window, segment, state, memory, pullbacks.scan)
        total, ends, guess = guessed.total, guessed.ends, guessed.guess
        received = self._received(window, guess)
        more = self.bootstrap * guess - received
        gradients, d_state = pullbacks.pull(
            ([total, *ends], [tf.ones_like(total), *guessed.handed(received)]),
            (ends, guessed.handed(more)) if apart else ([], []),
            window.variables,
        )
        return guessed, gradients, guessed.target(d_state)

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
            self.synthesis(window).readings, self.condition == "next_input"
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
        synthesis = self.synthesis(window)
        drawn = window.draws()
        summed = Summed(window)
        ended, outputs, _ = each_segment_kept(
            window, self.length, summed.forward, summed.start()
        )
        loss, d_outputs, gradients = summed.pull_loss(outputs, ended)
        window.draw_again(drawn)
        terms = window.count(window.whole(), outputs)

        def step(segment, carry):
            state, memory, gradients = carry
            _, _, memory = read(self, window, segment, state, memory)
            with tf.GradientTape() as tape:
                outputs, end = window.forward(segment, state)
                more = summed.of_segment()
            _, guess = guess_at_end(self, window, segment, end, memory)
            received = self._received(window, guess) / terms
            ends = differentiable(end)
            pulled = tape.gradient(
                [*logits.leaves(outputs), *ends, *more],
                window.variables,
                output_gradients=[
                    *window.cut_cotangents(
                        d_outputs, segment, window.ends_in(segment)
                    ),
                    *split(received, ends),
                    *map(tf.ones_like, more),
                ],
            )
            pulled = nested.fill(pulled, window.variables)
            return outputs, (end, memory, nested.add(gradients, pulled))

        memory = synthesis.start(window.batch_size, window.fresh)
        _, _, gradients = each_segment(
            window, self.length, step, (window.state, memory, gradients)
        )
        return loss, gradients

    def get_config(self):
        return {
            "length": self.length,
            "synthesizer": synthesizers.name_of(self.synthesizer),
            "scale": self.scale,
            "bootstrap": self.bootstrap,
            "auxiliary": self.auxiliary,
            "condition": self.condition,
            "inject": self.inject,
            "synthesizer_optimizer": self.synthesizer_optimizer,
            "synthesizer_rate": self.synthesizer_rate,
            "lambda_": self.lambda_,
        }

    @classmethod
    def from_config(cls, config):
        for name in ("synthesizer", "synthesizer_optimizer"):
            if isinstance(config.get(name), dict):
                config = config | {
                    name: keras.saving.deserialize_keras_object(config[name])
                }
        return cls(**config)
