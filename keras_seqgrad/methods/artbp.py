"""Anticipated reweighted truncation: random cuts without bias.

The boundary gradient is cut at random steps; every link that is kept is worth
1 / (1 - c), which makes up for the cuts in the mean.
"""

from typing import Any, Literal

import tensorflow as tf

from keras_seqgrad.methods.base import WindowMethod, serializable
from keras_seqgrad.state.method_state import Draws
from keras_seqgrad.tensors import arguments, replicas
from keras_seqgrad.truncation import Random
from keras_seqgrad.window import added, checkpoints
from keras_seqgrad.window.behind import pull_normed
from keras_seqgrad.window.ends import before_ends
from keras_seqgrad.window.loops import each_piece_recorded
from keras_seqgrad.window.pullback import pull
from keras_seqgrad.window.window import Window

CUTS = ("drawn", "window")
UPDATES = ("window", "cut")


def piece_bounds(gates):
    """Where the pieces between cuts start, and the end of the last."""
    cuts = tf.where(gates == 0.0)[:, 0]
    ends = [[0], tf.cast(cuts, "int32"), [tf.shape(gates)[0]]]
    return tf.concat(ends, axis=0)


@serializable
class ARTBP(WindowMethod):
    """Anticipated reweighted truncated back-propagation: unbiased.

    Use it where dependencies may reach further than any truncation length you
    can afford and a truncated gradient points the wrong way. Not the choice
    where `TruncatedBPTT` already sees far enough: it pays for the missing bias
    with variance.

    Rule: after every step the link is cut with probability c of
    `ksg.truncation.Random` (a = 1, 2, … steps since the last cut),

        delta_t = dl_t/ds_t                                   if cut
        delta_t = dl_t/ds_t + delta_{t+1} ds_{t+1}/ds_t / (1 - c_a)   if not

    so that the expected gradient is that of `BPTT`. All layers share the cuts.

    Gradient: unbiased for the window's loss. Time and memory: those of `BPTT`
    on the same window, with `checkpoint_every` too; the gates are drawn once
    and serve a segment whenever it is run. On an endless stream a window
    border would be a forced cut, and a bias; `cuts="window"` together with
    `ksg.data.stream(tokens, batch_size, ksg.truncation.Random(...))` makes
    the window borders themselves the drawn cuts.

    Args:
        mean_length: Mean steps from one cut to the next, more than 1.
        alpha: Tail exponent of the law, more than 2; None for a constant
            probability of a cut.
        per_row: Draw cuts for every row of the batch by itself; otherwise one
            draw serves the batch.
        cuts: "drawn" in the compiled step, the window being a whole sequence;
            "window" when each window ends where the data pipeline drew a cut.
        seed: Integer seed of the draws; None for a random one.
        update: "window" for one update a window, or "cut" for one at every
            cut, along the gradient of the piece's summed loss over
            batch * mean_length, so that a step counts the same in pieces of
            any length. Pieces of any length are no XLA program: "cut" needs
            jit_compile=False. With cuts="window" a window is a piece, so
            every cut has its update anyway.
        checkpoint_every: Steps between stored states; "auto" for about the
            square root of the number of steps; None to store everything. As
            for `BPTT`.
        hazard: Largest probability of a cut at one step, for pieces of few
            lengths (see `ksg.truncation.Random`); None for any length.

    Raises:
        ValueError: An argument is out of its range, or with update="cut" the
            model is compiled with XLA, has targets that are not at every
            step, there are several replicas and run_eagerly=False, or
            `checkpoint_every` is given; with checkpoints, a BatchNormalization
            that norms several steps cannot run on the window as a whole.

    Reference:
        Tallec and Ollivier, 2017. Unbiasing truncated backpropagation through
        time. arXiv:1705.08209.

    Example:

    >>> ksg.methods.ARTBP(50, alpha=None, seed=1).law.alpha is None
    True
    """

    def __init__(
        self,
        mean_length: float,
        alpha: float | None = 4.0,
        per_row: bool = False,
        cuts: Literal["drawn", "window"] = "drawn",
        seed: int | None = None,
        update: Literal["window", "cut"] = "window",
        checkpoint_every: int | Literal["auto"] | None = None,
        hazard: float | None = None,
    ) -> None:
        arguments.choice(cuts, "cuts", CUTS)
        arguments.choice(update, "update", UPDATES)
        per_row = arguments.flag(per_row, "per_row")
        if cuts == "window" and per_row:
            raise ValueError(
                'cuts="window" takes the cuts from the windows, which all '
                "rows share. Received: per_row=True. Set per_row=False."
            )
        if update == "cut" and (per_row or cuts == "window"):
            raise ValueError(
                'update="cut" needs cuts that are drawn in the step and that '
                f"all rows share. Received: per_row={per_row}, cuts={cuts!r}. "
                'Set per_row=False and cuts="drawn".'
            )
        if update == "cut" and checkpoint_every is not None:
            raise ValueError(
                'update="cut" stores one piece between two cuts at a time; '
                "there is no way back over the window to store states for. "
                f"Received: checkpoint_every={checkpoint_every!r}. Set "
                'checkpoint_every=None, or update="window".'
            )
        self.checkpoint_every = checkpoints.checked(checkpoint_every)
        self.law = Random(mean_length, alpha, hazard)
        self.per_row = per_row
        self.cuts = cuts
        self.seed = arguments.seed(seed, most=arguments.LARGEST_SEED)
        self.update = update

    gates_inside = True
    takes_head = property(lambda self: self.update == "window")
    takes_front = takes_head
    cuts_targets = property(lambda self: self.update == "cut")
    compiles = property(lambda self: self.update == "window")

    def check(self, model):
        super().check(model)
        checkpoints.check(model, self.checkpoint_every)

    def build(self, model):
        if self.update == "cut" and model.jit_compile:
            raise ValueError(
                'update="cut" runs pieces of any length, which XLA cannot '
                "compile. Set jit_compile=False, or draw the cuts in the data "
                'pipeline (ksg.data.stream) and set cuts="window".'
            )
        traced = not model.run_eagerly
        if self.update == "cut" and traced and replicas.count() > 1:
            raise ValueError(
                'update="cut" moves the parameters in a loop with as many '
                "turns as cuts are drawn; TensorFlow lets replicas add up "
                "gradients in no loop of a graph, and a loop that is unrolled "
                "needs its number of turns when it is traced. Expected one "
                f"replica, or run_eagerly=True, received {replicas.count()} "
                'replicas. Set update="window", or draw the cuts in the data '
                'pipeline (ksg.data.stream) and set cuts="window": then each '
                "window is a piece and has its update."
            )
        model.method_state.parts["draws"] = Draws(self.seed)

    def gates(self, window: Window, seed: Any = None) -> Any:
        """The gates of a window; without `seed` the next ones drawn."""
        if self.cuts == "window":
            return self.law.link_weights(window.steps)
        pair = (
            window.method_state.draws.next()
            if seed is None
            else tf.stack([seed, 0])
        )
        rows = window.batch_size * replicas.count() if self.per_row else None
        gates = self.law.gates(window.steps, rows, pair)
        if self.per_row:
            gates = replicas.share(gates, 0)
        # Padding is nothing that a cut could shorten.
        return before_ends(window, gates) if window.one_target else gates

    def pull(self, window, seed=None):
        return pull_normed(
            window,
            lambda part: checkpoints.pull_checkpointed(
                part, self.checkpoint_every, self.gates(part, seed)
            ),
        )

    def train(self, window):
        if self.update == "window":
            return super().train(window)
        if window.one_target or window.mixed_targets:
            raise ValueError(
                'update="cut" needs targets at every step: a piece without '
                'one has no loss. Set update="window".'
            )
        bounds = piece_bounds(self.gates(window))
        adds = added.is_added(window)

        def step(segment, state):
            weights = self.law.link_weights(segment.length)
            share = tf.cast(segment.length, "float32") / self.law.mean_length

            def of_piece(segment, outputs):
                loss = window.loss(segment, outputs)
                if adds:  # goes with the piece, however long it is
                    more = (1.0 / share - 1.0) * added.by_layers(window)
                    loss += tf.cast(more, loss.dtype)
                return loss

            loss, gradients, outputs, state = pull(
                window, segment, state, weights, of_piece
            )
            window.learner.apply(
                [g * tf.cast(share, g.dtype) for g in gradients]
            )
            return outputs, state, loss

        return each_piece_recorded(window, bounds, step, window.state)

    def get_config(self):
        return {
            **self.law.get_config(),
            "per_row": self.per_row,
            "cuts": self.cuts,
            "seed": self.seed,
            "update": self.update,
            "checkpoint_every": self.checkpoint_every,
        }
