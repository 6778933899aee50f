"""Target propagation: the states between blocks are free variables.

Nothing is handed from block to block, forward or backward, so that all blocks
run at once. A penalty on the difference between where a block ends and where
the next one starts takes the place of the link.
"""

from typing import Literal

import keras
import tensorflow as tf

from keras_seqgrad.methods.base import Method, serializable
from keras_seqgrad.methods.target_propagation import multipliers, settings
from keras_seqgrad.methods.target_propagation.blocks import Blocks
from keras_seqgrad.methods.target_propagation.lagrangian import (
    Lagrangian,
    run_from_zeros,
    run_in_order,
)
from keras_seqgrad.network import norming
from keras_seqgrad.tensors import arguments, nested, pieces


@serializable
class TargetPropagation(Method):
    """Target propagation by free states between blocks (TPROP): biased.

    A window is cut into blocks, and the state that each block but the first
    starts from is a free variable, its target. Given the targets all blocks
    run at once, as rows of one batch: a scan of `block` steps in place of one
    of the window's. Use it to study such training, or where time cannot be
    spent on long scans, at small batches. Not the choice for the better
    model: its authors report that it generally does worse than
    back-propagation through time. What was seen here is in
    docs/methods/target_propagation.md.

    Rule: for a row, with f(h_b) the state that block b comes to from its
    target h_b, all states of all layers together (an LSTM's h and c), and
    scaled multipliers u_b, the parameters and targets lower

        sum over blocks of  mean loss of the block's steps
                            + penalty/2 ||f(h_b) + u_b - h_(b+1)||^2

    The parameters' gradient is that of the mean over rows and blocks. Schemes:

        "penalty"     parameters and targets move together; u stays 0
        "lagrangian"  the same, and after every round u moves
        "admm"        in every round first the targets move, then the
                      parameters, then u

    u moves by multiplier_rate * (f(h_b) - h_(b+1)), the textbook's rule for
    scaled multipliers at rate 1; in the form of the released code by
    multiplier_rate * penalty * (f(h_b) + u_b - h_(b+1)) / boundaries.

    Targets and multipliers are made anew for every window: u does nothing
    before its second round. With "penalty", the start "forward" and one step
    this is `TruncatedBPTT`'s gradient; for a large penalty and targets that
    have converged it is `BPTT`'s.

    The first block starts from the state carried into the window. Carried on
    is, with the start "forward", the state of that pass, into which no target,
    having seen labels, leaks; else the last block's. Boundaries at which a row
    is reset, or after which masks leave nothing, bind nothing.

    Gradient: biased. `estimate_gradients` gives the mean over the parameter
    steps, the parameters staying where they are. Memory: O(T) activations.
    Time: (parameter_steps + state_steps) * rounds passes, each a scan of
    `block` steps; a forward pass more a round for u, and one through the
    window in order.

    Args:
        block: Steps of a block; the last one of a window may be shorter.
        scheme: "penalty", "lagrangian" or "admm".
        penalty: Weight of the squared violations, above 0.
        parameter_steps: Updates of the parameters in a round, all by the
            compiled optimizer.
        state_steps: Steps of the targets in a round of "admm"; None for 10.
            The other schemes move them with every update.
        rounds: Rounds in a window; None for 1 with "penalty", which has no
            more, and 2 with the others.
        start: Where targets start: "forward" for the states of a pass through
            the window; "parallel" for those that the blocks come to when all
            but the first start from zeros; "zero" for zeros.
        state_optimizer: Of the targets: "adagrad" (as Keras', its sums of
            squares begin anew with every window) or "sgd".
        state_rate: Its learning rate, on the gradient of a row's own loss.
        multiplier_form: "textbook" or "code", see above.
        multiplier_rate: None for 1 with "textbook" and 0.1 with "code".
        multipliers_from: Epochs of `fit` during which u stays 0 at first.

    Metrics: `loss` and the compiled metrics are those of the window run in
    order, before it is learnt from, as `evaluate` gives them
    (`sequential_loss` is the same loss). Means over the parameter steps:
    `block_loss`, of the blocks started from their targets, and
    `constraint_violation`, the mean of ||f(h_b) - h_(b+1)||.

    Raises:
        ValueError: An argument is out of its range, or without effect in the
            scheme; on `compile`, the state has integers, and `start` is not
            "forward", or there is a BatchNormalization; in training, layers
            add losses of their own.

    Reference:
        Wiseman et al., 2017. Training language models using
        target-propagation. arXiv:1702.04770.

    Example:

    >>> network = keras.Sequential([
    ...     keras.Input((None, 3)),
    ...     keras.layers.GRU(4, return_sequences=True),
    ...     keras.layers.Dense(1),
    ... ])
    >>> model = ksg.SequenceModel.from_model(network)
    >>> method = ksg.methods.TargetPropagation(5, scheme="admm")
    >>> model.compile("sgd", "mse", method=method)
    >>> x, y = np.ones((2, 10, 3)), np.zeros((2, 10, 1))
    >>> history = model.fit(x, y, verbose=0)
    >>> sorted(history.history)
    ['block_loss', 'constraint_violation', 'loss', 'sequential_loss']
    """

    random = False
    cuts_targets = False
    length = property(lambda self: self.block)

    def __init__(
        self,
        block: int,
        scheme: Literal["penalty", "lagrangian", "admm"] = "penalty",
        penalty: float = 1.0,
        parameter_steps: int = 5,
        state_steps: int | None = None,
        rounds: int | None = None,
        start: Literal["forward", "parallel", "zero"] = "forward",
        state_optimizer: Literal["adagrad", "sgd"] = "adagrad",
        state_rate: float = 0.01,
        multiplier_form: Literal["textbook", "code"] = "textbook",
        multiplier_rate: float | None = None,
        multipliers_from: int = 0,
    ) -> None:
        count, number = arguments.positive_integer, arguments.number
        self.block = count(block, "block")
        self.scheme = scheme
        self.penalty = number(penalty, "penalty", above=0)
        self.parameter_steps = count(parameter_steps, "parameter_steps")
        self.state_steps, self.rounds = state_steps, rounds
        self.start = start
        self.state_optimizer = state_optimizer
        self.state_rate = number(state_rate, "state_rate", above=0)
        self.multiplier_form = multiplier_form
        self.multiplier_rate = multiplier_rate
        self.multipliers_from = multipliers_from
        settings.refuse_unknown(self.get_config())
        if state_steps is not None:
            count(state_steps, "state_steps")
        if rounds is not None:
            count(rounds, "rounds")
        if multiplier_rate is not None:
            number(multiplier_rate, "multiplier_rate", above=0)
        arguments.integer(multipliers_from, "multipliers_from", 0)
        settings.refuse_without_effect(self.get_config())

    # --- what is kept -----------------------------------------------------

    def check(self, model):
        super().check(model)
        norming.refuse(
            norming.everywhere(model),
            "TargetPropagation runs blocks side by side, and again and again, "
            "whose states would be normed together.",
            "Train by another method",
        )

    def build(self, model):
        kinds = [kind for _, kind in model.state_spec()]
        if self.start != "forward" and not all(
            tf.as_dtype(kind).is_floating for kind in kinds
        ):
            raise ValueError(
                f"start={self.start!r} begins blocks from zeros, which says "
                "nothing of a state of integers. Expected floating states "
                f'alone, received {kinds}. Set start="forward".'
            )
        parts = model.method_state.parts
        parts["violation"] = keras.metrics.Mean("constraint_violation")
        parts["blocks"] = keras.metrics.Mean("block_loss")
        parts["sequential"] = keras.metrics.Mean("sequential_loss")
        if self.multipliers_from:
            parts["epochs"] = multipliers.Epochs()

    def callbacks(self):
        return [multipliers.CountEpochs()] if self.multipliers_from else []

    # --- the schemes ------------------------------------------------------

    def _start(self, window):
        """(`Lagrangian`, its first memory, pass through the window in order).

        The last is (loss, outputs, state after).
        """
        blocks = Blocks(window, self.block)
        if self.start == "forward":
            in_order, inner = run_in_order(blocks)
        else:
            with window.draws_put_back():  # a pass for the logs alone
                in_order, _ = run_in_order(blocks)
            inner = run_from_zeros(blocks, self.start == "parallel")
        lagrangian = Lagrangian(
            blocks, inner, self.penalty, self.state_optimizer, self.state_rate
        )
        return lagrangian, lagrangian.start(), in_order

    def _awake(self, window):
        """Whether multipliers move in this epoch."""
        if not self.multipliers_from:
            return True
        done = window.method_state.parts["epochs"].done
        return tf.convert_to_tensor(done) >= self.multipliers_from

    def _follow(self, lagrangian, memory, steps, learn, carry):
        """Goes through a window's rounds.

        Args:
            lagrangian: The `Lagrangian`.
            memory: Its first memory.
            steps: Parameter steps of a round.
            learn: Function (pulled, gaps, carry) -> carry of such a step.
            carry: Nested tensors.

        Returns:
            `carry` after the last step.
        """
        bound, apart = bool(memory["targets"]), self.scheme == "admm"

        def move_targets(_, memory):
            pulled, _ = lagrangian.pull(memory, parameters=False)
            return lagrangian.move(memory, pulled.d_targets)

        def step(_, loop):
            memory, carry = loop
            pulled, gaps = lagrangian.pull(memory, targets=not apart)
            carry = learn(pulled, gaps, carry)
            if not apart:
                memory = lagrangian.move(memory, pulled.d_targets)
            return memory, carry

        def go_round(_, loop):
            memory, carry = loop
            if apart and bound:
                count = self.state_steps or 10
                memory = pieces.repeat(count, move_targets, memory)
            memory, carry = pieces.repeat(steps, step, (memory, carry))
            if self.scheme != "penalty" and bound:
                memory = multipliers.move(
                    lagrangian,
                    memory,
                    self.multiplier_form,
                    self.multiplier_rate,
                    self._awake(lagrangian.window),
                )
            return memory, carry

        rounds = self.rounds or (1 if self.scheme == "penalty" else 2)
        return pieces.repeat(rounds, go_round, (memory, carry))[1]

    # --- the seam ---------------------------------------------------------

    def train(self, window):
        lagrangian, memory, in_order = self._start(window)
        learner, parts = window.learner, window.method_state.parts
        loss, outputs, end = in_order
        learner.record_window(outputs, loss)
        rows = tf.cast(window.batch_size, "float32")
        parts["sequential"].update_state(
            learner.shown(loss), sample_weight=rows
        )
        restore = learner.keep_output_losses()

        def learn(pulled, gaps, _):
            learner.apply(pulled.gradients)
            parts["blocks"].update_state(learner.shown(pulled.loss))
            violation, count = lagrangian.violation(gaps)
            parts["violation"].update_state(violation, sample_weight=count)
            return keras.tree.map_structure(tf.stop_gradient, pulled.end)

        last = self._follow(
            lagrangian, memory, self.parameter_steps, learn, window.state
        )
        restore()  # the losses of single outputs are those in order
        return end if self.start == "forward" else last

    def estimate(self, window, seed=None):
        lagrangian, memory, in_order = self._start(window)
        loss, *_ = in_order
        # At the same targets and parameters all updates of "admm" are one.
        steps = 1 if self.scheme == "admm" else self.parameter_steps

        def learn(pulled, gaps, found):
            sums, count = found
            return nested.add(sums, pulled.gradients), count + 1.0

        none = [tf.zeros_like(v) for v in window.variables], tf.zeros(())
        sums, count = self._follow(lagrangian, memory, steps, learn, none)
        return loss, [total / tf.cast(count, total.dtype) for total in sums]

    def get_config(self):
        return {
            "block": self.block,
            "scheme": self.scheme,
            "penalty": self.penalty,
            "parameter_steps": self.parameter_steps,
            "state_steps": self.state_steps,
            "rounds": self.rounds,
            "start": self.start,
            "state_optimizer": self.state_optimizer,
            "state_rate": self.state_rate,
            "multiplier_form": self.multiplier_form,
            "multiplier_rate": self.multiplier_rate,
            "multipliers_from": self.multipliers_from,
        }
